package report

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/bench/results"
)

// All that a report has is in both outputs.
func TestNothingIsLost(t *testing.T) {
	r := madeUp()
	var page bytes.Buffer
	if err := WriteHTML(&page, r); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := WriteResults(dir, r); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer("\\", "", "&#43;", "+", "&#39;", "'")
	want := []string{"AMD EPYC 7B13", "abc1234", "6.18.5", "2026-11-21", "within noise", "0.96", "0.86–1.04"}
	for _, c := range r.Cases {
		want = append(want, c.Measure, c.Unit)
		for _, x := range c.Results {
			want = append(want, x.Setup, threeDigits(x.Median))
		}
		for _, x := range c.Ratios {
			want = append(want, targetOf(c, x).figures())
		}
	}
	for _, c := range r.Curves {
		want = append(want, c.Name, c.X, c.Y, c.Note)
	}
	for _, p := range r.Parts {
		want = append(want, p.Name, threeDigits(p.Gbps), threeDigits(p.Nanos))
	}
	for _, s := range r.Skipped {
		want = append(want, s.What, s.Why)
	}
	for name, text := range map[string]string{"report.html": plain.Replace(page.String()), "RESULTS.md": plain.Replace(string(md))} {
		for _, setup := range want {
			if !strings.Contains(text, strings.TrimSuffix(setup, ".")) {
				t.Errorf("%s lacks %q", name, setup)
			}
		}
	}
	for _, c := range charts(r) {
		link := "](plots/" + c.name + ".svg)"
		if _, err := os.Stat(filepath.Join(dir, "plots", c.name+".svg")); err != nil || !strings.Contains(string(md), link) {
			t.Errorf("%s: %v, or no link %s", c.name, err, link)
		}
	}
	if got, want := strings.Count(page.String(), "<svg "), len(charts(r)); got != want {
		t.Errorf("%d pictures in the page, want %d", got, want)
	}
}

// The title names a plan that is not the full one, and a target that was not measured is listed with the reason.
func TestPartialResults(t *testing.T) {
	r := madeUp()
	r.Plan, r.Only = "quick", []string{"TCP, 1 flow"}
	r.Skipped = append(r.Skipped, results.Skip{What: "two hosts: Open vSwitch", Why: "needs ovs-vswitchd\nand more"})
	for i := range r.Cases {
		if r.Cases[i].Rung == results.TwoHosts {
			r.Cases[i].Ratios = slices.DeleteFunc(r.Cases[i].Ratios, func(x results.Ratio) bool { return x.Against == "Open vSwitch" })
		}
	}
	md := strings.ReplaceAll(string(page(r, sections(r))), "\\", "")
	for _, want := range []string{"# Results of the bench: a quick run, only \"TCP, 1 flow\"\n",
		"| two hosts | TCP, 1 flow | Open vSwitch | ≥ 9 | ≥ 13 | – | – | not measured: needs ovs-vswitchd |",
		"| docker, one host | docker run to first ping | Docker bridge | ≤ 1.2 | ≤ 1.1 | – | – | not measured: left out by --only |"} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md[:min(len(md), 6000)])
		}
	}
	if md := string(page(madeUp(), nil)); !strings.HasPrefix(md, "# Results of the bench\n") {
		t.Errorf("a full run begins with %.60q", md)
	}
}

// The page loads nothing.
func TestHTMLStandsAlone(t *testing.T) {
	var page bytes.Buffer
	if err := WriteHTML(&page, madeUp()); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`xmlns="http://www.w3.org/2000/svg"`, "", `xmlns:xlink="http://www.w3.org/1999/xlink"`, "").Replace(page.String())
	for _, no := range []string{"http:", "https:", "src=", "<script", "<link", "url(", "@import", "<?xml"} {
		if strings.Contains(text, no) {
			t.Errorf("the page holds %q", no)
		}
	}
}

func TestSickReports(t *testing.T) {
	for name, r := range map[string]*results.Report{"empty": {}, "sick": sick()} {
		t.Run(name, func(t *testing.T) {
			var page bytes.Buffer
			if err := WriteHTML(&page, r); err != nil {
				t.Fatal(err)
			}
			for _, no := range []string{"<b>", "\x00", "\x1b", "NaN", "ZgotmplZ"} {
				if strings.Contains(page.String(), no) {
					t.Errorf("the page holds %q", no)
				}
			}
			if opened, closed := strings.Count(page.String(), "<svg "), strings.Count(page.String(), "</svg>"); opened != closed {
				t.Errorf("%d pictures begin and %d end", opened, closed)
			}
			dir := t.TempDir()
			if err := WriteResults(dir, r); err != nil {
				t.Fatal(err)
			}
			md, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
			if err != nil {
				t.Fatal(err)
			}
			columns := 0
			for _, line := range strings.Split(string(md), "\n") {
				bare := regexp.MustCompile(`\\.`).ReplaceAllString(line, "")
				switch n := strings.Count(bare, "|"); {
				case n == 0:
					columns = 0
				case columns == 0:
					columns = n
				case columns != n:
					t.Errorf("%d cell borders in a table of %d: %s", n, columns, line)
				}
				if strings.ContainsAny(bare, "<>`\x00\x1b") && !strings.HasPrefix(bare, "```") && !strings.HasPrefix(bare, "Written by `") {
					t.Errorf("not escaped: %q", line)
				}
			}
		})
	}
}

// Plots of an earlier run are removed, other files stay, and a failed run leaves the old page.
func TestWriteResultsAgain(t *testing.T) {
	dir := t.TempDir()
	if err := WriteResults(dir, madeUp()); err != nil {
		t.Fatal(err)
	}
	for _, mine := range []string{"mine.txt", "mine.svg"} {
		if err := os.WriteFile(filepath.Join(dir, "plots", mine), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := madeUp()
	r.Cases = r.Cases[:1]
	if err := WriteResults(dir, r); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "plots", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(charts(r))+2 {
		t.Errorf("plots has %d files, want %d and the two others", len(files), len(charts(r)))
	}
	old, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "plots", charts(madeUp())[3].name+".svg") // a directory is not replaced by a file
	if err := os.Mkdir(bad, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteResults(dir, madeUp()); err == nil {
		t.Error("wrote a file over a directory")
	}
	now, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil || !bytes.Equal(old, now) {
		t.Errorf("a run that failed changed RESULTS.md (%v)", err)
	}
}

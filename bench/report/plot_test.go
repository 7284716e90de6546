package report

import (
	"encoding/xml"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/bench/results"
)

func charts(r *results.Report) []chart {
	var all []chart
	for _, s := range sections(r) {
		all = append(all, s.charts...)
	}
	return all
}

func TestChartsAreSVG(t *testing.T) {
	for name, make := range map[string]func() *results.Report{"made up": madeUp, "sick": sick, "empty": func() *results.Report { return new(results.Report) }} {
		t.Run(name, func(t *testing.T) {
			again := charts(make())
			seen := map[string]bool{}
			for i, c := range charts(make()) {
				svg := c.svg()
				for d := xml.NewDecoder(strings.NewReader(svg)); ; {
					if _, err := d.Token(); err == io.EOF {
						break
					} else if err != nil {
						t.Fatalf("%s: %v", c.name, err)
					}
				}
				if bad := regexp.MustCompile(`="[^"]*(NaN|Inf)`).FindString(svg); bad != "" && !strings.Contains(bad, "aria-label") {
					t.Errorf("%s holds %q", c.name, bad)
				}
				if svg != again[i].svg() {
					t.Errorf("%s: the same report gave other bytes", c.name)
				}
				if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(c.name) || seen[c.name] {
					t.Errorf("%q is no valid file name, or not unique", c.name)
				}
				seen[c.name] = true
			}
		})
	}
}

func TestWritePlotsAsPNG(t *testing.T) {
	dir, r := t.TempDir(), madeUp()
	r.Cases = r.Cases[:1]
	if err := WritePlots(dir, "png", r); err != nil {
		t.Fatal(err)
	}
	for _, c := range charts(r) {
		f, err := os.Open(filepath.Join(dir, c.name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := m.Bounds().Dx(), int(2*c.width); got != want {
			t.Errorf("%s: %d px wide, want %d", c.name, got, want)
		}
	}
	if err := WritePlots(dir, "gif", r); err == nil {
		t.Error("wrote a gif")
	}
}

// Each label is inside of its chart and covers no other one.
func TestLabelsHaveRoom(t *testing.T) {
	type label struct {
		text                     string
		left, right, top, bottom float64
	}
	words := regexp.MustCompile(`(?s)<text x="([^"]+)" y="([^"]+)"[^>]*font-weight:(\w+);[^>]*font-size:([0-9.]+)px[^>]*>([^<]*)<`)
	for _, c := range charts(madeUp()) {
		var labels []label
		for _, m := range words.FindAllStringSubmatch(c.svg(), -1) {
			n := func(i int) float64 {
				v, err := strconv.ParseFloat(m[i], 64)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			s := style{size: n(4), bold: m[3] == "bold"}
			y := c.height + n(2)
			l := label{m[5], n(1), n(1) + s.width(m[5]), y - .7*s.size, y + .1*s.size}
			if l.left < 0 || l.right > c.width || l.top < 0 || l.bottom > c.height {
				t.Errorf("%s: %q leaves the chart: %+v", c.name, l.text, l)
			}
			for _, o := range labels {
				if l.left < o.right && o.left < l.right && l.top < o.bottom && o.top < l.bottom {
					t.Errorf("%s: %q covers %q", c.name, l.text, o.text)
				}
			}
			labels = append(labels, l)
		}
		if len(labels) < 5 {
			t.Errorf("%s: %d labels", c.name, len(labels))
		}
	}
}

func TestFigures(t *testing.T) {
	tests := []struct {
		v                 float64
		threeDigits, tick string
	}{
		{0, "0", "0"}, {0.0213, "0.021", "0.021"}, {0.5, "0.500", "0.5"}, {3.14159, "3.14", "3.14"}, {9.999, "10.0", "10"}, {12.34, "12.3", "12.3"},
		{99.96, "100", "100"}, {1178.4, "1178", "1178"}, {9999.4, "9999", "9999"}, {10000, "10.0 k", "10 k"}, {412345, "412 k", "412 k"},
		{999600, "1.00 M", "1 M"}, {1.25e6, "1.25 M", "1.25 M"}, {2e9, "2.00 G", "2 G"}, {-12.34, "-12.3", "-12.3"}, {2e-5, "2e-05", "2e-05"},
	}
	for _, x := range tests {
		if got := threeDigits(x.v); got != x.threeDigits {
			t.Errorf("threeDigits(%g) = %q, want %q", x.v, got, x.threeDigits)
		}
		if got := trimmed(x.v); got != x.tick {
			t.Errorf("round(%g) = %q, want %q", x.v, got, x.tick)
		}
	}
}

package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tapestry-net/tapestry/bench/results"
)

// sample is a report that has all sections.
func sample() *results.Report {
	result := func(setup string, v float64) results.Sample {
		return results.Sample{Setup: setup, Values: []float64{v}, Median: v}
	}
	ratio := func(against string, low, median, high, coverage, bound float64, verdict string) results.Ratio {
		return results.Ratio{Against: against, Values: slices.Repeat([]float64{median}, 12), Low: low, Median: median, High: high, Coverage: coverage, Bound: bound, Aim: 1, Verdict: verdict}
	}
	return &results.Report{
		Machine: results.Machine{Cores: 2, CPU: "AMD EPYC", MemoryMB: 25200, Load: "0.10", Kernel: "6.18.2", TCP: "bbr", Docker: "28.1.1",
			Version: "v0.1.0", Go: "go1.26.8", Arch: "amd64"},
		Plan: "full", Seconds: 812,
		Cases: []results.Case{
			{Rung: results.OneHost, Measure: results.TCPOneFlow, Unit: "Gb/s",
				Results: []results.Sample{result(results.Tapestry, 11.2), result("kernel bridge", 12.4), result("VDE", 0.95)},
				Ratios:  []results.Ratio{ratio("kernel bridge", 0.86, 0.9, 0.95, 0.961, 0.85, results.OK), ratio("VDE", 11, 11.8, 12, 0.75, 0, "")}},
			{Rung: results.TwoHosts, Measure: results.EchoP50, Unit: "µs", Lower: true,
				Results: []results.Sample{result(results.Tapestry, 65), result("kernel VXLAN", 40)},
				Ratios:  []results.Ratio{ratio("kernel VXLAN", 1.35, 1.6, 1.7, 0.961, 1.4, results.WithinNoise)}},
			{Rung: results.TwoHosts, Measure: results.UDPSmall, Unit: "packets/s",
				Results: []results.Sample{result(results.Tapestry, 40123), result("kernel VXLAN", 80246)},
				Ratios:  []results.Ratio{ratio("kernel VXLAN", 0.45, 0.5, 0.55, 0.961, 0.8, results.Below)}},
			{Rung: results.Alone, Measure: results.RSSIdle, Unit: "MB", Lower: true, Results: []results.Sample{result(results.Tapestry, 70)}, Bound: 64, Aim: 40, Verdict: results.Above},
		},
		Parts:   []results.Part{{Name: "memory copy", Gbps: 81.5, Nanos: 2.5, Allocs: 0.0001}},
		Curves:  []results.Curve{{Name: "start-up", X: "endpoints", Y: "ms", Points: []results.Point{{X: 2, Y: 20}, {X: 1000, Y: 1404}}, Note: "one after the other"}},
		Skipped: []results.Skip{{What: "two hosts: Open vSwitch", Why: "needs ovs-vswitchd (Debian: apt-get install openvswitch-switch)\nand more"}},
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := WriteTable(&b, sample()); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"2 cores (AMD EPYC), 25 GB, load 0.10, Linux 6.18.2, TCP bbr, Docker 28.1.1\n",
		"tapestry v0.1.0, go1.26.8 amd64; plan full, 13:32\n",
		`
ONE HOST
MEASURE      UNIT  TAPESTRY  AGAINST        THEIRS  RATIO  INTERVAL             BOUND   AIM  VERDICT
TCP, 1 flow  Gb/s  11.2      kernel bridge  12.4    0.90   0.86..0.95           ≥ 0.85  1    ok
                             VDE            0.95    11.8   11.0..12.0 (75 %)            1
`, `
TWO HOSTS
MEASURE       UNIT       TAPESTRY  AGAINST       THEIRS  RATIO  INTERVAL    BOUND  AIM  VERDICT
TCP echo p50  µs         65.0      kernel VXLAN  40.0    1.60   1.35..1.70  ≤ 1.4  1    within noise
UDP 64 B      packets/s  40123     kernel VXLAN  80246   0.50   0.45..0.55  ≥ 0.8  1    below
`, `
CURVE     FROM                      TO                            FLAT
start-up  20.0 ms at 2 endpoints    1404 ms at 1000 endpoints     no
`, "start-up: one after the other\n", "two hosts: Open vSwitch: needs ovs-vswitchd (Debian: apt-get install openvswitch-switch)\n",
	} {
		if !strings.Contains(squeeze(got), squeeze(want)) {
			t.Errorf("no\n%s\nin\n%s", want, got)
		}
	}
	for line := range strings.Lines(got) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 120 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// squeeze shortens runs of blanks to two: the width of a column does not matter.
func squeeze(s string) string {
	for strings.Contains(s, "   ") {
		s = strings.ReplaceAll(s, "   ", "  ")
	}
	return s
}

func TestShow(t *testing.T) {
	for v, want := range map[float64]string{0: "", 0.0012: "0.0012", 0.05: "0.050", 0.949: "0.95", 9.756: "9.76", 12.34: "12.3", 104798.4: "104798"} {
		if got := results.Format(v); got != want {
			t.Errorf("Format(%v) = %q, want %q", v, got, want)
		}
	}
}

// A report of several runs has the figures of each.
func TestMergedRuns(t *testing.T) {
	run := func(minute int, median float64) *results.Report {
		r := sample()
		r.Began, r.Seconds = time.Date(2026, 11, 21, 14, minute, 0, 0, time.UTC), 60
		x := &r.Cases[0].Ratios[0]
		x.Values, x.Median = slices.Repeat([]float64{median}, 3), median
		return r
	}
	m, err := results.Merge([]*results.Report{run(40, 0.7), run(0, 0.9), run(20, 0.9)})
	if err != nil {
		t.Fatal(err)
	}
	md := strings.ReplaceAll(string(page(m, sections(m))), "\\", "")
	for _, want := range []string{"# Results of the bench, three runs\n", "| 0.90, 0.90, 0.70 |", "| run 3 | 2026-11-21 14:40 UTC, took 1:00, load before 0.10 |"} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	var html strings.Builder
	if err := WriteHTML(&html, m); err != nil || !strings.Contains(html.String(), "each run 0.90, 0.90, 0.70") || !strings.Contains(html.String(), "three runs") {
		t.Errorf("the page lacks the runs (%v)", err)
	}
}

package bench

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// sample is a report with something of everything.
func sample() *Report {
	result := func(way string, v float64) Result { return Result{Way: way, Values: []float64{v}, Median: v} }
	ratio := func(against string, low, median, high, coverage, bound float64, verdict string) Ratio {
		return Ratio{Against: against, Values: slices.Repeat([]float64{median}, 12), Low: low, Median: median, High: high, Coverage: coverage, Bound: bound, Aim: 1, Verdict: verdict}
	}
	return &Report{
		Machine: Machine{Cores: 2, CPU: "AMD EPYC", MemoryMB: 25200, Load: "0.10", Kernel: "6.18.2", TCP: "bbr", Docker: "28.1.1",
			Version: "v0.1.0", Go: "go1.26.8", Arch: "amd64"},
		Plan: "full", Seconds: 812,
		Cases: []Case{
			{Rung: oneHost, Measure: tcpOne, Unit: "Gb/s",
				Results: []Result{result(ourWay, 11.2), result("kernel bridge", 12.4), result("VDE", 0.95)},
				Ratios:  []Ratio{ratio("kernel bridge", 0.86, 0.9, 0.95, 0.961, 0.85, fine), ratio("VDE", 11, 11.8, 12, 0.75, 0, "")}},
			{Rung: twoHosts, Measure: echoP50, Unit: "µs", Lower: true,
				Results: []Result{result(ourWay, 65), result("kernel VXLAN", 40)},
				Ratios:  []Ratio{ratio("kernel VXLAN", 1.35, 1.6, 1.7, 0.961, 1.4, noisy)}},
			{Rung: twoHosts, Measure: udpSmall, Unit: "packets/s",
				Results: []Result{result(ourWay, 40123), result("kernel VXLAN", 80246)},
				Ratios:  []Ratio{ratio("kernel VXLAN", 0.45, 0.5, 0.55, 0.961, 0.8, below)}},
			{Rung: alone, Measure: rssIdle, Unit: "MB", Lower: true, Results: []Result{result(ourWay, 70)}, Bound: 64, Aim: 40, Verdict: above},
		},
		Parts:   []Part{{Name: "memory copy", Gbps: 81.5, Nanos: 2.5, Allocs: 0.0001}},
		Curves:  []Curve{{Name: "start-up", X: "endpoints", Y: "ms", Points: []traffic.Point{{X: 2, Y: 20}, {X: 1000, Y: 1404}}, Note: "one after the other"}},
		Skipped: []Skip{{"two hosts: Open vSwitch", "needs ovs-vswitchd (Debian: apt-get install openvswitch-switch)\nand more"}},
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := sample().Table(&b); err != nil {
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

// squeeze leaves one blank where there were two or more: how wide a column is does not matter.
func squeeze(s string) string {
	for strings.Contains(s, "   ") {
		s = strings.ReplaceAll(s, "   ", "  ")
	}
	return s
}

func TestVerdict(t *testing.T) {
	r := sample()
	err := r.Verdict()
	if err == nil {
		t.Fatal("two misses pass")
	}
	want := "two hosts: UDP 64 B: 0.50 of kernel VXLAN, 0.45..0.55 with 96 %, want ≥ 0.8\n" +
		"alone: RSS, 1,000 idle endpoints: 70.0 MB, want ≤ 64"
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	r.Cases = r.Cases[:2] // one ok, one within noise
	if err := r.Verdict(); err != nil {
		t.Errorf("noise fails the check: %v", err)
	}
	r.wanted = []bound{boundOf(oneHost, tcpOne, "kernel bridge"), boundOf(twoHosts, udpSmall, "kernel VXLAN")}
	if err := r.Verdict(); err == nil || err.Error() != "two hosts: UDP 64 B: not measured against kernel VXLAN" {
		t.Errorf("what was not measured: %v", err)
	}
	// A daemon that dies in the midst leaves rounds that say nothing.
	r.wanted, r.plan = r.wanted[:1], plan{rounds: 12, least: 10}
	r.Cases[0].Ratios[0].Values = []float64{0.9, 0.9, 0.9}
	r.Cases[0].Ratios[0].Failed = 1
	if err := r.Verdict(); err == nil || err.Error() != "one host: TCP, 1 flow: only 4 of 12 pairs with kernel bridge" {
		t.Errorf("too few rounds: %v", err)
	}
	if got := r.failing(); !slices.Equal(got, r.wanted) {
		t.Errorf("failing are %v", got)
	}
	r.Cases[0].Ratios[0].Values = make([]float64, 9)
	if err := r.Verdict(); err != nil {
		t.Errorf("as many rounds as the plan wants: %v", err)
	}
	r.Cases[0].Ratios[0].Failed = 2
	if err := r.Verdict(); err == nil || err.Error() != "one host: TCP, 1 flow: tapestry failed in 2 of 11 rounds, kernel bridge did not" || len(r.failing()) > 0 {
		t.Errorf("a daemon that dies in the end: %v, to be measured again %v", err, r.failing())
	}
	if (&Report{}).Verdict() == nil {
		t.Error("a report of nothing passes")
	}
}

func TestShow(t *testing.T) {
	for v, want := range map[float64]string{0: "", 0.0012: "0.0012", 0.05: "0.050", 0.949: "0.95", 9.756: "9.76", 12.34: "12.3", 104798.4: "104798"} {
		if got := show(v); got != want {
			t.Errorf("show(%v) = %q, want %q", v, got, want)
		}
	}
}

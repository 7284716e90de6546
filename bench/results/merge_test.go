package results

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// single is a run that began so many minutes after the first, with these ratios.
func single(minutes int, ratios ...float64) *Report {
	ones := slices.Repeat([]float64{1}, len(ratios))
	x := Ratio{Against: "kernel bridge", Values: ratios, Bound: 0.85, Aim: 1}
	x.evaluate(false)
	return &Report{Plan: "full", Began: time.Date(2026, 11, 21, 14, minutes, 0, 0, time.UTC), Seconds: 60, Machine: Machine{Kernel: "6.18", Load: "0.10"},
		Cases: []Case{
			{Rung: OneHost, Measure: TCPOneFlow, Unit: "Gb/s", Ratios: []Ratio{x}, Results: []Sample{
				{Setup: Tapestry, Values: ratios, Median: Median(ratios)}, {Setup: "kernel bridge", Values: ones, Median: 1}}},
			{Rung: Alone, Measure: RSSIdle, Unit: "MB", Lower: true, Bound: 64, Results: []Sample{
				{Setup: Tapestry, Values: []float64{60 + float64(minutes)}, Median: 60 + float64(minutes)}}},
		},
		Parts:   []Part{{Name: "memory copy", Gbps: float64(1 + minutes)}},
		Skipped: []Skip{{"one host: VDE", "needs vde_switch"}}}
}

func TestMerge(t *testing.T) {
	all := []*Report{single(40, 0.7, 0.7, 0.7), single(0, 0.9, 0.9, 0.9), single(20, 0.8, 0.9, 1)}
	m, err := Merge(all)
	if err != nil {
		t.Fatal(err)
	}
	x := m.Cases[0].Ratios[0]
	if x.Median != 0.9 || !slices.Equal(x.Runs, []float64{0.9, 0.9, 0.7}) || len(x.Values) != 9 || x.Low != 0.7 || x.High != 0.9 || x.Verdict != OK {
		t.Errorf("the ratio is %+v", x)
	}
	if r := m.Cases[0].Results; len(r) != 2 || len(r[0].Values) != 9 || r[0].Median != 0.9 || !slices.Equal(r[0].Runs, []float64{0.9, 0.9, 0.7}) {
		t.Errorf("the results are %+v", r)
	}
	if c := m.Cases[1]; c.Verdict != Above || c.Results[0].Median != 80 {
		t.Errorf("a figure without a comparison: %+v", c)
	}
	if len(m.Runs) != 3 || m.Runs[2].Began.Minute() != 40 || m.Parts[0].Gbps != 41 || len(m.Skipped) != 1 || m.Seconds != 180 {
		t.Errorf("the report is %+v", m)
	}
}

func TestMergeRefuses(t *testing.T) {
	other, quick := single(20, 1), single(20, 1)
	other.Machine.Kernel, quick.Plan = "6.1", "quick"
	for name, c := range map[string]struct {
		all  []*Report
		want string
	}{
		"one":           {[]*Report{single(0, 1)}, "want two reports or more"},
		"the same":      {[]*Report{single(0, 1), single(0, 1)}, "two reports are of one run, that of 2026-11-21 14:00:00 UTC"},
		"other plan":    {[]*Report{single(0, 1), quick}, `differ in their plan, "full" and "quick"`},
		"other machine": {[]*Report{single(0, 1), other}, `differ in their kernel, "6.18" and "6.1"`},
	} {
		if _, err := Merge(c.all); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestReadReport(t *testing.T) {
	m, err := Merge([]*Report{single(0, 1), single(20, 1)})
	if err != nil {
		t.Fatal(err)
	}
	merged, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	good, err := json.Marshal(single(0, 1))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{string(good): "", string(merged): "is merged already", "{}": "no plan", "[]": "is not what tapestry bench --json prints",
		`{"plan":"full","began":"2026-11-21T14:00:00Z","cases":[{"ratios":[{}],"results":[{}]}]}`: ""} {
		path := filepath.Join(t.TempDir(), "a.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Read(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40s: %v, want %q", text, err, want)
		}
		if err == nil { // no content may crash Merge
			again := *r
			again.Began = r.Began.Add(time.Hour)
			if _, err := Merge([]*Report{r, &again}); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none.json")); err == nil {
		t.Error("a file that is not there is read")
	}
}

package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   float64
	}{
		"one":             {[]float64{3}, 3},
		"odd, unsorted":   {[]float64{9, 1, 5}, 5},
		"even, mean":      {[]float64{4, 1, 2, 100}, 3},
		"one wild runner": {[]float64{1, 1, 1, 1, 1000}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := append([]float64(nil), c.values...)
			if got := median(c.values); got != c.want {
				t.Errorf("median(%v) = %v, want %v", before, got, c.want)
			}
			for i := range before {
				if c.values[i] != before[i] {
					t.Fatalf("median changed its argument: %v to %v", before, c.values)
				}
			}
		})
	}
}

// A machine that changes its speed within a run: the ratio of the medians would be 1, most pairs say 0.5.
func TestSummarizeTakesRatiosWithinPairs(t *testing.T) {
	pairs := []pair{{8, 16}, {4, 8}, {8, 4}}
	r := summarize("slowing", 0.5, pairs)
	if r.Ratio != 0.5 || r.RatioMin != 0.5 || r.RatioMax != 2 {
		t.Errorf("ratio %v in %v..%v, want 0.5 in 0.5..2", r.Ratio, r.RatioMin, r.RatioMax)
	}
	if r.Tapestry != 8 || r.Kernel != 8 {
		t.Errorf("medians %v and %v, want 8 and 8", r.Tapestry, r.Kernel)
	}
	if !r.Pass {
		t.Error("a ratio at the threshold does not pass")
	}
}

func TestVerdict(t *testing.T) {
	good, bad := summarize("good", 0.6, []pair{{7, 10}}), summarize("bad", 0.6, []pair{{5, 10}})
	if err := (report{Rungs: []result{good}}).verdict(); err != nil {
		t.Errorf("a ratio of 0.7 over 0.6: %v", err)
	}
	r := report{Rungs: []result{good, bad}}
	err := r.verdict()
	if err == nil || err.Error() != "bad: ratio 0.50 is below 0.60" {
		t.Errorf("verdict: %v, want the bad rung named alone", err)
	}
	var text bytes.Buffer
	if err := r.table(&text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	for i, want := range []string{"ok", "below"} {
		if line := lines[len(lines)-2+i]; !strings.HasSuffix(line, want) {
			t.Errorf("line %q does not end in %q", line, want)
		}
	}
}

func TestParseFlow(t *testing.T) {
	for name, c := range map[string]struct {
		report string
		want   float64
		err    string
	}{
		"what arrived, not what was sent": {report: `{"start":{},"end":{"sum_sent":{"bits_per_second":9.9e9},
			"sum_received":{"seconds":3.0,"bits_per_second":9.5e9,"sender":true}}}`, want: 9.5},
		"refused":       {report: `{"start":{},"end":{},"error":"unable to connect to server: Connection refused"}`, err: "Connection refused"},
		"no report":     {report: `iperf3: command line`, err: "read the report"},
		"empty report":  {report: ``, err: "read the report"},
		"nothing moved": {report: `{"end":{"sum_received":{"bits_per_second":0}}}`, err: "nothing arrived"},
		"ended early":   {report: `{"start":{},"intervals":[],"end":{}}`, err: "nothing arrived"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseFlow([]byte(c.report))
			if c.err == "" && (err != nil || got != c.want) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got error %v, want one with %q", err, c.err)
			}
		})
	}
}

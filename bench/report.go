package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is what --json prints.
type report struct {
	Machine machine  `json:"machine"`
	Pairs   int      `json:"pairs"`
	Seconds int      `json:"seconds"` // of each run
	Rungs   []result `json:"rungs"`
}

// result is what one rung showed.
type result struct {
	Name      string  `json:"rung"`
	Tapestry  float64 `json:"tapestry_gbps"` // median
	Kernel    float64 `json:"kernel_gbps"`   // median
	Ratio     float64 `json:"ratio"`         // median of the pairs' ratios
	RatioMin  float64 `json:"ratio_min"`
	RatioMax  float64 `json:"ratio_max"`
	Threshold float64 `json:"threshold"`
	Pass      bool    `json:"pass"`
	Pairs     []pair  `json:"pairs"`
}

// pair is one run of each, one after the other, in Gb/s.
type pair struct {
	Tapestry float64 `json:"tapestry_gbps"`
	Kernel   float64 `json:"kernel_gbps"`
}

func (p pair) ratio() float64 { return p.Tapestry / p.Kernel }

// summarize takes medians. The ratio's is that of the pairs' ratios, not the ratio of the medians:
// what the machine does besides changes slowly, and so touches both runs of a pair.
func summarize(name string, threshold float64, pairs []pair) result {
	var ours, theirs, ratios []float64
	for _, p := range pairs {
		ours, theirs, ratios = append(ours, p.Tapestry), append(theirs, p.Kernel), append(ratios, p.ratio())
	}
	ratio := median(ratios)
	return result{Name: name, Tapestry: median(ours), Kernel: median(theirs),
		Ratio: ratio, RatioMin: slices.Min(ratios), RatioMax: slices.Max(ratios),
		Threshold: threshold, Pass: ratio >= threshold, Pairs: pairs}
}

// median of one value or more; of an even number the mean of the middle two.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// verdict is an error that names the rungs below their thresholds, nil if there are none.
func (r report) verdict() error {
	var errs []error
	for _, x := range r.Rungs {
		if !x.Pass {
			errs = append(errs, fmt.Errorf("%s: ratio %.2f is below %.2f", x.Name, x.Ratio, x.Threshold))
		}
	}
	return errors.Join(errs...)
}

func (r report) table(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "\n%d cores, load %s, Linux %s, %s %s, tapestry %s\none TCP flow, %d pairs of %d s each, medians\n\n",
		m.Cores, m.Load, m.Kernel, m.Go, m.Arch, m.Version, r.Pairs, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RUNG\tTAPESTRY Gb/s\tKERNEL Gb/s\tRATIO\tMIN..MAX\tTHRESHOLD\tVERDICT")
	for _, x := range r.Rungs {
		verdict := "ok"
		if !x.Pass {
			verdict = "below"
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f..%.2f\t%.2f\t%s\n",
			x.Name, x.Tapestry, x.Kernel, x.Ratio, x.RatioMin, x.RatioMax, x.Threshold, verdict)
	}
	return t.Flush()
}

// machine is where and what was measured. Go, architecture and version (git describe) are those of the binary.
type machine struct {
	Cores   int    `json:"cores"`
	Load    string `json:"load"` // of the minute before, proc_loadavg(5): what else ran
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Arch    string `json:"arch"`
	Version string `json:"version"`
}

// describe asks the machine and the binary.
func describe(ctx context.Context, binary string) (machine, error) {
	var m machine
	out, err := exec.CommandContext(ctx, binary, "version", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil {
		return m, fmt.Errorf("ask %s for its version (`make build` makes it): %w", binary, err)
	}
	m.Cores = runtime.NumCPU()
	for path, to := range map[string]*string{"/proc/sys/kernel/osrelease": &m.Kernel, "/proc/loadavg": &m.Load} {
		text, err := os.ReadFile(path)
		if err != nil {
			return m, err
		}
		*to = strings.Fields(string(text))[0]
	}
	return m, nil
}

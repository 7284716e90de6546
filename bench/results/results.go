// Package results is what a run of the bench measured, and how sure it is: the JSON of a report, medians and intervals,
// bounds and verdicts, and several runs merged into one report. It is plain data: it measures nothing and draws nothing.
package results

import "time"

// A Report is the result of one run of the bench, or of several that were merged: what --json prints.
type Report struct {
	Machine Machine   `json:"machine"`
	Plan    string    `json:"plan"`           // quick, full or check
	Only    []string  `json:"only,omitempty"` // what --only asked for
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // that the whole run took
	Cases   []Case    `json:"cases"`
	Parts   []Part    `json:"parts"`
	Curves  []Curve   `json:"curves"`
	Skipped []Skip    `json:"skipped"`
	Runs    []Run     `json:"runs,omitempty"` // the runs that were merged into this report

	// What Verdict demands beyond the cases; not in the JSON, so empty in a report that was read or merged.
	Wanted    []Bound `json:"-"` // bounds that the plan measures
	Rounds    int     `json:"-"` // of the plan
	MinRounds int     `json:"-"` // that a bound needs; 0: any number
}

// A Run is one of the runs that a report was merged of.
type Run struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Load    string    `json:"load"` // of the minute before
}

// A Case is one measure on one rung, taken of each setup in turn: A B C A B C …
type Case struct {
	Rung    string   `json:"rung"`    // "one host", "two hosts", "docker, one host", "docker, two hosts"
	Measure string   `json:"measure"` // "TCP, 1 flow", "UDP 64 B", "TCP echo p50", …
	Unit    string   `json:"unit"`    // "Gb/s", "packets/s", "µs", "s/GB", "s/Mpacket", "s/Mtrip" (round trips), "ms", "MB"
	Lower   bool     `json:"lower"`   // lower is better
	Results []Sample `json:"results"` // of each setup, tapestry's first
	Ratios  []Ratio  `json:"ratios"`  // tapestry's to each other setup

	// Of tapestry's own median, where no other setup is measured; as in Ratio.
	Bound   float64 `json:"bound,omitempty"` // in Unit
	Aim     float64 `json:"aim,omitempty"`   // in Unit
	Verdict string  `json:"verdict,omitempty"`
}

// A Sample is what one setup reached in one case.
type Sample struct {
	Setup  string    `json:"way"` // "tapestry", "kernel bridge", "kernel VXLAN", "Docker bridge", "Docker overlay", "Open vSwitch", "VDE", "wireguard-go"
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Runs   []float64 `json:"runs,omitempty"` // median of each run that was merged
	CDF    []Point   `json:"cdf,omitempty"`  // echo only: X µs, Y the share of answers that took no longer, 0 to 1
	Note   string    `json:"note,omitempty"` // what limits the figure, if the setup does not
}

// A Ratio is tapestry's figure over another setup's, both of one round: what else the machine does changes slowly, so it
// affects both.
type Ratio struct {
	Against  string    `json:"against"`
	Values   []float64 `json:"values"`
	Failed   int       `json:"failed,omitempty"` // rounds in which only tapestry failed: they count as worse than all values
	Median   float64   `json:"median"`           // of the values; of the runs' medians if runs were merged
	Runs     []float64 `json:"runs,omitempty"`   // median of each run that was merged
	Low      float64   `json:"low"`              // Low..High holds the true median with 95 %
	High     float64   `json:"high"`
	Coverage float64   `json:"coverage"`        // the probability of that; less than 0.95 with fewer than 6 values
	Bound    float64   `json:"bound,omitempty"` // at least; at most where lower is better; 0: none
	Aim      float64   `json:"aim,omitempty"`
	Verdict  string    `json:"verdict,omitempty"` // ok, below (above where lower is better), "within noise", "too few rounds"
}

// A Part is one part of a frame's path, measured alone in the bench's process.
type Part struct {
	Name   string  `json:"name"`            // "memory copy", "TAP read + write", "switch alone", …
	Gbps   float64 `json:"gbps,omitempty"`  // with super-frames of 60 KB
	Nanos  float64 `json:"nanos,omitempty"` // for each frame of 64 bytes
	Allocs float64 `json:"allocs"`          // for each frame
}

// A Curve is a figure at growing sizes of something.
type Curve struct {
	Name   string  `json:"name"`    // "RSS by endpoints"
	X      string  `json:"x_label"` // "endpoints"
	Y      string  `json:"y_label"` // "MB"
	Points []Point `json:"points"`
	Flat   bool    `json:"flat"`           // the last Y is at most twice the first
	Note   string  `json:"note,omitempty"` // why it is not flat
	Law    string  `json:"law,omitempty"`  // of a Scale: how Y grows with X
}

// A Point of a curve or of a distribution.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// A Skip is something that was not measured, with the reason.
type Skip struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

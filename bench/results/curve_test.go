package results

import (
	"testing"
)

func TestCurveJudge(t *testing.T) {
	for _, k := range []struct {
		name   string
		points []Point
		flat   bool
		note   string
	}{
		{"the same", []Point{{X: 1, Y: 10}, {X: 1000, Y: 10}}, true, ""},
		{"twice", []Point{{X: 1, Y: 10}, {X: 1000, Y: 20}}, true, ""},
		{"less", []Point{{X: 1, Y: 10}, {X: 1000, Y: 1}}, true, ""},
		{"more", []Point{{X: 0, Y: 10}, {X: 500, Y: 500}, {X: 1000, Y: 30}}, false, "20 kB for each"},
		{"one", []Point{{X: 1, Y: 10}}, true, ""},
	} {
		c := Curve{Points: k.points}
		c.Judge(1000, "kB", "%s for each")
		if c.Flat != k.flat || c.Note != k.note {
			t.Errorf("%s: flat %v, note %q", k.name, c.Flat, c.Note)
		}
	}
}

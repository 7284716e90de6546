package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/bench/results"
)

// rungCharts are those of one rung: bars for each unit, all ratios, the distributions of latencies.
func rungCharts(r *results.Report, rung string) []chart {
	var all []chart
	var units []string
	var ratios []target
	groups, spreads := map[string][]results.Case{}, map[string]bool{}
	for _, c := range r.Cases {
		if c.Rung != rung {
			continue
		}
		if !slices.Contains(units, c.Unit) {
			units = append(units, c.Unit)
		}
		groups[c.Unit] = append(groups[c.Unit], c)
		for _, x := range c.Ratios {
			ratios = append(ratios, targetOf(c, x))
		}
	}
	for _, u := range units {
		if len(setupsOf(groups[u])) > 0 {
			all = append(all, barChart(rung, u, groups[u]))
		}
	}
	if len(ratios) > 0 {
		all = append(all, ratioChart("ratios "+rung, rung+": tapestry compared with each other setup", ratios))
	}
	for _, c := range r.Cases {
		kind := withoutPercentile(c.Measure)
		if c.Rung == rung && !spreads[kind] && slices.ContainsFunc(c.Results, func(x results.Sample) bool { return len(drawable(x.CDF)) > 1 }) {
			spreads[kind] = true
			all = append(all, cdfChart(rung, kind, c.Results))
		}
	}
	return all
}

// distinct makes the charts' names valid file names: small letters, digits and dashes, none twice.
func distinct(all []section) []section {
	seen := map[string]bool{}
	for _, s := range all {
		for i := range s.charts {
			words := strings.Join(strings.FieldsFunc(strings.ToLower(s.charts[i].name), func(r rune) bool {
				return (r < 'a' || r > 'z') && (r < '0' || r > '9')
			}), "-")
			words = cmp.Or(strings.TrimRight(words[:min(len(words), 80)], "-"), "plot")
			name := words
			for n := 2; seen[name]; n++ {
				name = fmt.Sprintf("%s-%d", words, n)
			}
			seen[name], s.charts[i].name = true, name
		}
	}
	return all
}

// A key is a name in a legend, and its position.
type key struct {
	name string
	x, y float64
}

// legend lays out names in lines of a width, from y on, with room for a mark before each. end is the y below them.
func legend(names []string, y, width float64) (keys []key, end float64) {
	x := margin
	for _, name := range names {
		name = normal.fit(clean(name), 200)
		w := 28 + normal.width(name)
		if x > margin && x+w-14 > width-margin {
			x, y = margin, y+14
		}
		keys = append(keys, key{name, x, y})
		x += w
	}
	return keys, y + 8
}

func setupsOf(cases []results.Case) []string {
	var setups []string
	for _, c := range cases {
		for _, r := range c.Results {
			if !slices.Contains(setups, r.Setup) {
				setups = append(setups, r.Setup)
			}
		}
	}
	return setups
}

func measuresOf(cases []results.Case) []string {
	var names []string
	for _, c := range cases {
		names = append(names, c.Measure)
	}
	return names
}

func better(lower bool) string {
	if lower {
		return "Lower is better"
	}
	return "Higher is better"
}

// quantity is what a unit measures.
func quantity(unit string) string {
	switch unit {
	case "Gb/s":
		return "throughput"
	case "packets/s":
		return "packet rate"
	case "µs":
		return "response time"
	case "s/GB":
		return "CPU for each GB"
	case "s/Mpacket":
		return "CPU for each million packets"
	case "ms":
		return "start time"
	case "MB":
		return "memory"
	}
	return unit
}

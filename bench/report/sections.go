package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tapestry-net/tapestry/bench/results"
)

// A section of RESULTS.md and of the HTML page. All of it is plain text.
type section struct {
	title   string
	text    []string
	items   []item
	instead *table // instead of items, in RESULTS.md
	tables  []table
	charts  []chart
	code    string // commands for a shell
}

// An item is a sentence, with the verdict that it explains if there is one.
type item struct{ verdict, text string }

type table struct {
	caption string
	head    []string
	rows    [][]string
}

// sections of a report, in the order of the page.
func sections(r *results.Report) []section {
	all := []section{summary(r)}
	for _, rung := range rungs(r) {
		all = append(all, section{title: capitalized(rung), text: notes(r, rung), tables: rungTables(r, rung), charts: rungCharts(r, rung)})
	}
	if len(r.Parts) > 0 {
		all = append(all, partsSection(r.Parts))
	}
	if len(r.Curves) > 0 {
		all = append(all, curvesSection(r.Curves))
	}
	return distinct(append(all, skipped(r.Skipped), method(r), repeat(r)))
}

func summary(r *results.Report) section {
	s := section{title: "At a glance"}
	wanted, without := targets(r), unmeasuredBounds(r)
	if len(wanted) == 0 {
		s.text = []string{"Nothing that this run measured has a bound."}
	}
	t := table{head: []string{"where", "measure", "against", "wanted", "aim", "measured", "interval", "verdict"}}
	if len(r.Runs) > 0 {
		t.head = append(t.head, "each run")
	}
	for _, x := range wanted {
		s.items = append(s.items, item{x.verdict(), x.sentence()})
		measured := "–"
		if len(x.Values) > 0 {
			measured = x.show(x.Median)
		}
		row := []string{x.rung, x.measure, cmp.Or(x.Against, "–"), results.FormatBound(x.Bound, x.lower),
			cmp.Or(results.FormatBound(x.Aim, x.lower), "–"), measured, x.interval(), x.verdict()}
		if len(r.Runs) > 0 {
			row = append(row, cmp.Or(x.eachRun(), "–"))
		}
		t.rows = append(t.rows, row)
	}
	for _, x := range without {
		s.items = append(s.items, item{"not measured", fmt.Sprintf("%s, %s%s: not measured: %s.", capitalized(x.Rung), x.Measure,
			map[bool]string{true: " against " + x.Against}[x.Against != ""], x.why)})
		row := []string{x.Rung, x.Measure, cmp.Or(x.Against, "–"), results.FormatBound(x.Bound.Limit, x.Lower()), results.FormatBound(x.Aim, x.Lower()), "–", "–", "not measured: " + x.why}
		if len(r.Runs) > 0 {
			row = append(row, "–")
		}
		t.rows = append(t.rows, row)
	}
	s.instead = &t
	if ratios := slices.DeleteFunc(wanted, func(t target) bool { return t.Against == "" }); len(ratios) > 0 {
		s.charts = []chart{ratioChart("targets", "What tapestry has to reach, and what it reaches", ratios)}
	}
	return s
}

// rungTables are all cases of a rung: the medians, and tapestry's ratio to each other setup.
func rungTables(r *results.Report, rung string) []table {
	cases := slices.DeleteFunc(slices.Clone(r.Cases), func(c results.Case) bool { return c.Rung != rung })
	setups := setupsOf(cases)
	medians := table{caption: "Medians", head: append([]string{"measure", "unit", "better"}, setups...)}
	var against []string
	for _, c := range cases {
		row := []string{c.Measure, c.Unit, strings.TrimSuffix(strings.ToLower(better(c.Lower)), " is better")}
		for _, setup := range setups {
			cell := "–"
			for _, x := range c.Results {
				if x.Setup == setup && measured(x) {
					cell = threeDigits(x.Median)
				}
			}
			row = append(row, cell)
		}
		medians.rows = append(medians.rows, row)
		for _, x := range c.Ratios {
			if !slices.Contains(against, x.Against) {
				against = append(against, x.Against)
			}
		}
	}
	if len(against) == 0 {
		return []table{medians}
	}
	ratios := table{caption: "Tapestry's ratio to each (interval)", head: append([]string{"measure", "better"}, against...)}
	for _, c := range cases {
		row := []string{c.Measure, strings.TrimSuffix(strings.ToLower(better(c.Lower)), " is better")}
		for _, a := range against {
			cell := "–"
			for _, x := range c.Ratios {
				if x.Against == a {
					cell = targetOf(c, x).figures()
				}
			}
			row = append(row, cell)
		}
		ratios.rows = append(ratios.rows, row)
	}
	return []table{medians, ratios}
}

func partsSection(parts []results.Part) section {
	t := table{head: []string{"part", "Gb/s, super-frames of 60 KB", "ns for a frame of 64 bytes", "allocations for each frame"}}
	for _, p := range parts {
		row := []string{p.Name, "–", "–", trimmed(p.Allocs)}
		if p.Gbps != 0 {
			row[1] = threeDigits(p.Gbps)
		}
		if p.Nanos != 0 {
			row[2] = threeDigits(p.Nanos)
		}
		t.rows = append(t.rows, row)
	}
	return section{title: "The parts", text: []string{"The parts of a frame's path, each measured alone in one process."},
		tables: []table{t}, charts: []chart{partsChart(parts)}}
}

func curvesSection(curves []results.Curve) section {
	s := section{title: "Scale", text: []string{"A figure at growing sizes of something. A curve is flat if its last value is at most twice the first."}}
	for _, c := range curves {
		text := c.Name + ": " + strings.TrimSuffix(strings.ToLower(flat(c)), ".")
		if c.Note != "" {
			text += ": " + c.Note
		}
		s.items = append(s.items, item{text: strings.TrimSuffix(text, ".") + "."})
		s.charts = append(s.charts, curveChart(c))
		t := table{caption: c.Name, head: []string{c.X}, rows: [][]string{{c.Y}}}
		for _, p := range c.Points {
			t.head, t.rows[0] = append(t.head, trimmed(p.X)), append(t.rows[0], threeDigits(p.Y))
		}
		s.tables = append(s.tables, t)
	}
	return s
}

func skipped(skips []results.Skip) section {
	s := section{title: "Not measured"}
	if len(skips) == 0 {
		s.text = []string{"Nothing was left out."}
		return s
	}
	t := table{head: []string{"what", "why"}}
	for _, x := range skips {
		t.rows = append(t.rows, []string{x.What, x.Why})
	}
	s.tables = []table{t}
	return s
}

func method(r *results.Report) section {
	s := section{title: "How it was measured", text: []string{
		"All setups ran on this machine in one run, each in network namespaces of its own, in turn: A B C, A B C, … What else the " +
			"machine does changes slowly, so it affects all setups of a round alike. A ratio is tapestry's figure over another setup's of " +
			"the same round; the table has the median of those ratios. The interval holds the true median with 95 %, or with the percentage " +
			"behind it, if there were too few rounds.",
		"A verdict is ok if the median keeps the bound, within noise if the median misses it but the interval reaches it, below (or " +
			"above, where lower is better) if the whole interval misses it, and too few rounds if they do not make an interval of 95 %. " +
			"A round in which tapestry failed twice and the other setup did not counts as worse than all others; what failed once is listed under Not measured.",
		"Two hosts are two sets of namespaces on one machine. There is no network card between them, so figures between real machines are different.",
		"Between machines the ratios differ more than between versions. A switch in user space takes a few system calls and a wake-up for what the " +
			"kernel does in place, so their costs on a machine decide; the first table has them. docs/design.md (The spread between machines) compares two machines. --check has wider bounds where a system call " +
			fmt.Sprintf("takes more than %d ns.", results.SlowSyscallNS),
		"The rows of iperf3 are what iperf3 in two containers shows: nothing is pinned to a processor, and the congestion control is the one named.",
	}}
	if len(r.Runs) > 0 {
		s.text = append(s.text, "This is "+runs(len(r.Runs))+", one after the other. A ratio is the median of the runs' medians, its interval is that of "+
			"all rounds of all runs; a setup's figure is the median of all its rounds. Parts and curves are those of the last run that has them.")
	}
	if slices.Contains(setupsOf(r.Cases), "wireguard-go") {
		s.text = append(s.text, "wireguard-go encrypts and the others do not: it is here to compare with a good tunnel written in Go.")
	}
	return s
}

func repeat(r *results.Report) section {
	return section{title: "How to repeat it",
		text: []string{"On Linux, from a checkout" + map[bool]string{true: " of " + r.Machine.Commit}[r.Machine.Commit != ""] +
			". The full run takes sixteen minutes; --quick takes two minutes and shows less. Setups whose programs are not installed are left out, with the reason."},
		code: "sudo make bench BENCH='--html report.html --results bench'"}
}

// facts are when, where and of what a report is: rows of a name and a text.
func facts(r *results.Report) [][]string {
	m := r.Machine
	commit := cmp.Or(m.Commit, "unknown")
	if m.Modified {
		commit += " with changes that were not committed"
	}
	machine := []string{fmt.Sprintf("%d cores", m.Cores), cmp.Or(m.CPU, "unknown processor")}
	if m.MemoryMB > 0 {
		machine = append(machine, trimmed(m.MemoryMB/1000)+" GB of memory")
	}
	when := []string{cmp.Or(r.Plan, "unknown plan") + r.Restriction()}
	if len(r.Runs) > 0 {
		when = append(when, runs(len(r.Runs)))
	}
	if !r.Began.IsZero() {
		when = append(when, r.Began.UTC().Format("2006-01-02 15:04 UTC"))
	}
	if r.Seconds > 0 && r.Seconds < 1e6 {
		when = append(when, "took "+(time.Duration(r.Seconds)*time.Second).String())
	}
	joined := func(words ...string) string {
		return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), ", ")
	}
	all := [][]string{
		{"machine", joined(append(machine, m.Arch)...)},
		{"its costs", cmp.Or(m.Costs.String(), "unknown")},
		{"load before", cmp.Or(m.Load, "unknown")},
		{"stolen", fmt.Sprintf("%.1f %% of the processors' time while it ran", 100*m.Steal)},
		{"kernel", cmp.Or(m.Kernel, "unknown")},
		{"congestion control", cmp.Or(m.TCP, "unknown")},
		{"Docker", cmp.Or(m.Docker, "none")},
		{"tapestry", joined(m.Version, m.Go)},
		{"commit", commit},
		{"others", cmp.Or(joined(versioned("Open vSwitch", m.OVS), versioned("VDE", m.VDE), versioned("wireguard-go", m.Wireguard)), "none")},
		{"run", joined(when...)},
	}
	for i, x := range r.Runs {
		all = append(all, []string{fmt.Sprintf("run %d", i+1), fmt.Sprintf("%s, took %s, load before %s", x.Began.UTC().Format("2006-01-02 15:04 UTC"),
			results.Minutes(time.Duration(x.Seconds*float64(time.Second))), cmp.Or(x.Load, "unknown"))})
	}
	return all
}

// versioned is a name and a version, "" if there is no version.
func versioned(name, version string) string {
	if version == "" {
		return ""
	}
	return name + " " + version
}

// threeDigits formats a figure with three digits: 0.753, 12.4, 1234, 81.2 k, 1.25 M; "–" if it is not finite.
func threeDigits(v float64) string {
	switch {
	case !finite(v):
		return "–"
	case v == 0:
		return "0"
	}
	suffix := ""
	switch a := math.Abs(v); {
	case a >= 999.5e6:
		v, suffix = v/1e9, " G"
	case a >= 999.5e3:
		v, suffix = v/1e6, " M"
	case a >= 9999.5:
		v, suffix = v/1e3, " k"
	}
	a := math.Abs(v)
	if a >= 1e6 || a > 0 && a < 1e-3 {
		return strconv.FormatFloat(v, 'g', 3, 64) + suffix
	}
	digits := 3
	for limit := .9995; a >= limit && digits > 0; limit *= 10 {
		digits--
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + suffix
}

// trimmed formats a figure that was chosen, not measured: without zeros behind the point.
func trimmed(v float64) string {
	s, suffix, spaced := strings.Cut(threeDigits(v), " ")
	if strings.Contains(s, ".") && !strings.Contains(s, "e") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if spaced {
		s += " " + suffix
	}
	return s
}

// capitalized is s with a capital letter first.
func capitalized(s string) string {
	first, n := utf8.DecodeRuneInString(s)
	if n == 0 || first == utf8.RuneError {
		return s
	}
	return string(unicode.ToUpper(first)) + s[n:]
}

// measured says whether a setup has a figure.
func measured(r results.Sample) bool { return len(r.Values) > 0 && finite(r.Median) }

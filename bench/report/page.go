// Package report writes results for people: tables for a terminal, RESULTS.md with its plots, and a page of HTML. It is the
// only room that links plots and fonts.
package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tapestry-net/tapestry/bench/results"
)

// WriteResults writes RESULTS.md and its plots, plots/*.svg, into a directory that exists. Each file is replaced as a whole,
// RESULTS.md after the plots. At the end it removes the plots that only the page of an earlier run shows.
func WriteResults(dir string, r *results.Report) error {
	plots := filepath.Join(dir, "plots")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := WritePlots(plots, "svg", r); err != nil {
		return err
	}
	path := filepath.Join(dir, "RESULTS.md")
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read earlier results: %w", err)
	}
	now := page(r, sections(r))
	if err := renameio.WriteFile(path, now, 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return removeStale(plots, before, now)
}

// WritePlots writes all plots as files of a format, "svg" or "png", into a directory that exists.
func WritePlots(dir, format string, r *results.Report) error {
	for _, s := range sections(r) {
		for _, c := range s.charts {
			var b bytes.Buffer
			if err := c.write(&b, format); err != nil {
				return fmt.Errorf("draw %s: %w", c.name, err)
			}
			if err := renameio.WriteFile(filepath.Join(dir, c.name+"."+format), b.Bytes(), 0o644); err != nil {
				return fmt.Errorf("write plots: %w", err)
			}
		}
	}
	return nil
}

// pictured finds the plots that RESULTS.md shows.
var pictured = regexp.MustCompile(`\]\(plots/([^/()\s]+\.svg)\)`)

// removeStale removes the plots that the page before shows and the page now does not. It leaves other files alone.
func removeStale(plots string, before, now []byte) error {
	keep := map[string]bool{}
	for _, found := range pictured.FindAllSubmatch(now, -1) {
		keep[string(found[1])] = true
	}
	for _, found := range pictured.FindAllSubmatch(before, -1) {
		name := string(found[1])
		if keep[name] {
			continue
		}
		if err := os.Remove(filepath.Join(plots, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove old plots: %w", err)
		}
	}
	return nil
}

// title names the plan, unless it was a full run.
func title(r *results.Report) string {
	t := "Results of the bench"
	if r.Plan != "" && r.Plan != "full" {
		t += ": a " + r.Plan + " run"
	}
	if r.Only != nil {
		t += r.Restriction()
	}
	if len(r.Runs) > 0 {
		t += ", " + runs(len(r.Runs))
	}
	return t
}

// page formats RESULTS.md.
func page(r *results.Report, all []section) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\nWritten by `tapestry bench`.\n\n", markdown(title(r)))
	table{head: []string{"", ""}, rows: facts(r)}.markdown(&b)
	for _, s := range all {
		fmt.Fprintf(&b, "## %s\n\n", markdown(s.title))
		for _, text := range s.text {
			fmt.Fprintf(&b, "%s\n\n", markdown(text))
		}
		if s.instead != nil {
			s.instead.markdown(&b)
		} else if len(s.items) > 0 {
			for _, i := range s.items {
				fmt.Fprintf(&b, "- %s\n", markdown(i.text))
			}
			fmt.Fprintln(&b)
		}
		for _, t := range s.tables {
			t.markdown(&b)
		}
		for _, f := range s.charts {
			fmt.Fprintf(&b, "![%s](plots/%s.svg)\n", markdown(f.title), f.name)
		}
		if len(s.charts) > 0 {
			fmt.Fprintln(&b)
		}
		if s.code != "" {
			fmt.Fprintf(&b, "```sh\n%s\n```\n\n", s.code)
		}
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func (t table) markdown(w io.Writer) {
	if t.caption != "" {
		fmt.Fprintf(w, "%s:\n\n", markdown(t.caption))
	}
	line := func(cells []string) {
		for _, c := range cells {
			fmt.Fprintf(w, "| %s ", markdown(c))
		}
		fmt.Fprintln(w, "|")
	}
	line(t.head)
	fmt.Fprintln(w, strings.Repeat("|---", len(t.head))+"|")
	for _, r := range t.rows {
		line(r)
	}
	fmt.Fprintln(w)
}

// markdown escapes what would be markup (CommonMark 2.4 allows a backslash before any punctuation) in a paragraph, a
// list or a table's cell. A full stop and a hyphen are markup only at the start of a line, where no name is.
func markdown(s string) string {
	var b strings.Builder
	for _, r := range clean(s) {
		if strings.ContainsRune("\\`*_[]<>|~#&$@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// WriteResults writes RESULTS.md and its pictures, plots/*.svg, into a directory that exists. Each file is replaced
// whole, RESULTS.md after the pictures; last goes what an earlier run left in plots.
func WriteResults(dir string, r *Report) error {
	plots := filepath.Join(dir, "plots")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := WritePlots(plots, "svg", r); err != nil {
		return err
	}
	all := sections(r)
	if err := renameio.WriteFile(filepath.Join(dir, "RESULTS.md"), page(r, all), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return tidy(plots, all)
}

// WritePlots writes all pictures as files of a format, "svg" or "png", into a directory that exists.
func WritePlots(dir, format string, r *Report) error {
	for _, s := range sections(r) {
		for _, c := range s.figures {
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

// tidy removes pictures that are not of these sections.
func tidy(plots string, all []section) error {
	keep := map[string]bool{}
	for _, s := range all {
		for _, c := range s.figures {
			keep[c.name+".svg"] = true
		}
	}
	entries, err := os.ReadDir(plots)
	if err != nil {
		return fmt.Errorf("tidy plots: %w", err)
	}
	for _, e := range entries {
		if keep[e.Name()] || filepath.Ext(e.Name()) != ".svg" {
			continue
		}
		if err := os.Remove(filepath.Join(plots, e.Name())); err != nil {
			return fmt.Errorf("tidy plots: %w", err)
		}
	}
	return nil
}

// page is RESULTS.md.
func page(r *Report, all []section) []byte {
	var b bytes.Buffer
	fmt.Fprint(&b, "# Results of the bench\n\nWritten by `tapestry bench`.\n\n")
	sheet{head: []string{"", ""}, rows: facts(r)}.markdown(&b)
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
		for _, f := range s.figures {
			fmt.Fprintf(&b, "![%s](plots/%s.svg)\n", markdown(f.title), f.name)
		}
		if len(s.figures) > 0 {
			fmt.Fprintln(&b)
		}
		if s.code != "" {
			fmt.Fprintf(&b, "```sh\n%s\n```\n\n", s.code)
		}
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func (t sheet) markdown(w io.Writer) {
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
// list or a table's cell. A full stop and a hyphen are markup at the start of a line only, and none starts with a name.
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

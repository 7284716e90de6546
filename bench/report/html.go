package report

import (
	"bytes"

	"github.com/tapestry-net/tapestry/bench/results"

	_ "embed"
	"fmt"
	"html"
	"io"
	"strings"
)

//go:embed report.css
var reportCSS string

// WriteHTML writes the report as one page that loads nothing: no script, no font, no picture.
func WriteHTML(w io.Writer, r *results.Report) error {
	var h htmlPage
	h.WriteString("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n" +
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>tapestry bench</title>\n" +
		"<style>\n" + reportCSS + "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>")
	h.put("%s</h1>\n<dl>\n", title(r))
	for _, f := range facts(r) {
		h.put("<dt>%s</dt><dd>%s</dd>\n", f...)
	}
	h.put("</dl>\n</header>\n<nav>\n")
	all := sections(r)
	for i, s := range all {
		h.put("<a href=\"#%s\">%s</a>\n", anchor(i), s.title)
	}
	h.put("</nav>\n")
	for i, s := range all {
		h.section(anchor(i), s)
	}
	h.put("</main>\n</body>\n</html>\n")
	if _, err := w.Write(h.Bytes()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func anchor(i int) string { return fmt.Sprintf("s%d", i) }

// An htmlPage is a page that is being written. It does not use html/template, with which the linker keeps all methods.
type htmlPage struct{ bytes.Buffer }

// put writes markup; each %s in it is replaced by a text, which is escaped.
func (h *htmlPage) put(markup string, texts ...string) {
	escaped := make([]any, len(texts))
	for i, t := range texts {
		escaped[i] = html.EscapeString(clean(t))
	}
	fmt.Fprintf(h, markup, escaped...)
}

func (h *htmlPage) section(id string, s section) {
	h.put("<section id=\"%s\">\n<h2>%s</h2>\n", id, s.title)
	for _, text := range s.text {
		h.put("<p>%s</p>\n", text)
	}
	h.put("<div class=\"flow\">\n")
	if len(s.items) > 0 {
		h.put("<ul>\n")
		for _, i := range s.items {
			h.put("<li>")
			if i.verdict != "" {
				h.put("<span class=\"verdict %s\">%s</span> ", strings.ReplaceAll(i.verdict, " ", "-"), i.verdict)
			}
			h.put("%s</li>\n", i.text)
		}
		h.put("</ul>\n")
	}
	for _, t := range s.tables {
		h.table(t)
	}
	for _, c := range s.charts {
		h.put("<figure>\n")
		h.WriteString(c.inline()) // its texts are escaped already
		h.put("</figure>\n")
	}
	h.put("</div>\n")
	if s.code != "" {
		h.put("<pre>%s</pre>\n", s.code)
	}
	h.put("</section>\n")
}

func (h *htmlPage) table(t table) {
	h.put("<div class=\"wide\"><table>\n")
	if t.caption != "" {
		h.put("<caption>%s</caption>\n", t.caption)
	}
	h.put("<thead><tr>")
	for _, cell := range t.head {
		h.put("<th scope=\"col\">%s</th>", cell)
	}
	h.put("</tr></thead>\n<tbody>\n")
	for _, row := range t.rows {
		h.put("<tr>")
		for _, cell := range row {
			h.put("<td>%s</td>", cell)
		}
		h.put("</tr>\n")
	}
	h.put("</tbody>\n</table></div>\n")
}

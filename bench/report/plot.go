package report

import (
	"fmt"
	"html"
	"image/color"
	"io"
	"math"
	"strings"
	"sync"
	"unicode"

	"codeberg.org/go-fonts/liberation/liberationsansbold"
	"codeberg.org/go-fonts/liberation/liberationsansregular"
	stdfont "golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart is a picture that can be drawn; the same chart always gives the same bytes. It draws on gonum's canvas, not with
// gonum's plot, which parses twelve fonts whenever the program starts.
type chart struct {
	name   string // of its file, without .svg
	title  string
	note   string // below the title: how to read it
	about  string // what it shows, for readers who cannot see it
	width  float64
	height float64 // points; one is 4/3 px
	draw   func(pen)
}

// write writes the file of a picture: format is "svg" or "png".
func (f chart) write(w io.Writer, format string) error {
	switch format {
	case "svg":
		_, err := io.WriteString(w, f.svg())
		return err
	case "png":
		c := vgimg.NewWith(vgimg.UseWH(vg.Length(f.width), vg.Length(f.height)), vgimg.UseDPI(144))
		f.paint(c)
		_, err := vgimg.PngCanvas{Canvas: c}.WriteTo(w)
		return err
	}
	return fmt.Errorf("no picture format %q: svg or png", format)
}

func (f chart) svg() string {
	c := vgsvg.New(vg.Length(f.width), vg.Length(f.height))
	f.paint(c)
	var b strings.Builder
	c.WriteTo(&b) // cannot fail: it writes into memory
	return strings.NewReplacer(
		// Fonts with the same widths, where Liberation Sans is not installed.
		"font-family:Liberation Sans;", "font-family:'Liberation Sans',Arial,Helvetica,sans-serif;",
		"<svg ", `<svg role="img" aria-label="`+html.EscapeString(clean(f.title+". "+f.about))+`" `,
	).Replace(b.String())
}

// inline is the SVG for an HTML page, whose style sets the colours --ink, --faint, --grid and --paper.
func (f chart) inline() string {
	_, svg, _ := strings.Cut(f.svg(), "<svg ")
	return "<svg " + strings.NewReplacer(hex(ink), "var(--ink)", hex(faint), "var(--faint)", hex(grid), "var(--grid)",
		hex(paper), "var(--paper)").Replace(svg)
}

func (f chart) paint(c vg.Canvas) {
	p := pen{c, f.height}
	p.rect(0, 0, f.width, f.height, paper)
	wide := f.width - 2*margin
	p.text(margin, 20, f.head().fit(clean(f.title), wide), f.head())
	for i, line := range f.notes() {
		p.text(margin, 35+12*float64(i), line, aside)
	}
	f.draw(p)
}

// head is the style of the title.
func (f chart) head() style {
	if f.width < pageWidth {
		return style{size: 11, bold: true}
	}
	return style{size: 13, bold: true}
}

// top is the y below the title and the note.
func (f chart) top() float64 { return 35 + 12*float64(len(f.notes())) }

// notes are the note's lines, with some room for a wider font.
func (f chart) notes() []string { return aside.wrap(clean(f.note), .88*(f.width-2*margin)) }

// Colours. People who cannot distinguish red and green can distinguish those of setups (Okabe and Ito's blue, the others muted
// and of different lightness); verdicts differ in shape too.
var (
	ink        = color.RGBA{0x1f, 0x23, 0x28, 0xff}
	faint      = color.RGBA{0x59, 0x63, 0x6e, 0xff}
	grid       = color.RGBA{0xd9, 0xde, 0xe3, 0xff}
	paper      = color.RGBA{0xff, 0xff, 0xff, 0xff}
	strong     = color.RGBA{0x00, 0x72, 0xb2, 0xff} // tapestry
	good       = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	unsure     = color.RGBA{0xe0, 0x9a, 0x00, 0xff}
	bad        = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	slate      = color.RGBA{0x75, 0x7f, 0x8a, 0xff}
	teal       = color.RGBA{0x7c, 0xc0, 0xb8, 0xff}
	sand       = color.RGBA{0xd9, 0xb3, 0x65, 0xff}
	mauve      = color.RGBA{0xa8, 0x76, 0x9c, 0xff}
	olive      = color.RGBA{0x8c, 0xa2, 0x52, 0xff}
	rose       = color.RGBA{0xde, 0xa4, 0x9c, 0xff}
	umber      = color.RGBA{0x8d, 0x6e, 0x5a, 0xff}
	setupColor = map[string]color.RGBA{"tapestry": strong, "kernel bridge": slate, "kernel VXLAN": slate,
		"Docker bridge": teal, "Docker overlay": teal, "Open vSwitch": sand, "VDE": mauve, "wireguard-go": olive}
	others = []color.RGBA{rose, umber, teal, sand, mauve, olive, slate}
)

// colorOf is the colour of a setup by its name, or another one for the i-th if the name is unknown.
func colorOf(setup string, i int) color.RGBA {
	if c, ok := setupColor[setup]; ok {
		return c
	}
	return others[i%len(others)]
}

func hex(c color.RGBA) string { return fmt.Sprintf("#%02X%02X%02X", c.R, c.G, c.B) }

// A pen draws in points, with y growing downward; the y of a text is its base line.
type pen struct {
	c      vg.Canvas
	height float64
}

// A style of text: x is its left end with align 0, its middle with ½, its right end with 1. Without a colour it has ink.
type style struct {
	size  float64
	bold  bool
	color color.Color
	align float64
}

const (
	pageWidth = 600.0 // 800 px
	halfWidth = 292.0
	margin    = 12.0
)

var (
	normal = style{size: 9}
	aside  = style{size: 9, color: faint}
	small  = style{size: 8, color: faint}
)

func (s style) aligned(align float64) style {
	s.align = align
	return s
}

var fonts = sync.OnceValue(func() [2]*opentype.Font {
	var both [2]*opentype.Font
	for i, ttf := range [][]byte{liberationsansregular.TTF, liberationsansbold.TTF} {
		f, err := opentype.Parse(ttf)
		if err != nil {
			panic("the built-in font: " + err.Error()) // it is part of this program
		}
		both[i] = f
	}
	return both
})

func (s style) face() font.Face {
	f := font.Font{Size: vg.Length(s.size)}
	if s.bold {
		f.Weight = stdfont.WeightBold
		return font.Face{Font: f, Face: fonts()[1]}
	}
	return font.Face{Font: f, Face: fonts()[0]}
}

func (s style) width(text string) float64 {
	f := s.face()
	return float64(f.Width(text))
}

// fit shortens text to a width.
func (s style) fit(text string, width float64) string {
	if s.width(text) <= width {
		return text
	}
	for r := []rune(text); len(r) > 0; r = r[:len(r)-1] {
		if short := strings.TrimRight(string(r), " ,") + "…"; s.width(short) <= width {
			return short
		}
	}
	return ""
}

// wrap breaks text into as many lines of a width as it takes.
func (s style) wrap(text string, width float64) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if longer := strings.TrimSpace(line + " " + word); line == "" || s.width(longer) <= width {
			line = longer
			continue
		}
		lines, line = append(lines, s.fit(line, width)), word
	}
	return append(lines, s.fit(line, width))
}

func (p pen) text(x, y float64, text string, s style) {
	if s.color == nil {
		s.color = ink
	}
	p.c.SetColor(s.color)
	p.c.FillString(s.face(), p.at(x-s.align*s.width(text), y), text)
}

func (p pen) at(x, y float64) vg.Point {
	return vg.Point{X: vg.Length(x), Y: vg.Length(p.height - y)}
}

func (p pen) rect(x0, y0, x1, y1 float64, c color.Color) {
	p.shape(c, x0, y0, x1, y0, x1, y1, x0, y1)
}

// shape fills a polygon: x, y, x, y, …
func (p pen) shape(c color.Color, xy ...float64) {
	path := p.path(xy)
	path.Close()
	p.c.SetColor(c)
	p.c.Fill(path)
}

// line joins points: x, y, x, y, … dash is the length of dashes, 0 for none.
func (p pen) line(c color.Color, width, dash float64, xy ...float64) {
	p.c.SetColor(c)
	p.c.SetLineWidth(vg.Length(width))
	p.c.SetLineDash(nil, 0)
	if dash > 0 {
		p.c.SetLineDash([]vg.Length{vg.Length(dash), vg.Length(dash * .7)}, 0)
	}
	p.c.Stroke(p.path(xy))
}

func (p pen) path(xy []float64) (path vg.Path) {
	for i := 0; i+1 < len(xy); i += 2 {
		if i == 0 {
			path.Move(p.at(xy[i], xy[i+1]))
		} else {
			path.Line(p.at(xy[i], xy[i+1]))
		}
	}
	return path
}

func (p pen) dot(x, y, radius float64, c color.Color) {
	var path vg.Path
	path.Move(p.at(x+radius, y))
	path.Arc(p.at(x, y), vg.Length(radius), 0, 2*math.Pi)
	path.Close()
	p.c.SetColor(c)
	p.c.Fill(path)
}

// An axis maps min..max to from..to on the page, by its scale if it has one.
type axis struct {
	min, max, from, to float64
	scale              func(float64) float64
}

func (a axis) at(v float64) float64 {
	min, max := a.min, a.max
	if a.scale != nil {
		v, min, max = a.scale(v), a.scale(min), a.scale(max)
	}
	if max == min {
		return (a.from + a.to) / 2
	}
	share := (v - min) / (max - min)
	return a.from + math.Max(0, math.Min(1, share))*(a.to-a.from)
}

// zeroTo is a linear axis of 0..max, and its ticks at round figures: zero and at most n more.
func zeroTo(max float64, n int, from, to float64) (axis, []float64) {
	if !(max > 1e-12 && max < 1e300) { // also NaN
		max = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(max/float64(n))))
	for _, m := range []float64{1, 2, 5, 10} {
		if max/(step*m) <= float64(n) {
			step *= m
			break
		}
	}
	var ticks []float64
	for i := 0; float64(i)*step <= max*(1+1e-9); i++ {
		ticks = append(ticks, float64(i)*step)
	}
	return axis{min: 0, max: max, from: from, to: to}, ticks
}

// logAxis is a logarithmic axis of min..max, both above 0, and its ticks at round figures, four or more if possible.
func logAxis(min, max, from, to float64) (a axis, ticks []float64) {
	for _, steps := range [][]float64{{1}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9}} {
		ticks = nil
		for d := math.Floor(math.Log10(min)); d <= math.Log10(max); d++ {
			for _, s := range steps {
				if v := s * math.Pow(10, d); v >= min*(1-1e-9) && v <= max*(1+1e-9) {
					ticks = append(ticks, v)
				}
			}
		}
		if len(ticks) >= 4 {
			break
		}
	}
	return axis{min: min, max: max, from: from, to: to, scale: math.Log10}, ticks
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// clean replaces what cannot be printed: names may come from a file that anybody wrote.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

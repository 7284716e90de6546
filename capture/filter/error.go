package filter

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tapestry-net/tapestry/spell"
)

// A SyntaxError says what is wrong with an expression, and where.
type SyntaxError struct {
	Expr  string
	Pos   int      // in bytes
	Found string   // the word at Pos, empty at the end of the expression
	Why   string   // what is wrong with it, empty if something else must stand there
	Want  []string // what may stand at Pos
	Hint  string   // what was perhaps meant, empty if there is no idea
}

// Error is one line, without the expression.
func (e *SyntaxError) Error() string {
	if e.Found == "" {
		return "filter: at the end: " + e.message()
	}
	return fmt.Sprintf("filter: at byte %d, %.40q: %s", e.Pos, e.Found, e.message())
}

// Caret returns the expression, and under it a caret at the place and what is wrong there, in two lines.
func (e *SyntaxError) Caret() string {
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, e.Expr)
	return line + "\n" + strings.Repeat(" ", utf8.RuneCountInString(e.Expr[:e.Pos])) + "^ " + e.message()
}

func (e *SyntaxError) message() string {
	say := e.Why
	if say == "" {
		say = "want " + list(e.Want)
	}
	if e.Hint != "" {
		say += "; did you mean " + e.Hint + "?"
	}
	return say
}

func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// fail ends Compile.
func (p *parser) fail(t token, format string, args ...any) {
	panic(&SyntaxError{Expr: p.expr, Pos: t.pos, Found: t.text, Why: fmt.Sprintf(format, args...)})
}

// want ends Compile at the word read last.
func (p *parser) want(words ...string) {
	p.rejectWireshark(p.tok)
	e := &SyntaxError{Expr: p.expr, Pos: p.tok.pos, Found: p.tok.text, Want: words}
	switch p.tok.kind {
	case tokName, tokDotted, tokIPv6:
		e.Hint = p.hint(words)
	case tokNumber:
		if slices.Contains(words, "port") && p.tok.num <= 65535 {
			e.Hint = "port " + p.tok.text
		}
	case tokMAC:
		e.Hint = "ether host " + p.tok.text
	}
	panic(e)
}

// hint returns a keyword that the word read last is nearly, and else says how a host is written where it may stand.
func (p *parser) hint(words []string) string {
	best := nearest(p.tok.text, append(words, hints...))
	if best == "" {
		for _, w := range words {
			if w == "host" {
				return "host " + p.tok.text
			}
		}
	}
	return best
}

// nearest returns the keyword that is most like a word, "" if none is.
func nearest(word string, keywords []string) (best string) {
	least := 3
	for _, k := range keywords {
		if isWord(k) && len(k) > 2 && len(word) <= len(k)+2 {
			if d := spell.Distance(word, k); d < least && d < len(k)/2+1 {
				best, least = k, d
			}
		}
	}
	return best
}

func isWord(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == "" }

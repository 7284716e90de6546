package filter

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A SyntaxError says what is wrong with an expression, and where.
type SyntaxError struct {
	Expr  string
	Pos   int      // in bytes
	Found string   // the word at Pos, empty at the end of the expression
	Why   string   // what is wrong; empty: one of Want is expected there
	Want  []string // what may stand at Pos
	Hint  string   // what was perhaps meant, may be empty
}

// Error is one line, without the expression.
func (e *SyntaxError) Error() string {
	if e.Found == "" {
		return "filter: at the end: " + e.message()
	}
	return fmt.Sprintf("filter: at byte %d, %.40q: %s", e.Pos, e.Found, e.message())
}

// Caret returns two lines: the expression, and below it a caret at the position with what is wrong there.
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

// fail ends Compile with an error.
func (p *parser) fail(t token, format string, args ...any) {
	panic(&SyntaxError{Expr: p.expr, Pos: t.pos, Found: t.text, Why: fmt.Sprintf(format, args...)})
}

// want ends Compile: one of words was expected instead of the last token.
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

// hint returns the keyword that the last token resembles; without one, "host" and the token where a host may stand.
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
		if isWord(k) && len(k) > 2 {
			if d := distance(word, k); d < least && d < len(k)/2+1 {
				best, least = k, d
			}
		}
	}
	return best
}

func isWord(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == "" }

// distance counts the letters to insert, delete, replace or swap with their neighbour to make b of a.
func distance(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 3
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0:
				rows[i][j] = j
			case j == 0:
				rows[i][j] = i
			default:
				d := rows[i-1][j-1]
				if a[i-1] != b[j-1] {
					d++
				}
				d = min(d, rows[i-1][j]+1, rows[i][j-1]+1)
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					d = min(d, rows[i-2][j-2]+1)
				}
				rows[i][j] = d
			}
		}
	}
	return rows[len(a)][len(b)]
}

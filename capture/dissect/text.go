package dissect

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

const (
	maxText  = 96  // bytes of one text, escaped
	maxLine  = 512 // bytes of one line
	ellipsis = "…"
)

// clean makes text from the wire safe to show: what is not printable, bytes that are no UTF-8 and the backslash are
// escaped as in a Go string; what is too long ends in "…".
func clean(text string) string {
	if len(text) <= maxText && plain(text) {
		return text
	}
	b := make([]byte, 0, maxText)
	for text != "" {
		r, n := utf8.DecodeRuneInString(text)
		shown := text[:n]
		if r == utf8.RuneError && n == 1 || r == '\\' || !unicode.IsPrint(r) {
			quoted := strconv.Quote(shown)
			shown = quoted[1 : len(quoted)-1]
		}
		if len(b)+len(shown) > maxText-len(ellipsis) {
			return string(append(b, ellipsis...))
		}
		b = append(b, shown...)
		text = text[n:]
	}
	return string(b)
}

// plain tells whether text is printable ASCII without a backslash.
func plain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// clip is b, or as much of it as n bytes hold, whole characters and an "…".
func clip(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	n -= len(ellipsis)
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return append(b[:n], ellipsis...)
}

// A reader takes numbers and bytes from the front of a message. Beyond the end it gives zeros, and what is there.
type reader struct {
	b     []byte
	short bool // more was asked for than there was
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		n, r.short = len(r.b), true
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// num is a number of n bytes, big-endian.
func (r *reader) num(n int) (v int) {
	b := r.bytes(n)
	if len(b) < n {
		return 0
	}
	for _, x := range b {
		v = v<<8 | int(x)
	}
	return v
}

// list is a list of bytes with its length before it, a number of n bytes.
func (r *reader) list(n int) reader { return reader{b: r.bytes(r.num(n))} }

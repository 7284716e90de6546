package plugin

import (
	"fmt"
	"strconv"

	"github.com/tapestry-net/tapestry/spell"
)

// maxID bounds Docker's ids: 64 hex digits, or 25 letters and digits in a swarm.
const maxID = 128

// checkID refuses what is not an id, before it is used in a file name or a link's name.
func checkID(field, id string) error {
	ok := len(id) >= 1 && len(id) <= maxID
	for i := 0; ok && i < len(id); i++ {
		ok = alphanumeric(id[i])
	}
	if !ok {
		return fmt.Errorf("%s %s: want 1 to %d letters and digits", field, quote(id), maxID)
	}
	return nil
}

// linkName tells whether s can name a network link, or begin its name, in at most max bytes.
// It is stricter than the kernel, which would take any byte but '/', ':' and blanks.
func linkName(s string, max int) bool {
	if len(s) < 1 || len(s) > max || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// absent tells whether an address in a request means none.
func absent(s string) bool { return s == "" || s == "<nil>" }

// kind is the name of a decoded value's JSON type.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case float64:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	}
	return "an object"
}

// show makes a string of a request safe for a message: as it is if it is short and printable, else quoted and cut.
func show(s string) string {
	if q := quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func quote(s string) string {
	const enough = 64
	if len(s) > enough {
		return strconv.Quote(s[:enough]) + "…"
	}
	return strconv.Quote(s)
}

// nearest returns the candidate with the fewest edits to s: at most two, and at most a third of the letters behind "tapestry." of
// the candidate. "" if there is none.
func nearest(s string, candidates []string) string {
	best, least := "", 3
	for _, c := range candidates {
		if len(s)-len(c) >= least || len(c)-len(s) >= least {
			continue // that many edits at least
		}
		if d := spell.Distance(s, c); d < least && d*3 <= len(c)-len(ownSpace) {
			best, least = c, d
		}
	}
	return best
}

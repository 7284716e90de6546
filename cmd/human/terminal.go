package human

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// IsTerminal tells whether file, which is written to or read from, is an *os.File of a terminal.
func IsTerminal(file any) bool {
	f, ok := file.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Colours of a terminal (ECMA-48 §8.3.117).
const (
	Plain   = ""
	Faint   = "\x1b[2m"
	Red     = "\x1b[1;31m"
	Green   = "\x1b[32m"
	Yellow  = "\x1b[33m"
	Magenta = "\x1b[35m"
	Cyan    = "\x1b[36m"
	Reset   = "\x1b[0m"
)

// Colours tells whether to use them in file: always, never, or with auto on a terminal that supports them, unless NO_COLOR is set
// (https://no-color.org).
func Colours(when string, file any) bool {
	if when == "auto" {
		return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && IsTerminal(file)
	}
	return when == "always"
}

// Paint writes text in a colour, one of the constants above; Plain leaves it as it is.
func Paint(colour, text string) string {
	if colour == Plain {
		return text
	}
	return colour + text + Reset
}

// Thousands writes a number with commas, for people.
func Thousands(n uint64) string {
	s := Number(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Count writes how many of something there are, with commas.
func Count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Thousands(n) + " " + what + "s"
}

// ShellQuote is a command's words as they would be typed again.
func ShellQuote(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$&|;<>()*?[]{}!#~`") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		b.WriteString(w)
	}
	return b.String()
}

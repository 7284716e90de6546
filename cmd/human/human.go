// Package human writes numbers, times and tables as people read them, and draws on terminals.
package human

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Duration writes a duration as people say it: 40 ms, 12.4 s, 5m 10s.
func Duration(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return Age(int64(d.Round(time.Second) / time.Second))
	case d >= time.Second || d == 0:
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	}
	return fmt.Sprintf("%d ms", max(1, d.Milliseconds()))
}

// Plural writes how many of something there are, without commas.
func Plural[N int | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Percent writes a part of a number; "-" of none.
func Percent(part, all int) string {
	if all == 0 {
		return "-"
	}
	return strconv.FormatFloat(math.Round(float64(part)/float64(all)*1000)/10, 'f', -1, 64) + " %"
}

// Rate writes bytes in a second as bits, in decimal units as networks have them.
func Rate(bytesPerSecond float64) string {
	f, units := bytesPerSecond*8, []string{"b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"}
	for f >= 999.5 && len(units) > 1 {
		f, units = f/1000, units[1:]
	}
	if f < 9.95 && units[0] != "b/s" {
		return fmt.Sprintf("%.1f %s", f, units[0])
	}
	return fmt.Sprintf("%.0f %s", f, units[0])
}

// Printable makes text from a file safe for a terminal: one line, printable characters, bounded length.
func Printable(s string) string {
	s = OneLine(s)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// OneLine replaces what cannot be printed, also line ends, by spaces.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// ShortDuration writes a duration without what is zero at its end: 1h, not 1h0m0s.
func ShortDuration(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

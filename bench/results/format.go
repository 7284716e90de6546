package results

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// FirstLine of a tool's output.
func FirstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// Minutes formats 95 s as 1:35.
func Minutes(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// Span formats the interval, with its coverage if that is less than 95 %, and the failed rounds.
func (x Ratio) Span() string {
	s := cmp.Or(Format(x.Low), "0") + ".." + cmp.Or(Format(x.High), "0")
	if x.Coverage < Confidence {
		s += fmt.Sprintf(" (%.0f %%)", 100*x.Coverage)
	}
	if x.Failed > 0 {
		s += fmt.Sprintf(", %d failed", x.Failed)
	}
	return s
}

// FormatBound formats a bound as "≥ 0.85", or "≤ 1.2" where lower is better; "" for 0.
func FormatBound(bound float64, lower bool) string {
	switch {
	case bound == 0:
		return ""
	case lower:
		return "≤ " + FormatPlain(bound)
	}
	return "≥ " + FormatPlain(bound)
}

// FormatPlain formats a bound or an aim with the digits that it has in Bounds; "" for 0.
func FormatPlain(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%g", v)
}

// Format formats a figure, 0 or more, with two or three significant digits, and all digits before the point; "" for 0.
func Format(v float64) string {
	switch {
	case v == 0:
		return ""
	case v < 0.1:
		return strconv.FormatFloat(v, 'f', 1-int(math.Floor(math.Log10(v))), 64)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

package results

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// FirstLine of what a tool said.
func FirstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// Minutes writes 95 s as 1:35.
func Minutes(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// Span is the interval, with its coverage if that is not what the head promises.
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

// FormatBound writes a bound, "" if there is none.
func FormatBound(bound float64, lower bool) string {
	switch {
	case bound == 0:
		return ""
	case lower:
		return "≤ " + FormatPlain(bound)
	}
	return "≥ " + FormatPlain(bound)
}

// FormatPlain writes a bound as it stands in the plan.
func FormatPlain(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%g", v)
}

// Format writes a figure with two or three digits that count, and all before the point; "" for none.
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

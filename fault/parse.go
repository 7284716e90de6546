package fault

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The values of a Spec as people write them. An error says what would be right, without the value.

// ParsePercent reads a percentage, as a fraction. The sign % is required: 0.02 could mean 2 % or 0.02 %.
func ParsePercent(s string) (float64, error) {
	text, signed := strings.CutSuffix(s, "%")
	x, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || math.IsNaN(x) || x < 0 || x > 100:
		return 0, errors.New("want 0% to 100%, such as 2% or 0.1%")
	case !signed && x > 0 && x < 1:
		return 0, fmt.Errorf("want a percentage with its sign: %s%%, or %s%% if one in %.6g is meant", text,
			strconv.FormatFloat(x*100, 'g', 6, 64), 1/x)
	case !signed:
		return 0, fmt.Errorf("want a percentage with its sign: %s%%", text)
	}
	return x / 100, nil
}

// ParseDelay reads a time.
func ParseDelay(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errors.New("want a duration, such as 50ms or 1.5s")
	}
	return d, nil
}

// ParseBurst reads a mean number of frames.
func ParseBurst(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 1) {
		return 0, errors.New("want a mean number of frames of 1 or more, such as 5")
	}
	return n, nil
}

// ParseSeed reads a seed.
func ParseSeed(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, errors.New("want a number from 1 to 18446744073709551615")
	}
	return n, nil
}

// ParseRate reads bits a second, as tc(8) writes them.
func ParseRate(s string) (int64, error) {
	for unit, bits := range map[string]float64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9} {
		if text, ok := strings.CutSuffix(strings.ToLower(s), unit); ok {
			if x, err := strconv.ParseFloat(text, 64); err == nil && x > 0 && x*bits <= 1e12 {
				return int64(math.Round(x * bits)), nil
			}
		}
	}
	return 0, errors.New("want a number with kbit, mbit or gbit, such as 10mbit")
}

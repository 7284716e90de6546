package pcapng

import (
	"math"
	"math/bits"
)

// clock says what the times and lengths of an interface mean.
type clock struct {
	resolution byte  // if_tsresol: a tick is 10⁻ⁿ s, with the upper bit 2⁻ⁿ s
	offset     int64 // if_tsoffset, seconds
	snap       int   // bytes, 0: no limit
	link       int   // LINKTYPE_ number
}

// time converts ticks to nanoseconds since 1970, or to the nearest value of an int64.
func (c *clock) time(ticks uint64) int64 {
	sec, ns := toSeconds(ticks, c.resolution)
	const most = math.MaxInt64 / 1_000_000_000
	lo, carry := bits.Add64(sec, uint64(c.offset), 0)
	hi := c.offset>>63 + int64(carry) // hi and lo are the seconds, of 128 bits
	switch {
	case hi > 0 || hi == 0 && lo >= most:
		return math.MaxInt64
	case hi < 0 && (int64(lo) >= 0 || int64(lo) < -most):
		return math.MinInt64
	}
	return int64(lo)*1_000_000_000 + ns
}

// toSeconds converts ticks to seconds and nanoseconds, rounded down.
func toSeconds(ticks uint64, resolution byte) (sec uint64, ns int64) {
	const billion = 1_000_000_000
	n := int(resolution & 0x7f)
	binary := resolution&0x80 != 0
	switch {
	case binary && n > 63: // less than a second
		hi, _ := bits.Mul64(ticks, billion)
		return 0, int64(hi >> (n - 64))
	case !binary && n > 19: // less than a second
		if n > 19+9 {
			return 0, 0
		}
		return 0, int64(ticks / pow10(n-9))
	}
	unit := uint64(1) << (n & 63)
	if !binary {
		unit = pow10(n)
	}
	hi, lo := bits.Mul64(ticks%unit, billion)
	q, _ := bits.Div64(hi, lo, unit)
	return ticks / unit, int64(q)
}

func pow10(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}

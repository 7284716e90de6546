// Package fault injects faults: an Injector delays, loses, duplicates, corrupts and reorders frames and limits their rate,
// as its Spec says. A Point is where that is done: between a port of the switch and its device.
//
// Each decision is about one frame as on a wire: super-frames are cut first, so that 1 % of loss never loses 64 KB at
// once, and a rate counts what a wire would carry. Frames that wait are copies, in a queue of bounded size.
package fault

import (
	"fmt"
	"strings"
	"time"
)

// A Spec says which faults one direction has. Probabilities are from 0 to 1, of frames as on a wire. The zero Spec does
// nothing.
type Spec struct {
	Delay time.Duration // of each frame

	// Jitter varies the delay between Delay - Jitter and Delay + Jitter: every 2 * Jitter a new random value is drawn, and
	// in between the delay changes linearly from one to the next. If it fell faster, frames would overtake each other,
	// which only Reorder shall do. The mean is Delay, however dense the traffic is.
	Jitter time.Duration

	Loss float64

	// Burst is the mean number of frames lost in a row, with the same Loss in the long run (E. N. Gilbert, "Capacity of a
	// Burst-Noise Channel", 1960, with nothing lost between bursts); 0: each is lost by itself.
	Burst float64

	Duplicate float64

	// Reorder is the probability that a frame is held back until the next three have passed, or for 50 ms if fewer come.
	Reorder float64

	// Corrupt is the probability that one bit behind the Ethernet header is flipped. Checksums are not adapted.
	Corrupt float64

	// Rate is in bits a second, of whole frames from the Ethernet header on; 0: no limit. It is a token bucket of 2 ms.
	// What comes faster waits in a queue of 100 ms, or of 32 kB if that is more; what the queue has no room for is lost.
	Rate int64

	// Seed makes the faults repeatable: with the same seed and the same frames, the same frames are lost, duplicated, held
	// back and corrupted, whatever else is set.
	Seed uint64

	For time.Duration // after which the fault ends, see Point.Set; 0: never
}

// Bounds of a Spec.
const (
	maxDelay = 10 * time.Second
	maxBurst = 10_000
	minRate  = 1000
	maxRate  = 100_000_000_000
	maxFor   = 30 * 24 * time.Hour
)

// Check tells what is wrong with a Spec, and what would be right.
func (s Spec) Check() error {
	for _, p := range []struct {
		name  string
		share float64
	}{{"loss", s.Loss}, {"duplicate", s.Duplicate}, {"reorder", s.Reorder}, {"corrupt", s.Corrupt}} {
		if !(p.share >= 0 && p.share <= 1) {
			return fmt.Errorf("%s %s: want 0%% to 100%%", p.name, percent(p.share))
		}
	}
	switch {
	case s.Delay < 0 || s.Delay > maxDelay:
		return fmt.Errorf("delay %v: want up to %v", s.Delay, maxDelay)
	case s.Jitter < 0 || s.Jitter > s.Delay:
		return fmt.Errorf("jitter %v: want no more than the delay, which is %v", s.Jitter, s.Delay)
	case s.Burst != 0 && !(s.Burst >= 1 && s.Burst <= maxBurst):
		return fmt.Errorf("burst %v: want a mean of 1 to %d frames", s.Burst, maxBurst)
	case s.Burst != 0 && s.Loss == 0:
		return fmt.Errorf("burst %v: want a loss too, which is to come in bursts", s.Burst)
	case s.Burst != 0 && s.Loss < 1 && s.Loss > s.Burst/(s.Burst+1):
		return fmt.Errorf("loss %s in bursts of %v: want bursts of %.3g or more, since at least one frame is between two",
			percent(s.Loss), s.Burst, s.Loss/(1-s.Loss))
	case s.Rate != 0 && (s.Rate < minRate || s.Rate > maxRate):
		return fmt.Errorf("rate %s: want 1kbit to 100gbit", rateText(s.Rate))
	case s.For < 0 || s.For > maxFor:
		return fmt.Errorf("for %v: want up to %v", s.For, maxFor)
	case s.Delay == 0 && s.Loss == 0 && s.Duplicate == 0 && s.Reorder == 0 && s.Corrupt == 0 && s.Rate == 0:
		return fmt.Errorf("no fault: want a delay, loss, duplicate, reorder, corrupt or rate")
	}
	return nil
}

// String is the text for people: "delay 50ms ± 10ms, loss 2% in bursts of 5".
func (s Spec) String() string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if s.Delay > 0 && s.Jitter > 0 {
		add("delay %v ± %v", s.Delay, s.Jitter)
	} else if s.Delay > 0 {
		add("delay %v", s.Delay)
	}
	if s.Loss > 0 && s.Burst > 0 {
		add("loss %s in bursts of %v", percent(s.Loss), s.Burst)
	} else if s.Loss > 0 {
		add("loss %s", percent(s.Loss))
	}
	if s.Duplicate > 0 {
		add("duplicate %s", percent(s.Duplicate))
	}
	if s.Reorder > 0 {
		add("reorder %s", percent(s.Reorder))
	}
	if s.Corrupt > 0 {
		add("corrupt %s", percent(s.Corrupt))
	}
	if s.Rate > 0 {
		add("rate %s", rateText(s.Rate))
	}
	return strings.Join(words, ", ")
}

// percent writes a probability without the rounding errors of binary fractions.
func percent(share float64) string { return fmt.Sprintf("%.6g%%", share*100) }

func rateText(bits int64) string {
	for _, u := range []struct {
		name string
		bits int64
	}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}} {
		if bits >= u.bits {
			return fmt.Sprintf("%.6g%s", float64(bits)/float64(u.bits), u.name)
		}
	}
	return fmt.Sprintf("%dbit", bits)
}

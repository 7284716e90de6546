package fault

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string // "": it is right
	}{
		{Spec{}, "want a delay, loss"},
		{Spec{Seed: 7, For: time.Minute}, "no fault"},
		{Spec{Loss: 1.2}, "loss 120%: want 0% to 100%"},
		{Spec{Loss: math.NaN()}, "want 0% to 100%"},
		{Spec{Duplicate: -0.1}, "duplicate -10%"},
		{Spec{Reorder: 2}, "reorder 200%"},
		{Spec{Corrupt: math.Inf(1)}, "want 0% to 100%"},
		{Spec{Delay: -1}, "want up to 10s"},
		{Spec{Delay: 11 * time.Second}, "delay 11s: want up to 10s"},
		{Spec{Delay: time.Second, Jitter: 2 * time.Second}, "jitter 2s: want no more than the delay, which is 1s"},
		{Spec{Jitter: time.Second}, "which is 0s"},
		{Spec{Loss: 0.1, Burst: 0.5}, "want a mean of 1 to 10000 frames"},
		{Spec{Loss: 0.1, Burst: math.NaN()}, "want a mean of 1"},
		{Spec{Delay: 1, Burst: 5}, "want a loss too"},
		{Spec{Loss: 0.9, Burst: 5}, "want bursts of 9 or more"},
		{Spec{Loss: 0.9, Burst: 9.1}, ""},
		{Spec{Loss: 1, Burst: 5}, ""},
		{Spec{Rate: 999}, "rate 999bit: want 1kbit to 100gbit"},
		{Spec{Rate: 200e9}, "rate 200gbit"},
		{Spec{Rate: 1e6, For: -1}, "for -1ns"},
		{Spec{Delay: time.Second, Jitter: time.Second, Loss: 0.5, Burst: 1, Duplicate: 1, Reorder: 1, Corrupt: 1, Rate: 1000, Seed: 1, For: time.Hour}, ""},
	} {
		err := c.spec.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.spec, err, c.want)
		}
	}
}

func TestString(t *testing.T) {
	for want, s := range map[string]Spec{
		"": {},
		"delay 50ms ± 10ms, loss 2% in bursts of 5, duplicate 1%, reorder 1%, corrupt 0.1%, rate 10mbit": {Delay: 50 * time.Millisecond,
			Jitter: 10 * time.Millisecond, Loss: 0.02, Burst: 5, Duplicate: 0.01, Reorder: 0.01, Corrupt: 0.001, Rate: 10e6, Seed: 7, For: time.Minute},
		"delay 1.5s, loss 0.07%, rate 1.5gbit": {Delay: 1500 * time.Millisecond, Loss: 0.0007, Rate: 1.5e9},
		"rate 500kbit":                         {Rate: 500e3},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

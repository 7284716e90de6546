package offload

import (
	"errors"
	"testing"
)

func TestFeature(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	for _, tt := range []struct {
		name string
		do   func(f *Feature)
		want error
	}{
		{"new", func(f *Feature) {}, nil},
		{"disabled", func(f *Feature) { f.Disable(first) }, first},
		{"the first reason stays", func(f *Feature) { f.Disable(first); f.Disable(second) }, first},
		{"tried again", func(f *Feature) { f.Disable(first); f.Retry() }, nil},
		{"blocked", func(f *Feature) { f.Block(first); f.Retry() }, first},
		{"blocked after it was disabled", func(f *Feature) { f.Disable(first); f.Block(second); f.Retry() }, second},
		{"disabled after it was blocked", func(f *Feature) { f.Block(first); f.Disable(second); f.Retry() }, first},
		{"enabled", func(f *Feature) { f.Block(first); f.Enable() }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f Feature
			tt.do(&f)
			s := f.Status()
			if s.Why != tt.want || f.Enabled() != (tt.want == nil) || s.Since.IsZero() != (tt.want == nil) {
				t.Errorf("%+v, enabled %v, want %v", s, f.Enabled(), tt.want)
			}
		})
	}
	var f Feature
	f.CountFallback(3)
	f.CountFallback(4)
	if s := f.Status(); s.Refused != 2 || s.Resent != 7 {
		t.Errorf("%+v, want 2 refused, 7 sent again", s)
	}
}

// Package offload keeps which offloads of the kernel are in use at a TAP, a link or a host, and why others are not.
//
// It is apart from ether, which is bytes only: a Feature has state, time and the kernel's errors.
package offload

import (
	"errors"
	"sync/atomic"
	"time"
)

// ErrUnsupported is the reason of a Feature that this kernel does not support.
var ErrUnsupported = errors.New("not supported by this kernel")

// A Feature is one offload of the kernel at one place, such as super-frames of one kind at one TAP. Whoever finds it
// refused disables it and does the kernel's work himself. To ask costs one load. The zero Feature is enabled. All
// methods may be called by several goroutines.
type Feature struct {
	disabled        atomic.Pointer[refusal] // nil: enabled
	refused, resent atomic.Uint64
}

// A refusal is why a Feature is disabled.
type refusal struct {
	why     error
	since   time.Time
	blocked bool // Retry does not enable it
}

// Enabled tells whether the offload is to be used.
func (f *Feature) Enabled() bool { return f.disabled.Load() == nil }

// Disable ends the use of the offload until Retry. It does nothing if the feature is disabled already.
func (f *Feature) Disable(why error) {
	f.disabled.CompareAndSwap(nil, &refusal{why, time.Now(), false})
}

// Block ends the use of the offload until Enable; Retry does not change that.
func (f *Feature) Block(why error) {
	if r := f.disabled.Load(); r == nil || !r.blocked {
		f.disabled.Store(&refusal{why, time.Now(), true})
	}
}

// Retry enables what Disable disabled: the kernel may accept now what it refused then.
func (f *Feature) Retry() {
	if r := f.disabled.Load(); r != nil && !r.blocked {
		f.disabled.CompareAndSwap(r, nil)
	}
}

// Enable enables the offload, also after Block.
func (f *Feature) Enable() { f.disabled.Store(nil) }

// CountFallback counts one refusal, and the frames or datagrams that were sent again without the offload.
func (f *Feature) CountFallback(resent int) {
	f.refused.Add(1)
	f.resent.Add(uint64(resent))
}

// Status is the state of a Feature at one moment.
type Status struct {
	Why     error     // the feature is disabled; nil: it is enabled
	Since   time.Time // it has been disabled
	Blocked bool      // Retry does not enable it
	Refused uint64    // how often the kernel refused
	Resent  uint64    // frames or datagrams that were sent again without the offload
}

// Status reads the feature.
func (f *Feature) Status() Status {
	s := Status{Refused: f.refused.Load(), Resent: f.resent.Load()}
	if r := f.disabled.Load(); r != nil {
		s.Why, s.Since, s.Blocked = r.why, r.since, r.blocked
	}
	return s
}

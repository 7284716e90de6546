package vtep

import (
	"maps"
	"sync/atomic"
)

// Counts are datagrams that were dropped before any switch, by reason: see tunnel.VTEP.RxDropped and KernelDropped.
type Counts struct{ Rx, Kernel map[string]uint64 }

func (c Counts) plus(v *VTEP) Counts {
	add := func(all, more map[string]uint64) map[string]uint64 {
		sum := make(map[string]uint64)
		maps.Copy(sum, all)
		for reason, n := range more {
			sum[reason] += n
		}
		return sum
	}
	sum := Counts{add(c.Rx, nil), add(c.Kernel, nil)}
	for ; v != nil; v = v.second {
		sum = Counts{add(sum.Rx, v.RxDropped()), add(sum.Kernel, v.KernelDropped())}
	}
	return sum
}

// Drops counts what all tunnels of a daemon drop, also those that are closed. The caller of Read and Close holds a lock of his own; Last
// may be called at any time. The zero Drops has counted nothing.
type Drops struct {
	closed Counts
	last   atomic.Pointer[Counts] // its maps are not changed any more
}

// Read reads the counts of the tunnel that is open; nil: none is.
func (d *Drops) Read(open *VTEP) Counts {
	now := d.closed.plus(open)
	d.last.Store(&now)
	return now
}

// Close notes the counts of a tunnel that is about to be closed.
func (d *Drops) Close(v *VTEP) {
	d.closed = d.closed.plus(v)
	closed := d.closed
	d.last.Store(&closed)
}

// Last is what Read has returned last. It must not be changed.
func (d *Drops) Last() Counts {
	if c := d.last.Load(); c != nil {
		return *c
	}
	return Counts{}
}

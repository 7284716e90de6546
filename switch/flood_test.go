package vswitch

import (
	"math/bits"
	"runtime"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// A port that sends from ever new addresses holds its bound and no more memory, and the others keep theirs. What it costs grows with the logarithm of
// the bound only, also while its addresses are seen again and again.
func TestAddressFlood(t *testing.T) {
	addresses := 1_000_000
	if testing.Short() {
		addresses /= 10
	}
	for _, bound := range []int{DefaultPerPort, 1 << 15} {
		s := New(Config{PerPort: bound, PerNetwork: 2 * bound})
		quiet, _ := attach(s, "quiet", false)
		flooder := s.Attach("flooder", discard{}, false, plenty)
		quiet.show(1, 2, 3)
		var before, after runtime.MemStats
		f := []ether.Frame{frame(mac(0), broadcast, 0)}
		send := func(i int) {
			m := mac(100 + i)
			copy(f[0].Bytes()[6:], m[:])
			flooder.Ingress(f)
		}
		for i := range bound {
			send(i)
		}
		quiet.to = discard{} // a wire would keep all numbers
		runtime.GC()
		runtime.ReadMemStats(&before)
		flooder.learned.steps = 0
		refreshed := 0
		for i := bound; i < addresses; i++ {
			if i%1000 == 0 {
				s.Tick(time.Duration(i/1000) * 100 * time.Millisecond) // ten thousand a second
				quiet.show(1, 2, 3)
			}
			send(i)
			if i%16 == 0 {
				send(i - bound/2) // an old one is seen again
				refreshed++
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		for i := 1; i <= 3; i++ {
			if s.at(i) != quiet {
				t.Errorf("bound %d: the quiet port's station %d was forgotten", bound, i)
			}
		}
		if flooder.learned.len() != bound || s.count != bound+3 {
			t.Errorf("bound %d: the flooder has %d addresses, the table %d", bound, flooder.learned.len(), s.count)
		}
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("bound %d: %d bytes more are in use", bound, grown)
		}
		depth := bits.Len(uint(bound)) + 1
		if most := (addresses + refreshed) * 2 * depth; flooder.learned.steps > most {
			t.Errorf("bound %d: %d steps for %d addresses, want %d at most", bound, flooder.learned.steps, addresses, most)
		}
		t.Logf("bound %d: %.1f steps an address", bound, float64(flooder.learned.steps)/float64(addresses))
		balanced(t, s)
	}
}

// A tick looks at what has aged, not at what a port has.
func TestTickCost(t *testing.T) {
	const bound = 1 << 14
	s := New(Config{PerPort: bound, PerNetwork: bound})
	p := s.Attach("", discard{}, false, plenty)
	for i := range bound {
		p.show(i)
	}
	for now := time.Second; now < DefaultAgeing; now += time.Second {
		s.Tick(now)
		p.show(int(now/time.Second) % 2) // two are seen again and again
	}
	if p.learned.steps > bound+int(DefaultAgeing/time.Second) {
		t.Errorf("%d steps before anything has aged", p.learned.steps)
	}
	s.Tick(DefaultAgeing)
	if p.learned.len() != 2 {
		t.Errorf("%d addresses are left, want 2", p.learned.len())
	}
	if most := 2 * bound * bits.Len(bound); p.learned.steps > most {
		t.Errorf("%d steps for %d that have aged, want %d at most", p.learned.steps, bound, most)
	}
	balanced(t, s)
}

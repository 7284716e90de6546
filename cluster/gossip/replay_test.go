package gossip

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Packets that are recorded and sent again change nothing: not the states, not the records, not for a moment.
func TestReplay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		type sent struct {
			from, to netip.Addr
			b        []byte
		}
		var tape []sent
		recording := true
		w.m.taps = append(w.m.taps, func(from, to netip.Addr, b []byte) {
			if recording {
				tape = append(tape, sent{from, to, slices.Clone(b)})
			}
		})
		w.cluster(4)
		for i := range 5 {
			for j, h := range w.hosts {
				h.Publish(member(10*j+i), nil, nil)
			}
			w.sleep(2 * time.Second)
		}
		w.hosts[2].close(context.Background(), true) // it leaves, and comes back when all have forgotten its incarnation
		w.hosts[3].close(context.Background(), false)
		w.sleep(3 * time.Minute)
		w.start(2, 2, 0).Publish(member(99), nil, nil)
		said := []int{4, 14, 99}
		equal := func() bool {
			for i, a := range w.hosts[:3] {
				for j, b := range w.hosts[:3] {
					if i != j && (!a.sees(b) || !a.has(b, said[j])) {
						return false
					}
				}
			}
			return true
		}
		w.within(time.Minute, "all know all", equal)
		w.sleep(time.Minute)
		w.m.mu.Lock()
		recording = false
		w.m.mu.Unlock()
		t.Logf("%d packets", len(tape))
		if len(tape) < 1000 && !raced {
			t.Fatal("too few")
		}
		before := make([]int, 3)
		for i, h := range w.hosts[:3] {
			before[i] = h.count(w.hosts[(i+1)%3].self.ID) + h.count(w.hosts[(i+2)%3].self.ID) + h.count(w.hosts[3].self.ID)
		}
		for n, s := range tape {
			if h := w.m.host(netip.AddrPortFrom(s.to, DefaultPort)); h != nil {
				h.packets <- memoryPacket{s.b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.from, DefaultPort))}
			}
			if n%100 == 99 {
				w.sleep(100 * time.Millisecond)
			}
			if !equal() && !raced { // in real time a slow machine may do in a moment what it should not
				t.Fatalf("packet %d of %d: a view has changed: %v", n, len(tape), w.missing(func(i int) int { return append(said, 0)[i] }))
			}
		}
		w.sleep(30 * time.Second)
		w.within(0, "as before", func() bool { return equal() && !w.hosts[0].sees(w.hosts[3]) && !w.hosts[1].sees(w.hosts[3]) })
		for i, h := range w.hosts[:3] {
			now := h.count(w.hosts[(i+1)%3].self.ID) + h.count(w.hosts[(i+2)%3].self.ID) + h.count(w.hosts[3].self.ID)
			if now != before[i] && !raced {
				t.Errorf("%s: %d updates", h.self.Name, now-before[i])
			}
		}
	})
}

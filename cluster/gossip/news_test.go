package gossip

import (
	"slices"
	"testing"
	"time"
)

// News that were lost are found by the next probe of their host, without that two hosts compare all that they know.
func TestLostNews(t *testing.T) {
	if raced {
		return // it is about which of two things comes first
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.timing.pushPull = time.Hour
		w.cluster(5)
		a, b := w.hosts[0], w.hosts[1]
		b.Publish(member(1), nil, nil)
		w.within(2*time.Second, "it is known", func() bool { return a.has(b, 1) })
		w.sleep(10 * time.Second) // nobody sends it on any more
		a.Engine.mu.Lock()
		p := a.peers[b.self.ID]
		p.record, p.meta.seq, p.meta.digest = nil, 0, digest{} // as if it had not heard of it
		a.Engine.mu.Unlock()
		t.Logf("found after %v", w.within(8*time.Second, "it is known again", func() bool {
			a.Engine.mu.Lock()
			defer a.Engine.mu.Unlock()
			return p.record != nil && p.record.Seq == p.meta.seq
		}))
	})
}

// What one of 30 hosts publishes is known to all within 2 s, and the burst is one or two records.
func TestNews(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := 30
		if raced {
			n = 8
		}
		w.cluster(n)
		w.sleep(time.Minute)
		before := w.hosts[1].count(w.hosts[0].self.ID)
		for i := range 50 {
			w.hosts[0].Publish(member(i), nil, nil)
		}
		took := w.within(2*time.Second, "all know", func() bool {
			return !slices.ContainsFunc(w.hosts[1:], func(h *host) bool { return !h.has(w.hosts[0], 49) })
		})
		e, _ := w.hosts[1].entry(w.hosts[0].self.ID)
		if got := w.hosts[1].count(w.hosts[0].self.ID) - before; e.Seq > 2 || got > 4 {
			t.Errorf("50 records became %d, and %d updates", e.Seq, got)
		}
		t.Logf("%v until 29 others know it; record %d", took, e.Seq)
	})
}

// An answer counts however late it comes: the question that is asked again is the same one. Where answers took longer than the pause between two, none did.
func TestLateAnswer(t *testing.T) {
	if raced {
		return // it is about which of two things comes first
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.cluster(2)
		a, b := w.hosts[0], w.hosts[1]
		w.partition(2, func(int, int, int) bool { return true })
		asked := func(times int) (nonce uint64) {
			w.within(3*time.Second, "it is asked", func() bool {
				a.Engine.mu.Lock()
				defer a.Engine.mu.Unlock()
				p := a.peers[b.self.ID]
				nonce = p.nonce
				return p.tries >= times
			})
			return nonce
		}
		a.Engine.mu.Lock()
		p := a.peers[b.self.ID]
		p.meta.seq++
		p.tries, p.next = 0, time.Now()
		a.Engine.mu.Unlock()
		wake(a.wakeAsk)
		if first, third := asked(1), asked(3); first == 0 || third != first {
			t.Errorf("asked with %x first, and with %x later", first, third)
		}
	})
}

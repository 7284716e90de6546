package gossip

import (
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// What a host of 60, or of as many as TAPESTRY_HOSTS says, holds for each of the others: real members in one process, each with 100 names.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("60 hosts take a while")
	}
	if raced {
		return // what is measured is without the race detector
	}
	inBubble(t, func(t *testing.T, w *world) {
		n := uint64(60)
		if text := os.Getenv("TAPESTRY_HOSTS"); text != "" {
			var err error
			n, err = strconv.ParseUint(text, 10, 8)
			testhost.Must(t, err)
		}
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		began := time.Now()
		for i := range int(n) {
			self := conformance.Self(1 + i)
			c := w.config(i, 0)
			e := New(c)
			testhost.Must(t, e.Start(self, func(cluster.Update) {})) // no directory: the engine alone is measured
			w.hosts = append(w.hosts, &host{Engine: e})
		}
		all := func(is func(*Engine) bool) bool {
			for _, h := range w.hosts {
				if !is(h.Engine) {
					return false
				}
			}
			return true
		}
		w.within(5*time.Minute, "all see all", func() bool {
			return all(func(e *Engine) bool { e.mu.Lock(); defer e.mu.Unlock(); return e.alive == int(n)-1 })
		})
		t.Logf("%d hosts started at once: all see all after %v", n, time.Since(began))
		time.Sleep(time.Minute)
		bare := heap()
		t.Logf("without records: %d bytes for each host that a host knows", (bare-before)/(n*n))
		for i, h := range w.hosts[:10] {
			members, names := hundred(i)
			h.Publish(members, nil, names)
		}
		began = time.Now()
		w.within(time.Minute, "all know it", func() bool {
			return all(func(e *Engine) bool {
				e.mu.Lock()
				defer e.mu.Unlock()
				have := 0
				for _, p := range e.peers {
					if p.record != nil && len(p.record.Names) == 100 {
						have++
					}
				}
				return have >= 9
			})
		})
		t.Logf("ten hosts' news are known to all after %v", time.Since(began))
		time.Sleep(time.Minute)
		t.Logf("a record of 100 names: %d bytes in memory", (heap()-bare)/(n*10))
	})
}

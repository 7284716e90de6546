package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// These tests have the default timing and virtual time: what they measure does not depend on the machine. Go 1.26's race detector
// does not work with testing/synctest (golang.org/issue/76691): there they have real time, a quick timing, and only Patience as a limit.

// A world is some hosts in memory.
type world struct {
	t      *testing.T
	m      *memory
	log    *testhost.Log
	timing timing
	hosts  []*host
}

func inBubble(t *testing.T, f func(*testing.T, *world)) {
	run := func(t *testing.T) {
		w := &world{t: t, m: newMemory(), log: &testhost.Log{}, timing: defaults()}
		if raced {
			w.timing = quick()
		}
		defer func() {
			for _, h := range w.hosts {
				h.close(context.Background(), false)
			}
			if !raced {
				time.Sleep(time.Minute) // memberlist's last probes end by their own limits
			}
		}()
		f(t, w)
	}
	if raced {
		run(t)
		return
	}
	synctest.Test(t, run)
}

// faster is how much shorter pauses are in real time.
const faster = 20

func (w *world) sleep(d time.Duration) {
	if raced {
		d /= faster
	}
	time.Sleep(d)
}

func place(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(1 + i%250)}) }

func (w *world) config(i int, join ...int) Config {
	c := Config{Cluster: "test", Bind: netip.AddrPortFrom(place(i), 0), Keys: [][]byte{testKey}, wire: w.m.at(place(i)), timing: w.timing,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	for _, j := range join {
		c.Join = append(c.Join, place(j).String())
	}
	return c
}

// start starts host i, for the n-th time.
func (w *world) start(i, epoch int, join ...int) *host {
	self := conformance.Self(1 + i)
	self.Epoch = uint64(epoch)
	h := start(w.t, w.config(i, join...), self)
	if i == len(w.hosts) {
		w.hosts = append(w.hosts, h)
	}
	w.hosts[i] = h
	return h
}

// cluster starts n hosts, each of which knows the first one, and waits until they see each other.
func (w *world) cluster(n int) {
	w.start(0, 1)
	for i := 1; i < n; i++ {
		w.start(i, 1, 0)
	}
	w.within(time.Minute, "all hosts see each other", func() bool { return w.all(w.hosts, true) })
}

// all tells whether each of these hosts sees each other one of them, or none.
func (w *world) all(hosts []*host, see bool) bool {
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b && a.sees(b) != see {
				return false
			}
		}
	}
	return true
}

// within waits for something, and returns how long it took.
func (w *world) within(limit time.Duration, what string, is func() bool) time.Duration {
	w.t.Helper()
	if raced {
		limit = testhost.Patience
	}
	began := time.Now()
	for !is() {
		if time.Since(began) > limit {
			for _, h := range w.hosts {
				w.t.Logf("%s refused %+v", h.self.Name, h.Stats())
			}
			w.t.Logf("%s\n%s", strings.Join(w.missing(nil), "\n"), w.log)
			w.t.Fatalf("after %v: not %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// missing names what equal wants and is not so.
func (w *world) missing(said func(i int) int) (all []string) {
	for _, a := range w.hosts {
		for j, b := range w.hosts {
			if a == b {
				continue
			}
			e, _ := a.entry(b.self.ID)
			if !a.sees(b) || said != nil && !a.has(b, said(j)) {
				a.Engine.mu.Lock()
				p := a.peers[b.self.ID]
				all = append(all, fmt.Sprintf("%s of %s: %v epoch %d record %d; %s", a.self.Name, b.self.Name, e.State, e.Epoch, e.Seq, dump(p)))
				a.Engine.mu.Unlock()
			}
		}
	}
	return all
}

// A host that dies is Gone for all others in time; Info says what "in time" is.
func TestDeath(t *testing.T) {
	for _, n := range []int{2, 3, 5, 20} {
		if raced && n > 5 {
			continue
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.cluster(n)
				limit := w.hosts[1].Info().Detects
				if n == 5 && defaults().detects(n) > 15*time.Second {
					t.Errorf("5 hosts: %v is promised", limit)
				}
				var longest time.Duration
				for range 3 {
					w.sleep(time.Duration(rand.N(10_000)) * time.Millisecond)
					victim := rand.N(n)
					h := w.hosts[victim]
					h.close(context.Background(), false)
					rest := slices.Concat(w.hosts[:victim], w.hosts[victim+1:])
					longest = max(longest, w.within(limit, "gone", func() bool {
						return !slices.ContainsFunc(rest, func(other *host) bool { return other.sees(h) })
					}))
					w.start(victim, int(h.self.Epoch)+1, (victim+1)%n)
					w.within(3*time.Second, "back", func() bool { return w.all(w.hosts, true) })
				}
				t.Logf("%d hosts: gone after %v at most, %v is promised", n, longest, limit)
			})
		})
	}
}

// A host that nobody has told of the others, such as the one that all others join, is found when it comes back.
func TestReturn(t *testing.T) {
	for _, left := range []bool{true, false} {
		for i, pause := range []time.Duration{time.Second, 30 * time.Second, 3 * time.Minute} {
			if raced && i > 1 {
				break
			}
			t.Run(fmt.Sprintf("left %v, %v later", left, pause), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					w.cluster(5)
					w.hosts[0].close(context.Background(), left)
					w.sleep(pause)
					w.start(0, 2)
					limit := 3 * time.Second
					if !left && pause == time.Second {
						limit = 5 * time.Second // the others have not missed it, and it waits until one of them asks for it
					}
					t.Logf("back after %v", w.within(limit, "all hosts see each other", func() bool { return w.all(w.hosts, true) }))
				})
			})
		}
	}
}

// A host without anybody to join, which the others have not missed, finds them by what they send it.
func TestHail(t *testing.T) {
	if raced {
		return // without what finds lost news it depends on how busy the machine is
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.timing.pushPull = time.Hour // that would find it, too
		w.cluster(5)
		w.hosts[0].close(context.Background(), false)
		w.sleep(time.Second)
		w.start(0, 2)
		t.Logf("back after %v", w.within(5*time.Second, "all hosts see each other", func() bool { return w.all(w.hosts, true) }))
	})
}

// A host may come back with another address.
func TestMoved(t *testing.T) {
	for _, left := range []bool{true, false} {
		t.Run(fmt.Sprintf("left %v", left), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.cluster(5)
				w.hosts[4].close(context.Background(), left)
				self := conformance.Self(5)
				self.Epoch, self.VTEP = 2, netip.MustParseAddrPort("192.0.2.99:4789")
				w.hosts[4] = start(t, w.config(9, 0), self)
				took := w.within(20*time.Second, "all hosts see each other", func() bool { return w.all(w.hosts, true) })
				for _, h := range w.hosts[:4] {
					if e, _ := h.entry(self.ID); e.Host != self {
						t.Errorf("%s knows %+v", h.self.Name, e.Host)
					}
				}
				t.Logf("back after %v", took)
			})
		})
	}
}

// A partition of any length heals by itself within 10 s, also of hosts that had never seen each other; and the two sides' news of the
// meantime are there then.
func TestPartition(t *testing.T) {
	for name, cut := range map[string]func(i, j, n int) bool{
		"halves": func(i, j, n int) bool { return i < n/2 != (j < n/2) },
		"one":    func(i, _, _ int) bool { return i == 0 },
		"ring":   func(i, j, n int) bool { return j-i != 1 && j-i != n-1 },
		"all":    func(int, int, int) bool { return true },
	} {
		for i, length := range []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute} {
			if raced && i > 0 {
				break // in real time one will do
			}
			t.Run(fmt.Sprintf("%s, %v", name, length), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					const n = 6
					w.cluster(n)
					w.partition(n, cut)
					w.sleep(length)
					for i, h := range w.hosts {
						h.Publish(member(i), nil, nil)
					}
					w.sleep(time.Second)
					w.partition(n, func(int, int, int) bool { return false })
					t.Logf("healed after %v", w.within(10*time.Second, "equal", func() bool { return w.equal(func(i int) int { return i }) }))
				})
			})
		}
	}
	t.Run("before the first meeting", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.partition(2, func(int, int, int) bool { return true })
			w.start(0, 1, 1)
			w.start(1, 1, 0)
			w.sleep(2 * time.Minute)
			if w.hosts[0].sees(w.hosts[1]) || w.hosts[0].Status().Err == nil {
				t.Fatalf("it sees who is cut off: %+v", w.hosts[0].Status())
			}
			w.partition(2, func(int, int, int) bool { return false })
			t.Logf("met after %v", w.within(10*time.Second, "both see each other", func() bool { return w.all(w.hosts, true) }))
		})
	})
}

func (w *world) partition(n int, cut func(i, j, n int) bool) {
	for i := range n {
		for j := i + 1; j < n; j++ {
			w.m.set(place(i), place(j), cut(i, j, n))
		}
	}
}

// equal tells whether all hosts see each other, and know what each one has published last.
func (w *world) equal(said func(i int) int) bool {
	for _, a := range w.hosts {
		for j, b := range w.hosts {
			if a != b && (!a.sees(b) || !a.has(b, said(j))) {
				return false
			}
		}
	}
	return true
}

// Random rounds: links cut, hosts that die, leave and come back, news in between; within 10 s after it all views are equal.
func TestRounds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		r := seeded(t)
		const n = 5
		rounds := 30
		if raced {
			rounds = 10
		}
		w.cluster(n)
		said, epoch := make([]int, n), slices.Repeat([]int{1}, n)
		publish := func(i int) { said[i] = r.IntN(1000); w.hosts[i].Publish(member(said[i]), nil, nil) }
		for i := range n {
			publish(i)
		}
		now := func(i int) int { return said[i] }
		defer func() {
			if t.Failed() {
				t.Log(strings.Join(w.missing(now), "\n"))
			}
		}()
		var longest time.Duration
		for round := range rounds {
			mask := r.Uint64()
			w.partition(n, func(i, j, _ int) bool { return mask>>(i*n+j)&1 == 1 })
			dead := make([]bool, n)
			for range r.IntN(8) {
				w.sleep(time.Duration(r.IntN(20_000)) * time.Millisecond)
				i := r.IntN(n)
				if !dead[i] && r.IntN(3) == 0 {
					w.hosts[i].close(context.Background(), r.IntN(2) == 0)
					dead[i] = true
				} else if !dead[i] {
					publish(i)
				}
			}
			for i := range n {
				if dead[i] {
					epoch[i]++
					w.start(i, epoch[i], (i+1)%n)
					publish(i)
				}
			}
			w.partition(n, func(int, int, int) bool { return false })
			took := w.within(10*time.Second, fmt.Sprintf("equal in round %d", round), func() bool { return w.equal(now) })
			longest = max(longest, took)
			for _, h := range w.hosts {
				if got := len(h.dir.Hosts()); got != n-1 {
					t.Fatalf("round %d: %s knows %d hosts", round, h.self.Name, got)
				}
			}
		}
		t.Logf("equal after %v at most", longest)
	})
}

func dump(p *peer) string {
	if p == nil {
		return "unknown"
	}
	now := time.Now()
	return fmt.Sprintf("at %s, metadata %+v, up %v sure %v newer %v known %v alive %v since %v grace %v, asked %d times, next %v, said %+v", addrOf(&p.node), p.meta, p.up, p.sure, p.newer, p.known,
		p.alive, now.Sub(p.since), p.grace.Sub(now), p.tries, p.next.Sub(now), p.said)
}

package docker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/fake"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

func TestHold(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *holdTest){
		"in order": func(t *testing.T, b *holdTest) {
			web := b.s.port("container", fake.WideID, "web1")
			b.s.frame(web, -1, "a")
			b.want(t, "web1: a@web1")
			web2 := b.s.port("container", fake.WideID, "web2")
			b.s.frame(web, web2, "b") // wanted anyway, and nothing is held yet
			b.want(t, "web2: b@web1>web2")
			b.s.frame(web2, web, "c") // wanted for web1
			b.want(t, "c@web2>web1")
			b.s.frame(web2, -1, "d")
			b.s.frame(web, web2, "e")
			b.s.frame(web2, -1, "f")
			b.s.blocks <- &pcapng.Stats{Interface: web2}
			b.s.blocks <- pcapng.Names{}
			b.want(t, "")
			b.counts(t, 3, 0)
			b.named(fake.WideID, "web2", "web")
			b.want(t, "d@web2 e@web1>web2 f@web2 stats@web2 pcapng.Names")
			b.counts(t, 0, 0)
		},
		"not wanted": func(t *testing.T, b *holdTest) {
			web := b.s.port("container", fake.WideID, "web1")
			other := b.s.port("container", fake.LocalID, "other")
			b.s.frame(other, -1, "a")
			b.s.frame(web, other, "b")
			b.s.blocks <- &pcapng.Stats{Interface: other}
			b.want(t, "web1:")
			b.named(fake.LocalID, "other", "other")
			b.want(t, "other: b@web1>other")
			b.s.frame(other, -1, "c")
			b.s.frame(web, other, "d")
			b.s.blocks <- &pcapng.Stats{Interface: other}
			b.s.blocks <- &pcapng.Stats{Interface: web}
			b.want(t, "d@web1>other stats@other stats@web1")
			b.counts(t, 0, 2)
			b.s.frame(other, web, "e") // of another, but wanted
			b.want(t, "e@other>web1")
			b.s.verdict(other, -1, vswitch.Flooded, "f") // on a network where web is not
			b.want(t, "")
			b.counts(t, 0, 3)
			if got := b.asked; got.Since != 0 {
				t.Errorf("asked %+v: evaluate alone tells the daemon nothing", got)
			}
		},
		"flooded": func(t *testing.T, b *holdTest) {
			b.s.port("container", fake.WideID, "web1")
			other := b.s.port("container", fake.WideID, "other")
			b.s.verdict(other, -1, vswitch.Flooded, "a")
			b.want(t, "web1: other: a@other")
			remote := b.s.port("remote", fake.LocalID, "192.0.2.2:4789")
			b.s.verdict(remote, -1, vswitch.Flooded, "b")
			b.want(t, "")
			b.counts(t, 0, 1)
			web2 := b.s.port("container", fake.LocalID, "web2")
			b.s.verdict(remote, -1, vswitch.Flooded, "c") // to web2, if that is web's
			b.s.frame(remote, -1, "d")
			b.s.frame(web2, -1, "e")
			b.want(t, "")
			b.counts(t, 2, 2)
			b.named(fake.LocalID, "web2", "web")
			b.want(t, "web2: 192.0.2.2:4789: c@192.0.2.2:4789 e@web2")
			b.counts(t, 0, 2)
		},
		"datagrams": func(t *testing.T, b *holdTest) {
			remote := b.s.port("remote", fake.WideID, "192.0.2.2")
			web := b.s.port("container", fake.WideID, "web1")
			other := b.s.port("container", fake.WideID, "other")
			b.named(fake.WideID, "other", "other")
			b.s.rebuilt(remote, other, -1, vswitch.Forwarded, "a")
			b.s.rebuilt(remote, -1, other, vswitch.Forwarded, "b")
			b.s.rebuilt(remote, web, -1, vswitch.Forwarded, "c") // to the remote host, which is no target
			b.s.rebuilt(remote, -1, web, vswitch.Forwarded, "d")
			b.want(t, "web1: 192.0.2.2: c@192.0.2.2 d@192.0.2.2>web1")
			b.counts(t, 0, 2)
		},
		"Docker takes long": func(t *testing.T, b *holdTest) {
			web := b.s.port("container", fake.WideID, "web1")
			slow, never := b.s.port("container", fake.LocalID, "slow"), b.s.port("container", fake.LocalID, "never")
			b.s.frame(slow, -1, "a")
			b.s.frame(web, -1, "b")
			b.s.frame(never, -1, "c")
			time.Sleep(orderWait - 1)
			b.want(t, "web1:")
			time.Sleep(time.Nanosecond)
			b.want(t, "b@web1")
			b.s.frame(slow, -1, "d")
			b.s.frame(web, -1, "e")
			b.want(t, "e@web1")
			b.counts(t, 3, 0)
			fresh := b.s.port("container", fake.LocalID, "fresh")
			b.s.frame(fresh, -1, "x")
			b.s.frame(web, -1, "y")
			b.want(t, "")
			b.named(fake.LocalID, "slow", "web") // late packets come before held ones
			b.want(t, "slow: a@slow d@slow")
			b.named(fake.LocalID, "fresh", "web")
			b.want(t, "fresh: x@fresh y@web1")
			time.Sleep(newPortWait)
			b.evaluate()
			b.want(t, "")
			b.counts(t, 0, 1)
			b.named(fake.LocalID, "never", "web") // too late for c, but in time for f
			b.s.frame(never, -1, "f")
			b.want(t, "never: f@never")
		},
		"a name first": func(t *testing.T, b *holdTest) {
			b.t.networks[fake.WideID] = true
			web, late := b.s.port("container", fake.WideID, "web1"), b.s.port("container", fake.WideID, "late")
			b.s.frame(late, web, "a") // wanted, but what is it called?
			b.s.frame(web, -1, "b")
			b.want(t, "web1:")
			b.named(fake.WideID, "late", "late")
			b.want(t, "late: a@late>web1 b@web1")
			never := b.s.port("container", fake.WideID, "never")
			b.s.frame(never, -1, "c")
			b.s.frame(web, -1, "d")
			b.want(t, "")
			time.Sleep(orderWait)
			b.want(t, "never: c@never d@web1")
			b.s.frame(b.s.port("container", fake.WideID, "last"), -1, "e")
			b.want(t, "")
			b.stop()
			b.want(t, "last: e@last")
			b.counts(t, 0, 0)
		},
		"all, and a name first": func(t *testing.T, b *holdTest) {
			b.judges = false
			other := b.s.port("container", fake.LocalID, "other")
			b.s.frame(other, -1, "a")
			b.s.frame(b.s.port("remote", fake.LocalID, "192.0.2.2:4789"), -1, "b")
			b.want(t, "192.0.2.2:4789:")
			b.named(fake.LocalID, "other", "other")
			b.want(t, "other: a@other b@192.0.2.2:4789")
			b.counts(t, 0, 0)
		},
		"the end": func(t *testing.T, b *holdTest) {
			web := b.s.port("container", fake.WideID, "web1")
			first, second := b.s.port("container", fake.LocalID, "first"), b.s.port("container", fake.LocalID, "second")
			b.s.frame(first, -1, "a")
			b.s.frame(second, -1, "b")
			b.s.frame(web, -1, "c")
			close(b.s.blocks)
			b.want(t, "web1:")
			b.named(fake.LocalID, "first", "web")
			b.want(t, "first: a@first")
			time.Sleep(orderWait)
			b.want(t, "c@web1 EOF")
			b.counts(t, 0, 1)
			if b.ctx.Err() == nil {
				t.Error("the Follower goes on")
			}
		},
		"the end, late": func(t *testing.T, b *holdTest) {
			slow := b.s.port("container", fake.LocalID, "slow")
			b.s.frame(slow, -1, "a")
			time.Sleep(orderWait)
			b.want(t, "")
			b.counts(t, 1, 0)
			close(b.s.blocks)
			b.want(t, "EOF")
			b.counts(t, 0, 1)
		},
		"interrupted": func(t *testing.T, b *holdTest) {
			web := b.s.port("container", fake.WideID, "web1")
			slow := b.s.port("container", fake.LocalID, "slow")
			b.s.frame(slow, -1, "a")
			b.s.frame(web, -1, "b")
			b.want(t, "web1:")
			b.stop()
			b.want(t, "b@web1")
			b.s.frame(slow, -1, "c")
			b.s.frame(web, -1, "d")
			b.want(t, "d@web1")
			b.counts(t, 0, 2)
		},
		"too many frames": func(t *testing.T, b *holdTest) {
			web := b.s.port("container", fake.WideID, "web1")
			slow := b.s.port("container", fake.LocalID, "slow")
			text := strings.Repeat("x", 60000)
			for range 300 {
				b.s.frame(slow, -1, text)
			}
			b.want(t, "web1:")
			fit := uint64(heldBytes / (60000 + 256))
			b.counts(t, fit, 300-fit)
			for i := 0; b.bytes <= queueBytes; i++ { // all of them wait
				b.s.frame(web, -1, text)
				synctest.Wait()
				if i > 2000 {
					t.Fatal("no end")
				}
				if len(b.read) > 0 {
					break
				}
			}
			synctest.Wait()
			if waited := len(b.read); waited < 700 || len(b.queue) != 0 {
				t.Errorf("%d frames went ahead, %d wait", waited, len(b.queue))
			}
			b.counts(t, fit, 300-fit)
			for len(b.read) > 0 {
				<-b.read
			}
			b.named(fake.LocalID, "slow", "web")
			synctest.Wait()
			if got := uint64(len(b.read)); got != fit+1 {
				t.Errorf("%d blocks of the slow one, want %d", got, fit+1)
			}
			b.counts(t, 0, 300-fit)
		},
		"of other origin": func(t *testing.T, b *holdTest) {
			b.s.blocks <- &pcapng.Section{}
			b.s.blocks <- &pcapng.Interface{Name: "eth0"}
			b.s.blocks <- &pcapng.Packet{Data: []byte("a")}
			b.want(t, "*pcapng.Section eth0: a@eth0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHoldTest(t)
				defer func() {
					defer func() { _ = recover() }() // it is closed
					close(b.s.blocks)
				}()
				test(t, b)
			})
		})
	}
}

// TestHoldMany: with many new ports that send to each other, the wanted frames come in order, each once.
func TestHoldMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHoldTest(t)
		var want []string
		const ports, frames = 20, 50
		for i := range ports {
			b.s.port("container", fake.WideID, fmt.Sprint("p", i))
		}
		for j := range frames {
			for i := range ports {
				out := (i*7 + j) % ports
				text := fmt.Sprintf("%d.%d", j, i)
				b.s.frame(i, out, text)
				if i%3 == 0 || out%3 == 0 {
					want = append(want, text)
				}
			}
		}
		for i := range ports {
			time.Sleep(50 * time.Millisecond)
			name := "other"
			if i%3 == 0 {
				name = "web"
			}
			b.named(fake.WideID, fmt.Sprint("p", i), name)
			synctest.Wait()
		}
		close(b.s.blocks)
		synctest.Wait()
		var got []string
		for text := range b.read {
			if frame, _, ok := strings.Cut(text, "@"); ok {
				got = append(got, frame)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d frames, want %d: %q", len(got), len(want), got)
		}
		b.counts(t, 0, uint64(ports*frames-len(want)))
	})
}

// TestHoldCost: a frame that need not be held is passed on without allocation.
func TestHoldCost(t *testing.T) {
	n := &Names{engine: &Engine{Answered: true}}
	n.now.Store(&snapshot{})
	tg := NewTargets(n)
	tg.follows, tg.names["web"] = true, true
	n.update(func(d *snapshot) { d.endpoints["web1"] = endpointInfo{name: "web", container: "c"} })
	s := newFakeStream()
	f := newFollower(t.Context(), s, n, tg, "")
	defer f.stop()
	hidden, web := s.port("remote", fake.WideID, "192.0.2.2"), s.port("container", fake.WideID, "web1")
	s.frame(web, hidden, "a")
	packet := (<-func() chan pcapng.Block { _, _ = <-s.blocks, <-s.blocks; return s.blocks }()).(*pcapng.Packet)
	s.ports = 0
	s.port("remote", fake.WideID, "192.0.2.2")
	s.port("container", fake.WideID, "web1")
	for range 1001 {
		s.blocks <- packet
	}
	if _, err := f.Next(); err != nil {
		t.Fatal(err)
	}
	if got := testing.AllocsPerRun(900, func() { _, _ = f.Next() }); got != 0 {
		t.Errorf("%v allocations for a packet", got)
	}
}

package fabric

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fault"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// pairUp makes a network with two containers, and reads away their announcements.
func pairUp(t *testing.T) (h *host, a, b *device) {
	t.Helper()
	h = newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	h.container(netID(1), ep(2))
	a, b = h.m.dev(t, epID(1)), h.m.dev(t, epID(2))
	a.feed(ep(1).MAC, ep(2).MAC, "hello")
	b.expect(t, "hello")
	b.feed(ep(2).MAC, ep(1).MAC, "hello")
	a.expect(t, "hello")
	return h, a, b
}

// next is the next frame's payload that reaches the container.
func (d *device) next(t *testing.T) string {
	t.Helper()
	select {
	case b := <-d.out:
		return string(bytes.TrimRight(b[14:], "\x00"))
	case <-time.After(time.Minute):
		t.Fatal("nothing comes")
		return ""
	}
}

func (h *host) setFault(name string, d Direction, s fault.Spec) {
	h.t.Helper()
	if err := h.SetFault(h.t.Context(), name, d, s); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) clearFault(name string, d Direction, want int) {
	h.t.Helper()
	if n, err := h.ClearFault(h.t.Context(), name, d); err != nil || n != want {
		h.t.Errorf("cleared %d faults, %v; want %d", n, err, want)
	}
}

// countersOf returns the counters of one port, after a check that all counters add up.
func (h *host) countersOf(name string) PortView {
	h.t.Helper()
	for _, n := range h.Networks() {
		sum := n.Forwarded + n.Flooded
		for _, d := range n.Drops {
			sum += d
		}
		if n.Rx != sum {
			h.t.Errorf("rx is %d, forwarded + flooded + drops are %d", n.Rx, sum)
		}
	}
	for _, p := range h.Ports("") {
		if p.Offered != p.TxFrames+p.Refused {
			h.t.Errorf("offered %d, tx %d, refused %d", p.Offered, p.TxFrames, p.Refused)
		}
		if p.Name == name {
			return p
		}
	}
	h.t.Fatalf("no port %s", name)
	return PortView{}
}

// A fault acts in its direction only, and the counters of both ports add up.
func TestFaultDirections(t *testing.T) {
	h, a, b := pairUp(t)
	seen := &watcher{}
	h.networks[netID(1)].sw.Watch(seen)
	before, beforeB := h.countersOf(epID(1)), h.countersOf(epID(2))

	h.setFault(epID(1), From, fault.Spec{Loss: 1})
	a.feed(ep(1).MAC, ep(2).MAC, "lost from")
	testhost.Until(t, "lost", func() bool { return h.Faults()[0].Stats.Lost == 1 })
	b.feed(ep(2).MAC, ep(1).MAC, "other way")
	a.expect(t, "other way")
	h.clearFault(epID(1), To, 0)
	h.clearFault(epID(1), From, 1)
	a.feed(ep(1).MAC, ep(2).MAC, "free")
	if got := b.next(t); got != "free" {
		t.Errorf("%q arrived, want what was sent when the fault was gone", got)
	}
	testhost.Until(t, "counted", func() bool { return h.countersOf(epID(1)).RxFrames >= before.RxFrames+2 }) // counted after the frame is sent
	p, q := h.countersOf(epID(1)), h.countersOf(epID(2))
	if p.RxFrames != before.RxFrames+2 || p.Drops["fault"] != 1 || q.TxFrames != beforeB.TxFrames+1 {
		t.Errorf("after a loss from a: %+v\n%+v", p, q)
	}

	h.setFault(epID(2), To, fault.Spec{Loss: 1})
	a.feed(ep(1).MAC, ep(2).MAC, "lost to")
	testhost.Until(t, "lost", func() bool { return h.Faults()[0].Stats.Lost == 1 })
	b.feed(ep(2).MAC, ep(1).MAC, "other way")
	a.expect(t, "other way")
	for _, v := range h.Faults() {
		if v.Name != epID(2) || v.Direction != To || v.Kind != "container" || v.Network != netID(1) || v.Left != 0 || v.Spec.Seed == 0 || v.Stats.Lost != 1 || v.Stats.Frames != 1 {
			t.Errorf("fault is %+v", v)
		}
	}
	h.clearFault("", "", 1)
	a.feed(ep(1).MAC, ep(2).MAC, "free again")
	if got := b.next(t); got != "free again" {
		t.Errorf("%q arrived, want what was sent when the fault was gone", got)
	}
	testhost.Until(t, "counted", func() bool { return h.countersOf(epID(2)).TxBytes > q.TxBytes })
	q2 := h.countersOf(epID(2))
	if q2.Offered != q.Offered+2 || q2.Refused != q.Refused+1 || q2.Drops["fault"] != 0 {
		t.Errorf("after a loss to b: %+v, before %+v", q2, q)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if want := "fault in, forwarded to, fault out"; seen.String() != want {
		t.Errorf("shown as faulted: %q, want %q", seen, want)
	}
}

// watcher collects the frames that a fault has changed or lost.
type watcher struct {
	mu  sync.Mutex
	all []string
}

func (w *watcher) Watch(in, out *vswitch.Port, v vswitch.Verdict, f *ether.Frame) {
	payload := string(bytes.TrimRight(f.Bytes()[14:], "\x00"))
	if !strings.HasPrefix(payload, "lost") {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	way := "to"
	if in == nil {
		way = "out"
	} else if out == nil {
		way = "in"
	}
	w.all = append(w.all, v.String()+" "+way)
}

func (w *watcher) String() string { return strings.Join(w.all, ", ") }

// Both directions delay; what is delayed comes in order, and all at once when the fault is cleared.
func TestFaultDelay(t *testing.T) {
	const delay = 10 * time.Second
	for _, d := range []Direction{From, To} {
		h, a, b := pairUp(t)
		name := epID(1)
		if d == To {
			name = epID(2)
		}
		h.setFault(name, d, fault.Spec{Delay: 20 * time.Millisecond})
		began := time.Now()
		a.feed(ep(1).MAC, ep(2).MAC, "late")
		b.expect(t, "late")
		if took := time.Since(began); took < 20*time.Millisecond {
			t.Errorf("%s: a frame took %v", d, took)
		}
		h.setFault(name, d, fault.Spec{Delay: delay})
		began = time.Now()
		const n = 100
		for i := range n {
			a.feed(ep(1).MAC, ep(2).MAC, fmt.Sprint(i))
		}
		testhost.Until(t, "delayed", func() bool { return h.Faults()[0].Stats.Frames == n })
		waiting := h.Faults()[0].Stats.Waiting
		if took := time.Since(began); took < delay && waiting != n { // else the first ones may have gone on by now
			t.Errorf("%s: after %v %d frames wait, want all %d", d, took, waiting, n)
		}
		h.clearFault(name, "", 1)
		for i := range n {
			if got := b.next(t); got != fmt.Sprint(i) {
				t.Fatalf("%s: %q arrived, want %d", d, got, i)
			}
		}
		if len(h.Faults()) != 0 || h.Status().Faults != 0 {
			t.Errorf("%d faults are left", len(h.Faults()))
		}
		h.countersOf(name)
	}
}

// A fault ends by itself, by another, with its port, and with the daemon.
func TestFaultEnds(t *testing.T) {
	h, a, b := pairUp(t)
	h.setFault(epID(1), From, fault.Spec{Loss: 1, For: time.Hour, Seed: 7})
	if f := h.Faults(); len(f) != 1 || f[0].Spec.Seed != 7 || f[0].Left <= 0 || f[0].Left > time.Hour || h.Status().Faults != 1 {
		t.Errorf("faults are %+v", f)
	}
	h.setFault(epID(1), From, fault.Spec{Delay: time.Second, For: 20 * time.Millisecond})
	a.feed(ep(1).MAC, ep(2).MAC, "sooner")
	if f := h.Faults(); len(f) > 1 || len(f) == 1 && f[0].Spec.Loss != 0 {
		t.Errorf("the second fault did not take the first one's place: %+v", f)
	}
	b.expect(t, "sooner")
	testhost.Until(t, "ended", func() bool { return len(h.Faults()) == 0 })

	h.setFault(epID(1), From, fault.Spec{Delay: 10 * time.Second})
	a.feed(ep(1).MAC, ep(2).MAC, "last words")
	testhost.Until(t, "delayed", func() bool { return h.Faults()[0].Stats.Frames == 1 })
	if err := h.DeleteEndpoint(t.Context(), netID(1), epID(1)); err != nil {
		t.Error(err)
	}
	b.expect(t, "last words")
	if f := h.Faults(); len(f) != 0 {
		t.Errorf("faults of an endpoint that is gone: %+v", f)
	}
	h.setFault(epID(2), To, fault.Spec{Delay: 10 * time.Second})
	h.restart()
	if f := h.Faults(); len(f) != 0 {
		t.Errorf("faults after a restart: %+v", f)
	}
	for what, want := range map[string]int{"fault set": 4, "fault cleared": 4} {
		if n := h.log.Count(what); n != want {
			t.Errorf("%d lines of log say %q, want %d", n, what, want)
		}
	}
}

func TestFaultRefused(t *testing.T) {
	h, _, _ := pairUp(t)
	if err := h.SetFault(t.Context(), epID(3), From, fault.Spec{Loss: 1}); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("a fault of nobody: %v", err)
	}
	if _, err := h.ClearFault(t.Context(), epID(3), From); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("clear of nobody: %v", err)
	}
	if err := h.SetFault(t.Context(), epID(1), From, fault.Spec{Loss: 2}); err == nil || !strings.Contains(err.Error(), "want 0% to 100%") {
		t.Errorf("a loss of 200%%: %v", err)
	}
	h.m.die(epID(2))
	h.m.dev(t, epID(2)).snap(errors.New("gone"))
	testhost.Until(t, "down", func() bool { return h.Ports("")[1].Down != "" })
	if err := h.SetFault(t.Context(), epID(2), To, fault.Spec{Loss: 1}); err == nil || !strings.Contains(err.Error(), "is down: gone") {
		t.Errorf("a fault of a port that is down: %v", err)
	}
	if f := h.Faults(); len(f) != 0 {
		t.Errorf("refused faults are set: %+v", f)
	}
}

// A remote host's port has faults too.
func TestFaultRemote(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 1, "127.0.0.9"))
	h.mustNetwork(wide(2, 2, "127.0.0.9"))
	h.container(netID(1), ep(1))
	a := h.m.dev(t, epID(1))
	h.setFault("127.0.0.9", To, fault.Spec{Loss: 1})
	wire := h.countersOf("127.0.0.9").WireTx
	a.feed(ep(1).MAC, broadcast, "to all")
	testhost.Until(t, "lost", func() bool { return h.Faults()[0].Stats.Lost == 1 })
	f := h.Faults()
	if len(f) != 2 || f[0].Kind != "remote" || f[0].Name != "127.0.0.9" || f[1].Network != netID(2) {
		t.Errorf("faults are %+v", f)
	}
	testhost.Until(t, "refused", func() bool { return h.countersOf("127.0.0.9").Refused == 1 }) // counted after the fault has taken the frame
	if p := h.countersOf("127.0.0.9"); p.WireTx != wire {
		t.Errorf("the port is %+v", p)
	}
	h.setFault("127.0.0.9", To, fault.Spec{Delay: 10 * time.Second})
	a.feed(ep(1).MAC, broadcast, "to all")
	testhost.Until(t, "delayed", func() bool { return h.Faults()[0].Stats.Frames == 1 })
	if err := h.RemovePeer(t.Context(), netID(1), addrPort("127.0.0.9:0")); err != nil {
		t.Error(err)
	}
	if f := h.Faults(); len(f) != 1 || f[0].Network != netID(2) {
		t.Errorf("after a peer was removed: %+v", f)
	}
}

// Endpoints are created and removed while faults of others delay frames to them.
func TestFaultChurn(t *testing.T) {
	h, a, _ := pairUp(t)
	h.setFault(epID(1), From, fault.Spec{Delay: time.Millisecond, Jitter: time.Millisecond, Duplicate: 0.5, Reorder: 0.2})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				a.feed(ep(1).MAC, ep(2+i%2).MAC, "x")
				time.Sleep(50 * time.Microsecond)
			}
		}
	})
	for range 30 {
		h.mustEndpoint(netID(1), ep(3))
		h.setFault(epID(3), To, fault.Spec{Delay: time.Millisecond, For: 3 * time.Millisecond})
		time.Sleep(2 * time.Millisecond)
		if err := h.DeleteEndpoint(t.Context(), netID(1), epID(3)); err != nil {
			t.Error(err)
		}
	}
	testhost.Until(t, "passed by any frame", func() bool { return h.Faults()[0].Stats.Passed > 0 }) // who feeds may only start now
	close(stop)
	wg.Wait()
	if s := h.Faults()[0].Stats; s.Frames+s.Duplicated != s.Passed+uint64(s.Waiting) {
		t.Errorf("%+v", s)
	}
	h.countersOf(epID(1))
}

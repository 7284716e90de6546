package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// hundred is a network with 100 names.
func hundred(host int) ([]cluster.Member, []cluster.Name) {
	var names []cluster.Name
	for i := range 100 {
		names = append(names, cluster.Name{Key: "blue", Name: fmt.Sprintf("container-%d-of-host-%d", i, host), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 50, byte(host), byte(i)})}})
	}
	return member(host), names
}

// A host that joins nobody that is there starts, says so once, and joins when there is somebody. Names are resolved at each try, and this
// host's own address among them is no harm.
func TestJoin(t *testing.T) {
	b := newBed(t)
	first, second := b.config(), b.config()
	var mu sync.Mutex
	var known []netip.Addr
	asked := 0
	second.Join = []string{"seed.example", second.Bind.Addr().String(), second.Bind.String()}
	second.resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		if asked++; name != "seed.example" {
			t.Errorf("%s is asked for", name)
		}
		if known == nil {
			return nil, errors.New("no such host")
		}
		return known, nil
	}
	h := start(t, second, conformance.Self(2))
	testhost.Until(t, "it tries again", func() bool { mu.Lock(); defer mu.Unlock(); return asked > 3 })
	if n := b.log.Count("does not answer yet"); n != 1 {
		t.Errorf("told %d times: %s", n, b.log)
	}
	if h.Status().Err == nil {
		t.Error("it sees nobody, and has no error")
	}
	other := start(t, first, conformance.Self(1))
	mu.Lock()
	known = []netip.Addr{address(), second.Bind.Addr(), first.Bind.Addr()} // of the first one nobody answers
	mu.Unlock()
	meet(t, h, other)
	if err := h.Status().Err; err != nil {
		t.Error(err)
	}
}

// Only oneself to join is no error, and nobody is missed.
func TestJoinSelf(t *testing.T) {
	b := newBed(t)
	cfg := b.config()
	cfg.Join = []string{cfg.Bind.Addr().String()}
	h := start(t, cfg, conformance.Self(1))
	time.Sleep(3 * b.timing.join) // nothing is to happen
	if b.log.String() != "" || len(h.dir.Hosts()) > 0 {
		t.Errorf("%s, %+v", b.log, h.dir.Hosts())
	}
}

// After Close sink is not called, and no goroutine is left; before Start, and twice, it is no error.
func TestClose(t *testing.T) {
	was := goleak.IgnoreCurrent()
	b := newBed(t)
	all := b.start(3)
	for i, h := range all {
		h.Publish(member(i), nil, nil)
	}
	testhost.Must(t, all[0].Close(t.Context()))
	all[0].mu.Lock()
	updates := all[0].updates
	all[0].mu.Unlock()
	all[1].Publish(member(9), nil, nil)
	testhost.Until(t, "the others know that it left", func() bool { return !all[1].sees(all[0]) && !all[2].sees(all[0]) && all[2].has(all[1], 9) })
	all[0].Publish(member(8), nil, nil)
	if all[0].mu.Lock(); all[0].updates != updates {
		t.Error("sink is called after Close")
	}
	all[0].mu.Unlock()
	for _, h := range all {
		testhost.Must(t, h.Close(context.Background()))
		testhost.Must(t, h.Close(context.Background()))
	}
	testhost.Must(t, New(b.config()).Close(t.Context()))
	if err := all[0].Start(all[0].self, func(cluster.Update) {}); err == nil {
		t.Error("it starts again")
	}
	testhost.Until(t, "no goroutine is left", func() bool { return goleak.Find(was) == nil })
}

// Records of 100 names come through, and burst after burst the last one counts.
func TestNames(t *testing.T) {
	b := newBed(t)
	all := b.start(5)
	for i, h := range all {
		members, names := hundred(i)
		for n := range 50 {
			h.Publish(members, nil, names[:n])
		}
		h.Publish(members, nil, names)
	}
	for i, h := range all {
		_, names := hundred(i)
		for _, other := range all {
			if other == h {
				continue
			}
			testhost.Until(t, "all names are known", func() bool {
				e, _ := other.entry(h.self.ID)
				return len(e.Names) == 100 && slices.Equal(other.dir.Resolve("blue", names[99].Name), names[99].Addrs)
			})
			if e, _ := other.entry(h.self.ID); e.Seq > 3 {
				t.Errorf("51 records at once became %d", e.Seq)
			}
		}
	}
}

// Forget is what this host knows; the other ones keep what they know.
func TestForget(t *testing.T) {
	b := newBed(t)
	all := b.start(3)
	all[2].Publish(member(2), nil, nil)
	testhost.Until(t, "all know it", func() bool { return all[0].has(all[2], 2) && all[1].has(all[2], 2) })
	id := all[2].self.ID
	if err := all[0].Forget(t.Context(), id); !errors.Is(err, cluster.ErrNotGone) {
		t.Errorf("a living host: %v", err)
	}
	all[2].close(context.Background(), false)
	testhost.Until(t, "it is gone", func() bool { return !all[0].sees(all[2]) && !all[1].sees(all[2]) })
	want := cluster.Want{Block: member(2)[0].Blocks[0]}
	var c *cluster.Conflict
	if _, err := all[0].Claim(t.Context(), "blue", want); !errors.As(err, &c) || c.Host != all[2].self {
		t.Errorf("a dead host's block: %v", err)
	}
	testhost.Must(t, all[0].Forget(t.Context(), id))
	testhost.Until(t, "it is unknown", func() bool { _, ok := all[0].entry(id); return !ok })
	if err := all[0].Forget(t.Context(), id); !errors.Is(err, cluster.ErrNoHost) {
		t.Errorf("forgotten twice: %v", err)
	}
	if _, err := all[0].Claim(t.Context(), "blue", want); err != nil {
		t.Errorf("a forgotten host's block: %v", err)
	}
	if !all[1].has(all[2], 2) {
		t.Error("the other one has forgotten it, too")
	}
	self := all[2].self
	self.Epoch++
	again := start(t, b.config(), self)
	meet(t, again, all[0], all[1])
}

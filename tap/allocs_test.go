//go:build !race

// The race detector makes sync.Pool forget at random.

package tap

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestNoAllocations(t *testing.T) {
	d, w := port(t, Direct)
	arena := make([]byte, 512<<10)
	one := []*ether.Frame{new(ether.Frame)}
	*one[0] = tcp(500).frame(t)
	joined := packet{Payload: packets.Data(20000)}.train(t, 1000)
	super := tcp(30000).super(t, 1000)
	discard := make([]byte, 1<<17)
	empty := func() {
		for {
			if _, err := unix.Read(w.fd, discard); err != nil {
				return
			}
		}
	}
	for _, tt := range []struct {
		name   string
		frames []*ether.Frame
	}{{"one frame", one}, {"joined", joined}, {"super-frame", []*ether.Frame{&super}}} {
		if n := testing.AllocsPerRun(100, func() {
			if sent, _ := d.Send(tt.frames); sent != len(tt.frames) {
				t.Errorf("%s: refused", tt.name)
			}
			empty()
		}); n != 0 {
			t.Errorf("Send, %s: %v allocations", tt.name, n)
		}
	}
	got := 0
	d.Bind(func(frames []ether.Frame) { got += len(frames) })
	packet := append(make([]byte, vnetLen), one[0].Bytes()...)
	deadline := time.Now().Add(time.Minute)
	if n := testing.AllocsPerRun(100, func() {
		before := got
		if _, err := unix.Write(w.fd, packet); err != nil {
			t.Error(err)
			return
		}
		for got == before && time.Now().Before(deadline) {
			if err := d.Drain(arena); err != nil {
				t.Error(err)
				return
			}
		}
	}); n != 0 || got < 100 {
		t.Errorf("Drain: %v allocations, %d frames", n, got)
	}
}

func TestCarrierAllocatesNothing(t *testing.T) {
	for _, mode := range []Mode{Veth, Direct} {
		testhost.Namespace(t)
		s := spec(mode)
		d := create(t, s)
		for _, up := range []bool{false, true} {
			if up {
				testhost.Must(t, netlink.LinkSetUp(link(t, s.Link())))
				carrierIs(t, d, nil)
			}
			if n := testing.AllocsPerRun(100, func() {
				if (d.Carrier() == nil) != up {
					t.Errorf("%s: the link is said to be: %v", mode, d.Carrier())
				}
			}); n != 0 {
				t.Errorf("%s, up %v: %v allocations", mode, up, n)
			}
		}
		testhost.Must(t, d.Close())
		testhost.Must(t, Remove(s))
	}
}

package tunnel

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// After the underlay's link was made anew, with the same address, the group is joined on the new one, and frames leave by it.
func TestGroupRejoin(t *testing.T) {
	for _, tc := range []struct{ name, group, here, there string }{
		{"IPv4", "239.1.1.1", "192.0.2.1", "192.0.2.2"}, {"IPv6", "ff05::100", "fd00:1::1", "fd00:1::2"}, {"IPv6 link-local", "ff02::100", "fd00:1::1", "fd00:1::2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWire(t)
			group := netip.AddrPortFrom(netip.MustParseAddr(tc.group), port)
			here, there := listen(t, tc.here, 1), (*VTEP)(nil)
			near, err := here.Group(vni, Wire{}, group, nil)
			testhost.Must(t, err)
			var far *Link
			w.at(w.there, func() {
				there = listen(t, tc.there, 1)
				far, err = there.Group(vni, Wire{}, group, nil)
				testhost.Must(t, err)
			})
			arrives := func(what string, from, to *Link) {
				t.Helper()
				k := &catch{v: to.v, arena: make([]byte, 1<<20)}
				to.Bind(k.in)
				if sent, _ := from.Send([]*ether.Frame{packet{}.frame(t)}); sent != 1 {
					t.Fatalf("%s: not sent: %+v", what, from.Stats())
				}
				for end := time.Now().Add(testhost.Patience); len(k.frames) == 0; k.drain(t, time.Second) {
					if time.Now().After(end) {
						t.Fatalf("%s: no frame arrives", what)
					}
				}
			}
			arrives("from here", near, far)
			arrives("to here", far, near)
			if moved, err := here.Rejoin(); moved || err != nil {
				t.Errorf("nothing has changed: %v, %v", moved, err)
			}

			w.sh("ip link delete underlay")
			if moved, err := here.Rejoin(); moved || err == nil {
				t.Errorf("without an address: %v, %v", moved, err)
			}
			w.sh("ip link add unused type bridge") // so that the new link has another index
			w.link()
			for i, ns := range []struct {
				v  *VTEP
				at func(func())
			}{{here, func(fn func()) { fn() }}, {there, func(fn func()) { w.at(w.there, fn) }}} {
				ns.at(func() {
					if moved, err := ns.v.Rejoin(); !moved || err != nil {
						t.Errorf("host %d: joined again %v, %v", i+1, moved, err)
					}
				})
			}
			arrives("from here after", near, far)
			arrives("to here after", far, near)
			near.Close()
			if len(here.groups) != 0 || len(here.Receivers()) != 1 {
				t.Errorf("%d groups and %d sockets are left", len(here.groups), len(here.Receivers()))
			}
		})
	}
}

// A train of a host that has no link yet is dropped: nobody knows whether this host cuts what it sends. It is counted, and tells of the
// host, so that the next one arrives.
func TestGroupTrain(t *testing.T) {
	w := newWire(t)
	told := 0
	v := listen(t, "192.0.2.1", 1)
	group, err := v.Group(vni, Wire{}, netip.MustParseAddrPort("239.1.1.1:4789"), func() { told++ })
	testhost.Must(t, err)
	var from *Link
	w.at(w.there, func() {
		from, err = listen(t, "192.0.2.2", 1).Link(vni, v.Local)
		testhost.Must(t, err)
	})
	k := &catch{v: v, arena: make([]byte, 1<<20)}
	group.Bind(k.in)
	const segments = 5
	train := func(done func() bool) {
		t.Helper()
		if sent, _ := from.Send([]*ether.Frame{packet{Payload: packets.Data(segments * 1000)}.super(t, 1000)}); sent != 1 || from.Stats().GSO.Why != nil {
			t.Fatalf("not sent as a train: %+v", from.Stats())
		}
		for end := time.Now().Add(testhost.Patience); !done(); k.drain(t, time.Second) {
			if time.Now().After(end) {
				t.Fatalf("%d frames have come, dropped %v, hosts %v", len(k.frames), v.RxDropped(), group.Strangers())
			}
		}
	}
	train(func() bool { return v.RxDropped()["no_peer"] == segments })
	if hosts := group.Strangers(); !slices.Equal(hosts, []netip.Addr{netip.MustParseAddr("192.0.2.2")}) || told != 1 || len(k.frames) != 0 {
		t.Errorf("hosts that were heard: %v, told %d times; %d frames delivered", hosts, told, len(k.frames))
	}
	learned, err := v.Link(vni, at("192.0.2.2"))
	testhost.Must(t, err)
	learned.Bind(k.in)
	train(func() bool { return len(k.frames) == segments })
	if n := v.RxDropped()["no_peer"]; n != segments {
		t.Errorf("%d dropped", n)
	}
}

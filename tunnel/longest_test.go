package tunnel

import (
	"bytes"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// tagged is f with a VLAN tag, as a container's kernel hands it over.
func tagged(t testing.TB, f *ether.Frame) *ether.Frame {
	t.Helper()
	b := append(bytes.Clone(f.WithHeadroom()[:ether.Headroom+12]), 0x81, 0, 0, 5)
	off := f.Off
	if off.PartialChecksum {
		off.ChecksumStart += 4
	}
	if off.Head > 0 {
		off.Head += 4
	}
	g := ether.Lend(append(b, f.Bytes()[12:]...), off)
	testhost.Must(t, g.Check())
	return &g
}

// TestLongestFrame: the longest frame that the path takes is the path's MTU less the outer IP, UDP and VXLAN headers, whatever is
// in it. A VLAN tag takes four bytes of that, of each segment too.
func TestLongestFrame(t *testing.T) {
	const mtu = 1500
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			l, k := pair(t, family.a, family.b)
			testhost.Must(t, netlink.LinkSetMTU(lo(t), mtu))
			limit := mtu - Overhead(family.a == "::1") + ether.HeaderLen
			if want := map[string]int{"127.0.0.1": 1464, "::1": 1444}[family.a]; limit != want {
				t.Fatalf("the limit is %d, want %d", limit, want)
			}
			for _, tt := range []struct {
				name string
				tag  int // bytes
				tail int // payload of a super-frame's last segment; -1: it is none
			}{{"a frame", 0, -1}, {"a tagged frame", 4, -1}, {"a super-frame", 0, 100}, {"a tagged super-frame", 4, 100}} {
				for more := range 2 {
					segment := limit - tt.tag - 54 + more
					p, segments := packet{Payload: packets.Data(segment)}, 1
					f := p.frame(t)
					if tt.tail >= 0 {
						p.Payload = packets.Data(5*segment + tt.tail)
						f, segments = p.super(t, segment), 6
					}
					if tt.tag > 0 {
						f = tagged(t, f)
					}
					if f.WireLen() != limit+more {
						t.Fatalf("%s has %d bytes on a wire, want %d", tt.name, f.WireLen(), limit+more)
					}
					before, arrive := l.Stats(), segments*(1-more)
					if tt.tail >= 0 && more == 1 {
						arrive = 1 // the last one
					}
					if sent, _ := l.Send([]*ether.Frame{f}); sent != 1-more {
						t.Errorf("%s, %d bytes too long: %d sent", tt.name, more, sent)
					}
					for _, got := range k.drainFrames(t, arrive) {
						if len(got) > limit {
							t.Errorf("%s, %d bytes too long: a frame of %d bytes has come", tt.name, more, len(got))
						}
					}
					if s := l.Stats(); s.Long-before.Long != uint64(segments-arrive) || s.Failed+s.Full != 0 || s.GSO.Why != nil {
						t.Errorf("%s, %d bytes too long: %+v, before %+v", tt.name, more, s, before)
					}
				}
			}
		})
	}
}

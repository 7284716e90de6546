package tunnel

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A train breaks where the traffic class or an inherited TTL changes, and what is refused as a train goes singly with the same marks. The order stays.
func TestTrainOfOneMark(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	var batch []*ether.Frame
	var want [][]byte
	for i, class := range []uint8{2, 2, 3, 3, 3, 2, 0xb8, 0xba} {
		b := markedFrame(t, i == 7, 1, class, 64)
		batch, want = append(batch, lend(b)), append(want, b)
	}
	for _, tc := range []struct {
		wire     Wire
		refuse   bool
		messages int
	}{{Wire{}, false, 5}, {Wire{DSCP: Inherit}, false, 5}, {Wire{DSCP: 46}, false, 5}, {Wire{}, true, 2 + 5}} {
		l.wire = tc.wire
		messages := 0
		l.v.failSend = func(hdrs []mmsghdr) (int, unix.Errno) {
			if tc.refuse && hdrs[0].hdr.Iovlen > 1 {
				return 0, unix.EIO
			}
			messages++
			return 1, 0
		}
		if n, _ := l.Send(batch); n != len(batch) {
			t.Fatalf("%+v: %d sent", tc, n)
		}
		if !tc.refuse && messages != tc.messages {
			t.Errorf("%+v: %d messages", tc, messages)
		}
		same(t, k.drainFrames(t, len(want)), want)
	}
}

// Frames with a VLAN tag go neither out nor in, where the network says so; by default they do.
func TestDropTagged(t *testing.T) {
	host(t)
	a, z := listen(t, "127.0.0.1", 1), listen(t, "127.0.0.2", 1)
	plain, tagged := packet{}.frame(t), packet{Tags: []uint16{5}, Payload: packets.Data(9000)}
	for _, tc := range []struct {
		out, in bool
		come    int
		refused int
	}{{false, false, 1 + 1 + 9, 0}, {false, true, 1, 0}, {true, false, 1, 2}} {
		links, err := a.Links(vni, Wire{DropTagged: tc.out}, at("127.0.0.2"))
		testhost.Must(t, err)
		back, err := z.Links(vni, Wire{DropTagged: tc.in}, at("127.0.0.1"))
		testhost.Must(t, err)
		k, before := &catch{v: z, arena: make([]byte, 512<<10)}, z.RxDropped()["tagged"]
		back[0].Bind(k.in)
		back[0].SetMTU(1450)
		short := tagged
		short.Payload = packets.Data(50)
		if n, _ := links[0].Send([]*ether.Frame{short.frame(t), tagged.super(t, 1000), plain}); n != 3-tc.refused || links[0].Stats().Tagged != uint64(tc.refused) {
			t.Errorf("%+v: %d sent, %+v", tc, n, links[0].Stats())
		}
		k.drainFrames(t, tc.come)
		if n := z.RxDropped()["tagged"] - before; n != uint64(11-tc.come-10*tc.refused/2) {
			t.Errorf("%+v: %d dropped", tc, n)
		}
		a.CloseLinks(links...)
		z.CloseLinks(back...)
	}
}

// What comes in fragments is put together by the kernel, and counted for the host that it came from.
func TestFragmented(t *testing.T) {
	for _, u := range underlays {
		w := newWire(t)
		v := listen(t, u.here, 1)
		k, l := caught(t, v, vni, u.there)
		long, short := packet{UDP: true, Payload: packets.Data(1350)}.frame(t).Bytes(), packet{UDP: true}.frame(t).Bytes()
		w.at(w.there, func() {
			w.sh("ip link set underlay mtu 1280")
			fd, err := bind(netip.AddrPortFrom(netip.MustParseAddr(u.there), 0), false)
			testhost.Must(t, err)
			defer unix.Close(fd)
			level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
			if v.Local.Addr().Is6() {
				level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
			}
			testhost.Must(t, unix.SetsockoptInt(fd, level, option, unix.IP_PMTUDISC_DONT))
			for _, f := range [][]byte{short, long, short} {
				testhost.Must(t, unix.Sendto(fd, encapsulated(t, vni, f), 0, toSockaddr(v.Local)))
			}
		})
		same(t, k.drainFrames(t, 3), [][]byte{short, long, short})
		if s := l.Stats(); s.Fragmented != 1 || s.WireRx != 3 {
			t.Errorf("%s: %+v, want one of three in fragments", u.name, s)
		}
	}
}

package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestSendRefusedInTheMiddle: sendmmsg stops at a datagram too long for the path. What stands before and behind it goes.
func TestSendRefusedInTheMiddle(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	testhost.Must(t, netlink.LinkSetMTU(lo(t), 1000))
	var batch []*ether.Frame
	var want [][]byte
	bytesWant := 0
	for i, n := range []int{100, 100, 2000, 100, 100, 1200, 1200, 1200, 50, 2000} {
		f := packet{UDP: true, ID: uint16(i), Payload: packets.Data(n)}.frame(t)
		batch = append(batch, f)
		if n < 900 {
			want = append(want, room(f))
			bytesWant += f.Len()
		}
	}
	if sent, n := l.Send(batch); sent != len(want) || n != bytesWant {
		t.Errorf("Send = %d, %d, want %d, %d", sent, n, len(want), bytesWant)
	}
	same(t, k.drainFrames(t, len(want)), want)
	if s := l.Stats(); s.Long != 5 || s.WireTx != uint64(len(want)) || s.GSO.Why != nil || s.Failed+s.Full != 0 {
		t.Errorf("%+v, want 5 too long, %d sent, and trains as before", s, len(want))
	}
}

// TestNarrowPath: a path that has become narrower costs the frames that are too long for it, says so
// once, and does not end segmentation.
func TestNarrowPath(t *testing.T) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			l, k := pair(t, family.a, family.b)
			testhost.Must(t, netlink.LinkSetMTU(lo(t), 1300))
			p := packet{Payload: packets.Data(10*1300 + 20)} // the last segment alone is short enough
			if sent, n := l.Send([]*ether.Frame{p.super(t, 1300)}); sent != 0 || n != 0 {
				t.Errorf("Send = %d, %d of a super-frame that lost ten segments", sent, n)
			}
			want := p.segments(t, 1300)
			same(t, k.drainFrames(t, 1), want[10:])
			if s := l.Stats(); s.Long != 10 || s.WireTx != 1 || s.GSO.Why != nil {
				t.Errorf("%+v, want 10 too long, 1 sent, trains as before", s)
			}
			if !l.Narrowed() {
				t.Error("the link does not say that the path has become narrower")
			}
			if l.Narrowed() {
				t.Error("it says so twice")
			}
			mtu, err := l.v.PathMTU(netip.MustParseAddr(family.b))
			if err != nil || mtu != 1300 {
				t.Errorf("PathMTU = %d, %v, want 1300", mtu, err)
			}
			testhost.Must(t, netlink.LinkSetMTU(lo(t), 65536))
			if sent, _ := l.Send([]*ether.Frame{p.super(t, 1300)}); sent != 1 {
				t.Error("the path is wide again, and the frame is refused")
			}
			same(t, k.drainFrames(t, 11), want)
		})
	}
}

// TestTrainsRefused: UDP_SEGMENT without checksums is EINVAL (udp(7)), and stands here for every route
// that cannot segment: the datagrams go one by one, this time and from now on.
func TestTrainsRefused(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	for _, fd := range l.v.send {
		testhost.Must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1))
	}
	p := packet{Payload: packets.Data(30000)}
	want := p.segments(t, 1000)
	before := packet{Payload: packets.Data(40)}.frame(t)
	all := append([][]byte{room(before)}, want...)
	for i := range 2 {
		if sent, n := l.Send([]*ether.Frame{before, p.super(t, 1000)}); sent != 2 || n != 54+40+54+30000 {
			t.Fatalf("Send = %d, %d", sent, n)
		}
		same(t, k.drainFrames(t, 31), all)
		if s := l.Stats(); !errors.Is(s.GSO.Why, unix.EINVAL) || s.GSO.Refused != 1 || s.GSO.Resent != 30 || s.WireTx != uint64(31*(i+1)) || s.Failed+s.Long+s.Full != 0 {
			t.Errorf("%+v", s)
		}
	}
	for _, fd := range l.v.send {
		testhost.Must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 0))
	}
	l.Retry()
	l.Send([]*ether.Frame{p.super(t, 1000)})
	same(t, k.drainFrames(t, 30), want)
	if s := l.Stats(); s.GSO.Why != nil {
		t.Errorf("%+v after the route was repaired, want trains again", s)
	}
}

// TestNoRoute: a peer that cannot be reached costs its own frames only.
func TestNoRoute(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	l, err := v.Link(vni, netip.MustParseAddrPort("192.0.2.1:4789"))
	testhost.Must(t, err)
	p := packet{Payload: packets.Data(3000)}
	if sent, n := l.Send([]*ether.Frame{p.super(t, 1000), packet{}.frame(t)}); sent != 0 || n != 0 {
		t.Errorf("Send = %d, %d", sent, n)
	}
	if s := l.Stats(); s.Failed != 4 || s.WireTx != 0 || l.Narrowed() {
		t.Errorf("%+v, want 4 failed", s)
	}
}

func TestLose(t *testing.T) {
	for errno, want := range map[syscall.Errno]LinkStats{
		syscall.EAGAIN: {Full: 3}, syscall.ENOBUFS: {Full: 3}, syscall.EMSGSIZE: {Long: 3},
		syscall.EPERM: {Failed: 3}, syscall.ENETUNREACH: {Failed: 3},
	} {
		l, w := &Link{}, &sendBatch{lost: make([]bool, 4)}
		for i := range 4 {
			w.datagrams[i].frame = i
		}
		l.countFailed(w, 1, 3, errno)
		if got := l.Stats(); got != want || fmt.Sprint(w.lost) != "[false true true true]" {
			t.Errorf("%v: %+v, lost %v", errno, got, w.lost)
		}
		if l.Narrowed() != (errno == syscall.EMSGSIZE) {
			t.Errorf("%v: narrowed is wrong", errno)
		}
	}
}

package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// from sends datagrams to v as they are, from an address.
func from(t testing.TB, addr string, v *VTEP, datagrams ...[]byte) {
	t.Helper()
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 0)), net.UDPAddrFromAddrPort(v.Local))
	testhost.Must(t, err)
	defer c.Close()
	for _, d := range datagrams {
		_, err := c.Write(d)
		testhost.Must(t, err)
	}
}

func encapsulated(t testing.TB, vni uint32, frame []byte) []byte {
	t.Helper()
	h, err := template(vni)
	testhost.Must(t, err)
	return append(h[:], frame...)
}

// TestRxDropped: what belongs to no link is counted by reason and delivered nowhere.
func TestRxDropped(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	k, _ := caught(t, v, vni, "127.0.0.2")
	k9, l9 := caught(t, v, 9, "127.0.0.3")
	f := packet{Payload: packets.Data(50)}.frame(t).Bytes()
	good := encapsulated(t, vni, f)
	bad := encapsulated(t, vni, f)
	bad[0] = 0
	reserved := encapsulated(t, vni, f)
	reserved[0], reserved[1], reserved[7] = 0xff, 0xff, 0xff

	from(t, "127.0.0.2", v, good, []byte{}, bad, good[:7], reserved, encapsulated(t, 9, f), encapsulated(t, ether.MaxVNI, f), encapsulated(t, 0, f), good)
	from(t, "127.0.0.3", v, good)                        // a peer, of another VNI
	from(t, "127.0.0.4", v, good, encapsulated(t, 9, f)) // nobody
	from(t, "127.0.0.3", v, encapsulated(t, 9, f))
	same(t, k.drainFrames(t, 3), [][]byte{f, f, f})
	same(t, k9.drainFrames(t, 1), [][]byte{f})
	want := map[string]uint64{"short": 2, "bad_header": 1, "no_peer": 6, "ambiguous": 0, "overflow": 0, "reserved": 0, "tagged": 0, "congested": 0}
	if got := v.RxDropped(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dropped %v, want %v", got, want)
	}

	l9.Close() // removed: its datagrams are dropped from now on
	from(t, "127.0.0.3", v, encapsulated(t, 9, f))
	from(t, "127.0.0.2", v, good)
	same(t, k.drainFrames(t, 1), [][]byte{f})
	if got := v.RxDropped()["no_peer"]; got != 7 || len(k9.frames) != 0 {
		t.Errorf("%d dropped, %d frames from a removed peer", got, len(k9.frames))
	}
	if got := l9.Stats().WireRx; got != 1 {
		t.Errorf("the removed link counts %d datagrams, want 1", got)
	}
}

// TestCloseLeavesTheNext: a link closed twice does not take another's place away.
func TestCloseLeavesTheNext(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	_, old := caught(t, v, vni, "127.0.0.2")
	old.Close()
	k, _ := caught(t, v, vni, "127.0.0.2")
	old.Close()
	f := packet{Payload: packets.Data(50)}.frame(t).Bytes()
	from(t, "127.0.0.2", v, encapsulated(t, vni, f))
	same(t, k.drainFrames(t, 1), [][]byte{f})
}

func TestUnbound(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	l, err := v.Link(vni, at("127.0.0.2"))
	testhost.Must(t, err)
	from(t, "127.0.0.2", v, encapsulated(t, vni, packet{}.frame(t).Bytes()))
	k := &catch{v: v, arena: make([]byte, 512<<10)}
	k.drain(t, time.Minute)
	if s := l.Stats(); l.v.RxDropped()["no_peer"] != 1 || s.WireRx != 0 {
		t.Errorf("%+v, want one that came before Bind", s)
	}
}

// TestUnsegmented: a super-frame that its sender's kernel neither cut nor completed, since no device between
// here and there needed it, arrives as one again, with segments that fit the network.
func TestUnsegmented(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	l, err := v.Link(vni, at("127.0.0.2"))
	testhost.Must(t, err)
	l.SetMTU(1450)
	var got []ether.Offload
	l.Bind(func(frames []ether.Frame) {
		for i := range frames {
			testhost.Must(t, frames[i].Check())
			got = append(got, frames[i].Off)
		}
	})
	f := packet{Payload: packets.Data(20000)}.super(t, 1400)
	from(t, "127.0.0.2", v, encapsulated(t, vni, f.Bytes()), encapsulated(t, vni, packet{}.frame(t).Bytes()))
	k := &catch{v: v, arena: make([]byte, 512<<10)}
	for len(got) < 2 && k.drain(t, time.Minute) {
	}
	want := []ether.Offload{{Kind: ether.TCP4, PartialChecksum: true, Head: 54, Segment: 1410, ChecksumStart: 34, ChecksumOffset: 16}, {}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// sendTrain sends a datagram that the kernel hands over as a train with segments of size bytes.
func sendTrain(t testing.TB, addr string, v *VTEP, size int, datagram []byte) {
	t.Helper()
	fd, err := bind(netip.AddrPortFrom(netip.MustParseAddr(addr), 0), false)
	testhost.Must(t, err)
	defer unix.Close(fd)
	testhost.Must(t, unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size))
	testhost.Must(t, unix.Sendto(fd, datagram, 0, toSockaddr(v.Local)))
}

// TestUncutUDP: an inner UDP super-frame that no device has cut looks like a train. It is one frame,
// and the payload that stands where a next datagram would begin is read by nobody else.
func TestUncutUDP(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	l, err := v.Link(vni, at("127.0.0.2"))
	testhost.Must(t, err)
	var got []ether.Offload
	l.Bind(func(frames []ether.Frame) {
		for i := range frames {
			testhost.Must(t, frames[i].Check())
			got = append(got, frames[i].Off)
		}
	})
	other, _ := caught(t, v, 81, "127.0.0.3")
	payload := packets.Data(5000)
	header, err := template(vni)
	testhost.Must(t, err)
	copy(payload[1000-headerLen-14-20-8:], append(header[:], packet{}.frame(t).Bytes()...))
	sendTrain(t, "127.0.0.2", v, 1000, encapsulated(t, vni, packet{UDP: true, Payload: payload}.super(t, 1000).Bytes()))
	k := &catch{v: v, arena: make([]byte, 512<<10)}
	k.drain(t, time.Minute)
	want := []ether.Offload{{Kind: ether.UDP, PartialChecksum: true, Head: 42, Segment: 1000, ChecksumStart: 34, ChecksumOffset: 6}}
	if !slices.Equal(got, want) || len(other.frames) != 0 {
		t.Errorf("got %+v, want %+v; %d frames in another network", got, want, len(other.frames))
	}
}

// TestTrainOfTwoNetworks: a train may hold datagrams of several networks, and each comes to its own.
func TestTrainOfTwoNetworks(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	k, _ := caught(t, v, vni, "127.0.0.2")
	other, _ := caught(t, v, 81, "127.0.0.2")
	f := packet{Payload: packets.Data(100)}.frame(t).Bytes()
	one, two := encapsulated(t, vni, f), encapsulated(t, 81, f)
	sendTrain(t, "127.0.0.2", v, len(one), slices.Concat(one, two, one))
	same(t, k.drainFrames(t, 2), [][]byte{f, f})
	same(t, other.frames, [][]byte{f})
	if got := v.RxDropped(); got["bad_header"]+got["no_peer"]+got["ambiguous"] != 0 {
		t.Errorf("dropped %v", got)
	}
}

// TestTrainOfBefore: a train that came before its host had a second network is not guessed at.
func TestTrainOfBefore(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	k, _ := caught(t, v, vni, "127.0.0.2")
	one := encapsulated(t, vni, packet{Payload: packets.Data(100)}.frame(t).Bytes())
	sendTrain(t, "127.0.0.2", v, len(one), slices.Concat(one, one, one))
	settled(t)
	other, l := caught(t, v, 81, "127.0.0.2")
	k.drainFrames(t, 0)
	if n := v.RxDropped()["ambiguous"]; n != 3 || len(other.frames) != 0 {
		t.Errorf("%d are ambiguous, want 3; %d frames in another network", n, len(other.frames))
	}
	l.Close()
	sendTrain(t, "127.0.0.2", v, len(one), slices.Concat(one, one, one))
	k.drainFrames(t, 3)
}

// TestOwnReceiver: a host has a socket of its own from its second network on, until it is known to cut what it sends. Nothing is lost
// when it goes, and nothing left of it.
func TestOwnReceiver(t *testing.T) {
	host(t)
	for _, family := range families {
		v := listen(t, family.a, 2)
		attended := 0
		v.StartReceiver = func(*Receiver) (func(), error) { attended++; return func() { attended-- }, nil }
		own := func(want int) {
			t.Helper()
			if n := len(v.Receivers()) - 2; n != want || attended != want {
				t.Fatalf("%d sockets of hosts, %d of them attended, want %d", n, attended, want)
			}
		}
		k, l := caught(t, v, vni, family.b)
		own(0)
		_, l81 := caught(t, v, 81, family.b)
		own(1)
		p := l.peer.Load()
		know := func(answers bool) {
			p.answers = answers
			v.Tick(time.Hour) // it is idle until then
			p.phase = idle
		}
		f := packet{Payload: packets.Data(50)}.frame(t).Bytes()
		from(t, family.b, v, encapsulated(t, vni, f))
		know(true)
		own(0)
		same(t, k.drainFrames(t, 1), [][]byte{f})
		know(false)
		own(1)
		another, err := v.Link(82, netip.AddrPortFrom(p.Host.Addr(), port+1)) // another daemon there, for all we know
		testhost.Must(t, err)
		know(true)
		own(1)
		another.Close()
		own(0)
		know(false)
		own(1)
		from(t, family.a, v, encapsulated(t, vni, f)) // not the host's
		if n := v.Receivers()[2]; n.Drain(k.arena) != nil || v.RxDropped()["no_peer"] != 0 {
			t.Error("a host's socket takes what is another's")
		}
		k.drain(t, time.Minute)
		if n := v.RxDropped()["no_peer"]; n != 1 {
			t.Errorf("%d dropped, want 1", n)
		}
		l81.Close()
		own(0)
		l.Close()
		own(0)
		testhost.Must(t, v.Close())
	}
}

// TestHeadroomIsFree: a train's frames may have their headroom written while others are still to be sent.
func TestHeadroomIsFree(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	p := packet{Payload: packets.Data(60000)}
	want := p.segments(t, 1000)
	in := *(*k.v.links.Load())[linkKey{vni, netip.MustParseAddr("127.0.0.1")}].in.Load()
	(*k.v.links.Load())[linkKey{vni, netip.MustParseAddr("127.0.0.1")}].Bind(func(frames []ether.Frame) {
		for i := range frames {
			copy(frames[i].WithHeadroom()[:ether.Headroom], "scribble")
		}
		in(frames)
	})
	if sent, _ := l.Send([]*ether.Frame{p.super(t, 1000)}); sent != 1 {
		t.Fatal("refused")
	}
	same(t, k.drainFrames(t, len(want)), want)
}

// TestLongTrains: newer kernels send twice as many datagrams as we do in one train, more than the
// scratch for one Drain holds.
func TestLongTrains(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	k, _ := caught(t, v, vni, "127.0.0.2")
	h, err := template(vni)
	testhost.Must(t, err)
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.2:0")), net.UDPAddrFromAddrPort(v.Local))
	testhost.Must(t, err)
	defer c.Close()
	var control sendControl
	const size, trains = 60, recvMsgs
	control.addSegment(size)
	var want [][]byte
	for i := range trains {
		var b []byte
		for j := range 128 {
			d := append(h[:], packets.Data(size-headerLen)...)
			d[headerLen], d[headerLen+1] = byte(i), byte(j)
			b, want = append(b, d...), append(want, d[headerLen:])
		}
		_, _, err := c.WriteMsgUDP(b, control.buf[:control.n], nil)
		if errors.Is(err, syscall.EINVAL) {
			testhost.Cannot(t, "the kernel sends no trains of 128 datagrams")
		}
		testhost.Must(t, err)
	}
	same(t, k.drainFrames(t, len(want)), want)
}

func TestCloseLeavesNothing(t *testing.T) {
	host(t)
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		testhost.Must(t, err)
		return len(fds)
	}
	before := count()
	for range 3 {
		v, err := Listen(at("127.0.0.1"), 3)
		testhost.Must(t, err)
		if _, err := Listen(at("127.0.0.1"), 3); err == nil {
			t.Fatal("the port was given twice")
		}
		if _, err := v.PathMTU(netip.MustParseAddr("192.0.2.1")); err == nil {
			t.Error("PathMTU without a route is no error")
		}
		testhost.Must(t, v.Close())
		testhost.Must(t, v.Close())
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors are open, were %d", after, before)
	}
}

func TestDrainClosedSocket(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	r := v.Receivers()[0]
	number := r.Fd()
	testhost.Must(t, v.Close())
	null, err := os.Open(os.DevNull) // the number is another file's soon
	testhost.Must(t, err)
	defer null.Close()
	if int(null.Fd()) != number {
		testhost.Must(t, unix.Dup3(int(null.Fd()), number, unix.O_CLOEXEC))
		defer unix.Close(number)
	}
	if err := r.Drain(make([]byte, 512<<10)); !errors.Is(err, syscall.EBADF) {
		t.Errorf("Drain after Close = %v, want EBADF", err)
	}
}

func BenchmarkDrain(b *testing.B) {
	l, k := pair(b, "127.0.0.1", "127.0.0.2")
	frames := 0
	(*k.v.links.Load())[linkKey{vni, netip.MustParseAddr("127.0.0.1")}].Bind(func(f []ether.Frame) { frames += len(f) })
	f := packet{Payload: packets.Data(60000)}.super(b, 1388)
	batch := []*ether.Frame{f}
	b.SetBytes(int64(f.Len()))
	for b.Loop() {
		b.StopTimer()
		l.Send(batch)
		before := frames
		b.StartTimer()
		for frames == before {
			testhost.Must(b, k.v.receivers[0].Drain(k.arena))
		}
	}
}

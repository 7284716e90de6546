package tunnel

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// host puts the test into a network namespace of its own in which lo is up and has fd00::2.
func host(t testing.TB) netns.NsHandle {
	t.Helper()
	ns := testhost.Namespace(t)
	testhost.OneCore(t)
	testhost.Must(t, netlink.LinkSetUp(lo(t)))
	a, err := netlink.ParseAddr("fd00::2/128")
	testhost.Must(t, err)
	a.Flags = unix.IFA_F_NODAD
	routes, done := make(chan netlink.RouteUpdate), make(chan struct{})
	testhost.Must(t, netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ListExisting: true}))
	defer func() {
		close(done)
		for range routes { // ends when the subscription has
		}
	}()
	testhost.Must(t, netlink.AddrAdd(lo(t), a))
	for deadline := time.After(time.Minute); ; { // the address has its route a moment later
		select {
		case r := <-routes:
			if r.Type == unix.RTM_NEWROUTE && r.Table == unix.RT_TABLE_LOCAL && r.Dst != nil && r.Dst.IP.Equal(a.IP) {
				return ns
			}
		case <-deadline:
			t.Fatal("the test's address has no route after a minute")
		}
	}
}

// settled returns when what the test's thread has sent is in its sockets: it sends one more packet over lo and waits for that. Most
// packets are there when they are sent, but a busy kernel leaves them to a thread of its own (ksoftirqd).
func settled(t testing.TB) {
	t.Helper()
	const protocol = ether.TypeExperimental>>8 | ether.TypeExperimental&0xff<<8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	testhost.Must(t, err)
	defer unix.Close(fd)
	at := &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: 1} // lo, in every namespace
	testhost.Must(t, unix.Bind(fd, at))
	testhost.Must(t, unix.Sendto(fd, []byte("marker"), 0, at))
	testhost.Until(t, "at the end of the kernel's queue", func() bool {
		_, err := unix.Read(fd, make([]byte, 64))
		return err == nil
	})
}

func lo(t testing.TB) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName("lo")
	testhost.Must(t, err)
	return l
}

const port, vni = 4789, 80

// families are the underlays: two addresses of one host each.
var families = []struct{ name, a, b string }{
	{"IPv4 underlay", "127.0.0.1", "127.0.0.2"},
	{"IPv6 underlay", "::1", "fd00::2"},
}

func at(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), port) }

func listen(t testing.TB, addr string, sockets int) *VTEP {
	t.Helper()
	v, err := Listen(at(addr), sockets)
	testhost.Must(t, err)
	t.Cleanup(func() { testhost.Must(t, v.Close()) })
	return v
}

// A catch keeps copies of the frames that a link delivers.
type catch struct {
	v      *VTEP
	arena  []byte
	frames [][]byte
}

func (k *catch) in(frames []ether.Frame) {
	for i := range frames {
		frames[i].CompleteChecksum() // a link to a peer may leave checksums partial
		k.frames = append(k.frames, bytes.Clone(frames[i].Bytes()))
	}
}

// caught gives v a link to host that keeps what comes.
func caught(t testing.TB, v *VTEP, vni uint32, host string) (*catch, *Link) {
	t.Helper()
	l, err := v.Link(vni, at(host))
	testhost.Must(t, err)
	k := &catch{v: v, arena: make([]byte, 512<<10)}
	l.Bind(k.in)
	return k, l
}

// drainFrames drains until n frames have come and nothing is left to be read, and gives them.
func (k *catch) drainFrames(t testing.TB, n int) [][]byte {
	t.Helper()
	for k.drain(t, time.Minute*time.Duration(min(1, max(0, n-len(k.frames))))) {
	}
	if len(k.frames) != n {
		t.Fatalf("%d frames came, want %d", len(k.frames), n)
	}
	got := k.frames
	k.frames = nil
	return got
}

// drain waits for a socket to be readable and drains it; false if none is.
func (k *catch) drain(t testing.TB, wait time.Duration) bool {
	t.Helper()
	settled(t)
	var fds []unix.PollFd
	for _, r := range k.v.Receivers() {
		fds = append(fds, unix.PollFd{Fd: int32(r.Fd()), Events: unix.POLLIN})
	}
	n, err := unix.Poll(fds, int(wait.Milliseconds()))
	for err == unix.EINTR { // a signal of the Go runtime's
		n, err = unix.Poll(fds, int(wait.Milliseconds()))
	}
	testhost.Must(t, err)
	for _, r := range k.v.Receivers() {
		testhost.Must(t, r.Drain(k.arena))
	}
	return n > 0
}

// A packet is one TCP segment or datagram.
type packet packets.Packet

// whole is the packet with what all of a connection's have in common.
func (p packet) whole() packets.Packet {
	p.DF, p.TCP.Ack, p.TCP.ACK, p.TCP.Window = true, 77, true, 501
	return packets.Packet(p)
}

func lend(b []byte) *ether.Frame {
	f := ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})
	return &f
}

// frame is the frame with its checksum complete.
func (p packet) frame(testing.TB) *ether.Frame { return lend(p.whole().Bytes()) }

// super is the super-frame of segments of the given size, as a container's kernel leaves it; with
// size 0, an ordinary frame whose checksum is partial.
func (p packet) super(t testing.TB, segment int) *ether.Frame {
	t.Helper()
	whole := p.whole()
	f := lend(whole.Partial())
	l4, checksum := whole.Layout()
	f.Off = ether.Offload{PartialChecksum: true, ChecksumStart: uint16(l4), ChecksumOffset: uint16(checksum - l4)}
	if segment > 0 {
		f.Off.Kind, f.Off.Head, f.Off.Segment = ether.TCP4, uint16(whole.HeadLen()), uint16(segment)
		switch {
		case p.UDP:
			f.Off.Kind = ether.UDP
		case p.V6:
			f.Off.Kind = ether.TCP6
		}
	}
	testhost.Must(t, f.Check())
	return f
}

// segments is what a super-frame of p has to be cut into.
func (p packet) segments(_ testing.TB, segment int) (frames [][]byte) {
	for _, q := range p.whole().Segments(segment) {
		frames = append(frames, q.Bytes())
	}
	return frames
}

// same checks that the frames that came are those that were wanted, in order.
func same(t testing.TB, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("frame %d of %d: %d bytes that are not the %d wanted\n%x\n%x", i, len(got), len(got[i]), len(want[i]), got[i][:min(60, len(got[i]))], want[i][:min(60, len(want[i]))])
		}
	}
}

// room is a copy of a frame's bytes.
func room(f *ether.Frame) []byte { return bytes.Clone(f.Bytes()) }

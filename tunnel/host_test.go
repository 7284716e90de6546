package tunnel

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host puts the test into a network namespace of its own in which lo is up and has fd00::2.
func host(t testing.TB) netns.NsHandle {
	t.Helper()
	ns := testhost.Namespace(t)
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
		frames[i].CompleteChecksum() // a link to a peer may leave checksums open
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
	var fds []unix.PollFd
	for _, r := range k.v.Receivers() {
		fds = append(fds, unix.PollFd{Fd: int32(r.Fd()), Events: unix.POLLIN})
	}
	n, err := unix.Poll(fds, int(wait.Milliseconds()))
	if err == unix.EINTR {
		return true
	}
	testhost.Must(t, err)
	for _, r := range k.v.Receivers() {
		testhost.Must(t, r.Drain(k.arena))
	}
	return n > 0
}

// A packet is one TCP segment or datagram; gopacket writes it.
type packet struct {
	v6, udp bool
	port    uint16 // of the source
	id      uint16
	seq     uint32
	payload []byte
}

// data is n bytes, no two neighbours alike.
func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// frame is the finished frame.
func (p packet) frame(t testing.TB) *ether.Frame {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0x42, 10, 77, 0, 2}, DstMAC: net.HardwareAddr{2, 0x42, 10, 77, 0, 3}, EthernetType: layers.EthernetTypeIPv4}
	proto := layers.IPProtocolTCP
	if p.udp {
		proto = layers.IPProtocolUDP
	}
	stack := []gopacket.SerializableLayer{eth}
	var network gopacket.NetworkLayer
	if p.v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.ParseIP("fd00:77::2"), DstIP: net.ParseIP("fd00:77::3")}
		network, stack = ip, append(stack, ip)
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: p.id, Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: net.IP{10, 77, 0, 2}, DstIP: net.IP{10, 77, 0, 3}}
		network, stack = ip, append(stack, ip)
	}
	if p.udp {
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.port), DstPort: 51820}
		testhost.Must(t, udp.SetNetworkLayerForChecksum(network))
		stack = append(stack, udp)
	} else {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(p.port), DstPort: 51820, Seq: p.seq, Ack: 77, ACK: true, Window: 501}
		testhost.Must(t, tcp.SetNetworkLayerForChecksum(network))
		stack = append(stack, tcp)
	}
	buf := gopacket.NewSerializeBuffer()
	testhost.Must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(stack, gopacket.Payload(p.payload))...))
	b := buf.Bytes() // gopacket pads to Ethernet's least; a container's kernel does not
	end := 34 + 20 + len(p.payload)
	if p.v6 {
		end += 20
	}
	if p.udp {
		end -= 12
	}
	f := ether.Lend(append(make([]byte, ether.Headroom), b[:end]...), ether.Offload{})
	return &f
}

// super is the super-frame of segments of the given size, as a container's kernel leaves it; with
// size 0, an ordinary frame whose checksum is partial.
func (p packet) super(t testing.TB, segment int) *ether.Frame {
	t.Helper()
	f := p.frame(t)
	b := f.Bytes()
	addresses, l4 := b[26:34], 34
	if p.v6 {
		addresses, l4 = b[22:54], 54
	}
	kind, proto, head, sum := ether.TCP4, uint32(6), l4+20, 16
	if p.v6 {
		kind = ether.TCP6
	}
	if p.udp {
		kind, proto, head, sum = ether.UDP, 17, l4+8, 6
	}
	binary.BigEndian.PutUint16(b[l4+sum:], ether.Sum(addresses, proto+uint32(head-l4+len(p.payload))))
	f.Off = ether.Offload{PartialChecksum: true, ChecksumStart: uint16(l4), ChecksumOffset: uint16(sum)}
	if segment > 0 {
		f.Off.Kind, f.Off.Head, f.Off.Segment = kind, uint16(head), uint16(segment)
	}
	testhost.Must(t, f.Check())
	return f
}

// segments is what a super-frame of p has to be cut into.
func (p packet) segments(t testing.TB, segment int) (frames [][]byte) {
	t.Helper()
	for at := 0; at < len(p.payload); at += segment {
		q := p
		q.payload = p.payload[at:min(at+segment, len(p.payload))]
		q.seq, q.id = p.seq+uint32(at), p.id+uint16(at/segment)
		frames = append(frames, bytes.Clone(q.frame(t).Bytes()))
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

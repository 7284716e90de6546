package fabric

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A liar is a container with CAP_NET_RAW, which Docker gives by default: it sends what it likes, behind virtio-net headers that say what it
// likes (packet(7), PACKET_VNET_HDR). Its network has a container beside it, and another host.
type liar struct {
	t     *testing.T
	dev   *tap.Device
	fd    int
	arena []byte
	sw    *vswitch.Switch
	port  *vswitch.Port
	near  counting
	other *vswitch.Port
	link  *tunnel.Link
	far   *vswitch.Port
	read  uint64        // frames that came from its TAP
	ends  uint64        // of them, frames that say that this is all
	round byte          // of settle
	ended bool          // this round's came
	took  time.Duration // processor time of the last ones
}

// counting is a container that takes all.
type counting struct{ frames, bytes uint64 }

func (c *counting) Send(frames []*ether.Frame) (sent, bytes int) {
	for _, f := range frames {
		bytes += f.Len()
	}
	c.frames, c.bytes = c.frames+uint64(len(frames)), c.bytes+uint64(bytes)
	return len(frames), bytes
}

func newLiar(t *testing.T) *liar {
	t.Helper()
	testhost.Namespace(t)
	testhost.OneCore(t)
	testhost.Output(t, "ip", "link", "set", "lo", "up")
	l := &liar{t: t, arena: make([]byte, 512<<10), sw: vswitch.New(vswitch.Config{})}
	mac := ether.MAC{2, 0x42, 10, 77, 0, 2}
	spec := tap.Spec{ID: epID(1), Tag: "tapestry:test:" + epID(1), Mode: tap.Veth, MAC: mac, MTU: 1450, GSOMax: tap.GSOMax(1450)}
	var err error
	l.dev, err = tap.Create(spec)
	testhost.Must(t, err)
	t.Cleanup(func() {
		testhost.Must(t, l.dev.Close())
		testhost.Must(t, tap.Remove(spec))
	})
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+spec.Link()+"/disable_ipv6", []byte("1"), 0) // its own kernel says nothing
	testhost.Output(t, "ip", "link", "set", spec.Link(), "up")
	inner, err := net.InterfaceByName(spec.Link())
	testhost.Must(t, err)
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	l.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	testhost.Must(t, err)
	t.Cleanup(func() { unix.Close(l.fd) })
	testhost.Must(t, unix.SetsockoptInt(l.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	testhost.Must(t, unix.Bind(l.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: inner.Index}))
	testhost.Until(t, "carrying", func() bool { return l.dev.Carrier() == nil })

	v, err := tunnel.Listen(netip.MustParseAddrPort("127.0.0.1:4789"), 1)
	testhost.Must(t, err)
	t.Cleanup(func() { testhost.Must(t, v.Close()) })
	sink, err := net.ListenPacket("udp", "127.0.0.2:4789") // so that nothing is refused
	testhost.Must(t, err)
	t.Cleanup(func() { sink.Close() })
	l.link, err = v.Link(80, netip.MustParseAddrPort("127.0.0.2:4789"))
	testhost.Must(t, err)

	l.port = l.sw.Attach("liar", l.dev, false, 1450+ether.HeaderLen)
	l.port.Pin(mac)
	l.other = l.sw.Attach("other", &l.near, false, 1450+ether.HeaderLen)
	l.far = l.sw.Attach("far", l.link, true, 1450+ether.HeaderLen)
	l.dev.Bind(func(frames []ether.Frame) {
		l.read += uint64(len(frames))
		for i := range frames {
			if b := frames[i].Bytes(); len(b) == len(ending) && string(b[14:len(b)-1]) == ending[14:len(ending)-1] {
				l.ends++
				l.ended = l.ended || b[len(b)-1] == l.round
			}
		}
		l.port.Ingress(frames)
	})
	return l
}

// ending is a frame to everybody that says that nothing else comes; its last byte is the round.
var ending = "\xff\xff\xff\xff\xff\xff\x02\x42\x0a\x4d\x00\x02\x88\xb5" + fmt.Sprintf("%-46s", "this is all")

// send sends one frame, and tells whether the kernel takes it.
func (l *liar) send(header [10]byte, frame []byte) bool {
	_, err := unix.Write(l.fd, append(header[:], frame...))
	return err == nil
}

// settle has all that was sent arrive.
func (l *liar) settle() {
	l.t.Helper()
	l.took, l.ended = 0, false
	l.round++
	last := []byte(ending)
	last[len(last)-1] = l.round
	for deadline := time.Now().Add(time.Minute); !l.ended; {
		if time.Now().After(deadline) {
			l.t.Fatal("the last frame does not come within a minute")
		}
		l.send([10]byte{}, last) // again, if a queue was full
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.dev.Fd()), Events: unix.POLLIN}}, 20)
			if err == unix.EINTR {
				continue
			}
			if testhost.Must(l.t, err); n == 0 {
				break
			}
			start := processorTime(l.t)
			testhost.Must(l.t, l.dev.Drain(l.arena))
			if l.took += processorTime(l.t) - start; l.ended {
				break
			}
		}
	}
}

// processorTime is that of this thread.
func processorTime(t *testing.T) time.Duration {
	var used unix.Timespec
	testhost.Must(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used))
	return time.Duration(used.Nano())
}

// exact compares all counters.
func (l *liar) exact() {
	l.t.Helper()
	sum := uint64(0)
	for _, n := range l.sw.Tally() {
		sum += n
	}
	if p := l.port.Stats(); sum != l.read || p.Rx.Rx() != l.read {
		l.t.Errorf("%d frames came, the switch counts %d, the port %d", l.read, sum, p.Rx.Rx())
	}
	for _, p := range []*vswitch.Port{l.other, l.far} {
		if s := p.Stats(); s.Offered != s.Tx+s.Refused {
			l.t.Errorf("%s: %+v", p.Name, s)
		}
	}
	if s := l.other.Stats(); s.Tx != l.near.frames || s.TxBytes != l.near.bytes || s.Refused != 0 {
		l.t.Errorf("the container beside has had %+v, and its port counts %+v", l.near, s)
	}
}

// vnet is a virtio-net header.
func vnet(flags, gso uint8, head, segment, start, offset uint16) (h [10]byte) {
	h[0], h[1] = flags, gso
	for i, n := range []uint16{head, segment, start, offset} {
		binary.NativeEndian.PutUint16(h[2+2*i:], n)
	}
	return h
}

// What linux/virtio_net.h has.
const needsSum, tcp4, udp, tcp6, udpL4, ecn = 1, 1, 3, 4, 5, 0x80

// TestLies: whatever a container claims of its segments, a frame of it makes no more than 256 datagrams, and all counters are exact.
func TestLies(t *testing.T) {
	l := newLiar(t)
	super := packets.Packet{DstMAC: broadcast, Payload: packets.Data(60_000)}.Partial()
	datagram := packets.Packet{UDP: true, DstMAC: broadcast, Payload: packets.Data(60_000)}.Partial()
	change := func(b []byte, at int, to ...byte) []byte {
		b = append([]byte(nil), b...)
		copy(b[at:], to)
		return b
	}
	for _, lie := range []struct {
		name   string
		header [10]byte
		frame  []byte
	}{
		{"honest", vnet(needsSum, tcp4, 54, 1398, 34, 16), super},
		{"gso_size 1", vnet(needsSum, tcp4, 54, 1, 34, 16), super},
		{"gso_size 8", vnet(needsSum, tcp4, 54, 8, 34, 16), super},
		{"gso_size 16", vnet(needsSum, tcp4, 54, 16, 34, 16), super},
		{"gso_size 40", vnet(needsSum, tcp4, 54, 40, 34, 16), super},
		{"gso_size 235", vnet(needsSum, tcp4, 54, 235, 34, 16), super},
		{"gso_size 0", vnet(needsSum, tcp4, 54, 0, 34, 16), super},
		{"gso_size 65535", vnet(needsSum, tcp4, 54, 65535, 34, 16), super},
		{"an unknown type", vnet(needsSum, 0x7f, 54, 1398, 34, 16), super},
		{"hdr_len beyond the frame", vnet(needsSum, tcp4, 65535, 1398, 34, 16), super},
		{"hdr_len 0", vnet(needsSum, tcp4, 0, 1398, 34, 16), super},
		{"TCP4 without a sum to complete", vnet(0, tcp4, 54, 1398, 0, 0), super},
		{"TCP6 on IPv4", vnet(needsSum, tcp6, 54, 1398, 34, 16), super},
		{"TCP4 on UDP", vnet(needsSum, tcp4, 54, 1398, 34, 16), datagram},
		{"UDP_L4 of 1200", vnet(needsSum, udpL4, 42, 1200, 34, 6), datagram},
		{"UDP_L4 of 1", vnet(needsSum, udpL4, 42, 1, 34, 6), datagram},
		{"UDP_L4 of 235", vnet(needsSum, udpL4, 42, 235, 34, 6), datagram},
		{"UFO", vnet(needsSum, udp, 42, 1200, 34, 6), datagram},
		{"UFO of 8", vnet(needsSum, udp, 42, 8, 34, 6), datagram},
		{"ECN", vnet(needsSum, tcp4|ecn, 54, 1398, 34, 16), super},
		{"csum_start beyond the frame", vnet(needsSum, tcp4, 54, 1398, 65000, 16), super},
		{"csum_start 0", vnet(needsSum, tcp4, 54, 1398, 0, 16), super},
		{"csum_offset 65535", vnet(needsSum, tcp4, 54, 1398, 34, 65535), super},
		{"all flags", vnet(0xff, tcp4, 54, 1398, 34, 16), super},
		{"IP length 0", vnet(needsSum, tcp4, 54, 1398, 34, 16), change(super, 16, 0, 0)},
		{"doff 15", vnet(needsSum, tcp4, 54, 1398, 34, 16), change(super, 46, 0xf0)},
		{"doff 0", vnet(needsSum, tcp4, 54, 1398, 34, 16), change(super, 46, 0)},
		{"ihl 15", vnet(needsSum, tcp4, 54, 1398, 34, 16), change(super, 14, 0x4f)},
		{"a jumbo frame", vnet(0, 0, 0, 0, 0, 0), super},
		{"13 bytes", vnet(0, 0, 0, 0, 0, 0), super[:13]},
		{"14 bytes", vnet(0, 0, 0, 0, 0, 0), super[:14]},
	} {
		l.settle()
		wire, read := l.link.Stats().WireTx-l.ends, l.read-l.ends
		taken := l.send(lie.header, lie.frame)
		l.settle()
		n, frames := l.link.Stats().WireTx-l.ends-wire, l.read-l.ends-read
		t.Logf("%-32s taken %-5v read %4d, %4d datagrams, %v of processor time", lie.name, taken, frames, n, l.took)
		// What the container's own kernel cuts, within its send, are frames like others: one datagram each.
		if n > max(ether.MaxSegments, frames) {
			t.Errorf("%s: %d datagrams of one send", lie.name, n)
		}
		if lie.name == "honest" && n < 40 {
			t.Errorf("an honest super-frame left as %d datagrams", n)
		}
	}
	l.exact()
}

// TestMutatedFrames: whatever frames a container sends, behind whatever headers, each that comes from its TAP is counted once and exactly, and
// memory does not grow. With TAPESTRY_MILLION=1 a million is sent.
func TestMutatedFrames(t *testing.T) {
	n := 20_000
	if os.Getenv("TAPESTRY_MILLION") == "1" {
		n = 1_000_000
	}
	l := newLiar(t)
	var corpus [][]byte
	for _, p := range []packets.Packet{{Payload: packets.Data(20)}, {UDP: true, Payload: packets.Data(1000)}, {V6: true, Payload: packets.Data(300)}, {UDP: true, V6: true, Payload: packets.Data(9000)},
		{Payload: packets.Data(9000)}, {Tags: []uint16{7}, Payload: packets.Data(60)}, {Tags: []uint16{7, 8}, UDP: true, Payload: packets.Data(60)}} {
		for _, to := range []ether.MAC{broadcast, {2, 0x42, 10, 77, 0, 9}, {1, 0, 0x5e, 1, 1, 1}} {
			p.DstMAC = to
			corpus = append(corpus, p.Bytes(), p.Partial())
		}
	}
	chance := rand.New(rand.NewPCG(5, 6))
	taken := 0
	var before, after runtime.MemStats
	for i := range n {
		b := append([]byte(nil), corpus[chance.IntN(len(corpus))]...)
		for range chance.IntN(5) {
			switch at := chance.IntN(min(len(b), 90)); chance.IntN(4) {
			case 0:
				b[at] = byte(chance.Uint32())
			case 1:
				b[at] ^= 1 << chance.IntN(8)
			case 2:
				b = b[:max(1, chance.IntN(len(b)))]
			case 3:
				copy(b[at:], corpus[chance.IntN(len(corpus))])
			}
		}
		var header [10]byte
		switch chance.IntN(3) {
		case 0:
			kinds := []uint8{0, tcp4, udp, tcp6, udpL4, tcp4 | ecn, 0x7f}
			header = vnet(uint8(chance.IntN(2)), kinds[chance.IntN(len(kinds))], uint16(chance.IntN(100)), uint16(chance.IntN(2000)), uint16(chance.IntN(70)), uint16(chance.IntN(20)))
		case 1:
			for j := range header {
				header[j] = byte(chance.Uint32())
			}
		}
		if l.send(header, b) {
			taken++
		}
		if i%64 == 63 || i == n-1 {
			l.settle()
		}
		if i == n/10 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	l.exact()
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if l.read < uint64(n)/10 {
		t.Errorf("only %d frames of %d came", l.read, n)
	}
	verdicts := make(map[string]uint64)
	for v, n := range l.sw.Tally() {
		if n > 0 {
			verdicts[vswitch.Verdict(v).String()] = n
		}
	}
	t.Logf("%d frames sent, %d taken by the kernel, %d read: %v; the other host has %d datagrams", n, taken, l.read, verdicts, l.link.Stats().WireTx)
}

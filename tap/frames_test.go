package tap

import (
	"bytes"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

var kinds = []struct {
	name string
	p    packet
}{
	{"TCP over IPv4", packet{}},
	{"TCP over IPv6", packet{V6: true}},
	{"UDP over IPv4", packet{UDP: true}},
	{"UDP over IPv6", packet{UDP: true, V6: true}},
}

// port is a plumbed port and its container's end.
func port(t testing.TB, mode Mode) (*Device, *wire) {
	t.Helper()
	testhost.Namespace(t)
	testhost.OneCore(t)
	s := spec(mode)
	d := create(t, s)
	return d, wireOn(t, s.Link())
}

func TestDrain(t *testing.T) {
	for _, mode := range []Mode{Veth, Direct} {
		for _, k := range kinds {
			t.Run(string(mode)+"/"+k.name, func(t *testing.T) {
				d, w := port(t, mode)
				if _, udp := d.Offloads(); k.p.UDP && !udp {
					testhost.Cannot(t, "the kernel's TAP does not segment UDP")
				}
				c := caught(d)
				p := k.p
				p.Payload = packets.Data(1000)
				plain := p.frame(t)
				partial := p.super(t, 0)
				partial.Off.Kind, partial.Off.Head = ether.None, 0
				p.Payload = packets.Data(30000)
				super := p.super(t, 1200)
				for _, f := range []*ether.Frame{&plain, &partial, &super} {
					testhost.Must(t, w.write(f.Off, f.Bytes()))
				}
				for i, want := range []*ether.Frame{&plain, &partial, &super} {
					var got ether.Frame
					if c.frames == nil {
						c.frames = c.drainFrames(t, d, 3-i)
					}
					got, c.frames = c.frames[0], c.frames[1:]
					testhost.Must(t, got.Check())
					if got.Off != want.Off {
						t.Errorf("frame %d: %+v, want %+v", i, got.Off, want.Off)
					}
					if !bytes.Equal(got.Bytes(), want.Bytes()) {
						t.Errorf("frame %d: %d bytes that are not the %d sent", i, got.Len(), want.Len())
					}
					if len(got.WithHeadroom()) != got.Len()+ether.Headroom {
						t.Errorf("frame %d has %d bytes of headroom", i, len(got.WithHeadroom())-got.Len())
					}
				}
			})
		}
	}
}

func TestDrainBudget(t *testing.T) {
	d, w := port(t, Direct)
	f := tcp(10).frame(t)
	const many = readBudget + 10
	for range many {
		testhost.Must(t, w.write(ether.Offload{}, f.Bytes()))
	}
	if err := d.Drain(make([]byte, 512<<10)); err != nil || d.Unbound() != readBudget {
		t.Errorf("one Drain read %d frames (%v), want %d", d.Unbound(), err, readBudget)
	}
	// An arena for one frame at a time, and headroom that is free to write up to the frame before.
	c := &catch{arena: make([]byte, d.vnetLen+ether.MaxFrame)}
	var sizes []int
	d.Bind(func(frames []ether.Frame) { sizes = append(sizes, len(frames)) })
	for range 10 {
		testhost.Must(t, d.Drain(c.arena))
	}
	testhost.Must(t, d.Drain(c.arena))
	if len(sizes) != 10 || sizes[0] != 1 {
		t.Errorf("batches of %v frames, want ten of one", sizes)
	}
}

func TestHeadroomIsFree(t *testing.T) {
	d, w := port(t, Direct)
	var want [][]byte
	for i := range 20 {
		f := tcp(50 + i).frame(t)
		want = append(want, bytes.Clone(f.Bytes()))
		testhost.Must(t, w.write(ether.Offload{}, f.Bytes()))
	}
	var got int
	d.Bind(func(frames []ether.Frame) {
		for i := range frames {
			copy(frames[i].WithHeadroom()[:ether.Headroom], "scribble")
		}
		for i := range frames {
			if !bytes.Equal(frames[i].Bytes(), want[got]) {
				t.Errorf("frame %d was written over", got)
			}
			got++
		}
	})
	testhost.Must(t, d.Drain(make([]byte, 512<<10)))
	if got != len(want) {
		t.Errorf("%d frames came, want %d", got, len(want))
	}
}

func TestSendOrdinary(t *testing.T) {
	d, w := port(t, Veth)
	for _, k := range kinds {
		p := k.p
		p.Payload = packets.Data(500)
		f := p.frame(t)
		if sent, n := d.Send([]*ether.Frame{&f}); sent != 1 || n != f.Len() {
			t.Fatalf("%s: Send = %d, %d", k.name, sent, n)
		}
		if off, got := w.read(); off.Kind != ether.None || !bytes.Equal(got, f.Bytes()) {
			t.Errorf("%s: %+v, %d bytes that are not the %d sent", k.name, off, len(got), f.Len())
		}
	}
}

// TestSendJoined: neighbours of one flow arrive as one super-frame, which cuts into what was sent.
func TestSendJoined(t *testing.T) {
	for _, mode := range []Mode{Veth, Direct} {
		for _, k := range kinds {
			t.Run(string(mode)+"/"+k.name, func(t *testing.T) {
				d, w := port(t, mode)
				if _, udp := d.Offloads(); k.p.UDP && !udp {
					testhost.Cannot(t, "the kernel's TAP does not segment UDP")
				}
				p := k.p
				p.Payload = packets.Data(40*1000 + 300)
				frames := p.train(t, 1000)
				bytesWant := 0
				for _, f := range frames {
					bytesWant += f.Len()
				}
				if sent, n := d.Send(frames); sent != len(frames) || n != bytesWant {
					t.Fatalf("Send = %d, %d, want %d, %d", sent, n, len(frames), bytesWant)
				}
				off, b := w.read()
				if off.Kind == ether.None || off.Segment != 1000 {
					t.Fatalf("%+v came, %d bytes, want a super-frame of 1000-byte segments", off, len(b))
				}
				f := ether.Lend(append(make([]byte, ether.Headroom), b...), off)
				testhost.Must(t, f.Check())
				got := cut(&f)
				if len(got) != len(frames) {
					t.Fatalf("%d segments, want %d", len(got), len(frames))
				}
				for i := range got {
					if !bytes.Equal(got[i], frames[i].Bytes()) {
						t.Fatalf("segment %d is not what was sent", i)
					}
					sumsRight(t, got[i])
				}
				w.quiet()
			})
		}
	}
}

// TestSendJoinedTagged: joined frames with a VLAN tag are nothing that the kernel refuses.
func TestSendJoinedTagged(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d, w := port(t, Direct)
			if _, udp := d.Offloads(); k.p.UDP && !udp {
				testhost.Cannot(t, "the kernel's TAP does not segment UDP")
			}
			p := k.p
			p.Payload = packets.Data(5000)
			frames := p.train(t, 1000)
			for i, f := range frames {
				b := append(bytes.Clone(f.WithHeadroom()[:ether.Headroom+12]), 0x81, 0, 0, 42)
				tagged := ether.Lend(append(b, f.Bytes()[12:]...), ether.Offload{})
				frames[i] = &tagged
			}
			if sent, _ := d.Send(frames); sent != len(frames) {
				t.Fatalf("%d of %d went", sent, len(frames))
			}
			for i := range d.features {
				if !d.features[i].Enabled() {
					t.Errorf("the kernel refused a super-frame of kind %s", ether.Kind(i))
				}
			}
			off, b := w.read()
			f := ether.Lend(append(make([]byte, ether.Headroom), b...), off)
			testhost.Must(t, f.Check())
			got := cut(&f)
			if len(got) != len(frames) {
				t.Fatalf("%+v, %d bytes: %d segments, want %d", off, len(b), len(got), len(frames))
			}
			for i, want := range p.train(t, 1000) { // a packet socket has the tag beside the packet, not in it
				if !bytes.Equal(got[i], want.Bytes()) {
					t.Errorf("segment %d is not what was sent", i)
				}
			}
		})
	}
}

// TestShortFrames: what has fewer bytes behind its Ethernet header than a filter likes to look at passes both ways.
func TestShortFrames(t *testing.T) {
	for _, mode := range []Mode{Veth, Direct} {
		t.Run(string(mode), func(t *testing.T) {
			d, w := port(t, mode)
			c := caught(d)
			for n := range 6 {
				whole := tcp(10).frame(t)
				b := append([]byte(nil), whole.Bytes()[:ether.HeaderLen+n]...)
				b[12], b[13] = 0x88, 0xb5
				testhost.Must(t, w.write(ether.Offload{}, b))
				if got := c.drainFrames(t, d, 1)[0]; !bytes.Equal(got.Bytes(), b) {
					t.Errorf("%d bytes of payload came from the container as %x, want %x", n, got.Bytes(), b)
				}
				f := ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})
				if sent, _ := d.Send([]*ether.Frame{&f}); sent != 1 {
					t.Errorf("%d bytes of payload: refused", n)
				}
				if _, got := w.read(); !bytes.Equal(got, b) {
					t.Errorf("%d bytes of payload came to the container as %x, want %x", n, got, b)
				}
			}
		})
	}
}

// TestSendOrder: runs of several flows, and frames that join nothing, keep their order.
func TestSendOrder(t *testing.T) {
	d, w := port(t, Veth)
	a := packet{Payload: packets.Data(2400)}.train(t, 800)
	b := packet{V6: true, Payload: packets.Data(1000)}.train(t, 500)
	arp := ether.Lend(append(make([]byte, ether.Headroom), append(bytes.Repeat([]byte{0xff}, 6), append([]byte{2, 0x42, 10, 77, 0, 2, 8, 6}, make([]byte, 28)...)...)...), ether.Offload{})
	super := packet{Payload: packets.Data(9000)}.super(t, 1000)
	batch := append(append(append(append([]*ether.Frame{}, a...), &arp), b...), &super, a[0])
	if sent, _ := d.Send(batch); sent != len(batch) {
		t.Fatalf("%d of %d went", sent, len(batch))
	}
	want := []int{54 + 2400, arp.Len(), 74 + 1000, super.Len(), a[0].Len()}
	for i, n := range want {
		if _, got := w.read(); len(got) != n {
			t.Errorf("frame %d has %d bytes, want %d", i, len(got), n)
		}
	}
	w.quiet()
}

// TestJoinRefused: where the kernel refuses super-frames of a kind, frames go one by one, and soon without trying.
func TestJoinRefused(t *testing.T) {
	d, w := port(t, Veth)
	tap, _, _ := Names(id)
	frames := packet{Payload: packets.Data(3000)}.train(t, 1000)
	d.features[ether.TCP4].Disable(unix.EINVAL)
	if sent, _ := d.Send(frames); sent != 3 {
		t.Fatalf("%d of 3 went", sent)
	}
	for i := range frames {
		if off, b := w.read(); off.Kind != ether.None || !bytes.Equal(b, frames[i].Bytes()) {
			t.Errorf("frame %d: %+v, %d bytes", i, off, len(b))
		}
	}
	// EIO, the TAP is down, says nothing about super-frames.
	d.Retry()
	testhost.Must(t, netlink.LinkSetDown(link(t, tap)))
	if sent, n := d.Send(frames); sent != 0 || n != 0 {
		t.Errorf("a TAP that is down took %d frames, %d bytes", sent, n)
	}
	if !d.features[ether.TCP4].Enabled() {
		t.Error("a TAP that is down taught the device not to join")
	}
	testhost.Must(t, netlink.LinkSetUp(link(t, tap)))
	if sent, _ := d.Send(frames); sent != 3 {
		t.Errorf("up again, it took %d of 3 frames", sent)
	}
}

// TestJoinTooLong: a socket that takes messages no longer than a frame, in the queue's place.
func TestJoinTooLong(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 0)
	testhost.Must(t, err)
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	testhost.Must(t, unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10))
	d := &Device{vnetLen: vnetLen, Link: "shim", Queue: Queue{fd: fds[0]}}
	frames := packet{Payload: packets.Data(45000)}.train(t, 1000)
	sent, _ := d.Send(frames)
	if sent == 0 {
		t.Fatal("nothing went one by one")
	}
	for i := range sent { // the socket's buffer holds the first few
		b := make([]byte, 2000)
		n, err := unix.Read(fds[1], b)
		testhost.Must(t, err)
		if !bytes.Equal(b[:n], append(make([]byte, vnetLen), frames[i].Bytes()...)) {
			t.Fatalf("frame %d is not what was sent", i)
		}
	}
	if !d.features[ether.TCP4].Enabled() {
		t.Error("one message that was too long taught the device not to join")
	}
}

func TestSendRunt(t *testing.T) {
	d, w := port(t, Veth)
	good := tcp(10).frame(t)
	runt := ether.Lend(make([]byte, ether.Headroom+13), ether.Offload{})
	none := ether.Lend(nil, ether.Offload{})
	if sent, n := d.Send([]*ether.Frame{&runt, &good, &none}); sent != 1 || n != good.Len() {
		t.Errorf("Send = %d, %d, want 1, %d", sent, n, good.Len())
	}
	w.read()
	w.quiet()
	if sent, n := d.Send(nil); sent != 0 || n != 0 {
		t.Errorf("Send of nothing = %d, %d", sent, n)
	}
}

func TestUnbound(t *testing.T) {
	d, w := port(t, Veth)
	f := tcp(10).frame(t)
	testhost.Must(t, w.write(ether.Offload{}, f.Bytes()))
	await(t, d.Fd())
	testhost.Must(t, d.Drain(make([]byte, 512<<10)))
	if d.Unbound() != 1 {
		t.Errorf("unbound = %d, want 1", d.Unbound())
	}
}

package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// wireEnds are the addresses of a wire's two hosts.
var wireEnds = []struct{ name, here, there string }{{"IPv4", "192.0.2.1", "192.0.2.2"}, {"IPv6", "fd00:1::1", "fd00:1::2"}}

// TestJoinedTrains: the kernel joins datagrams of several networks, since it does not know them, and each comes to its own.
func TestJoinedTrains(t *testing.T) {
	for _, ends := range wireEnds {
		for _, known := range []bool{true, false} {
			for _, networks := range []int{2, 20} {
				for _, sent := range []string{"singles", "trains"} {
					t.Run(fmt.Sprintf("%s underlay/known %v/%d networks/%s", ends.name, known, networks, sent), func(t *testing.T) {
						joinedTrains(t, ends.here, ends.there, known, networks, sent == "trains")
					})
				}
			}
		}
	}
}

func joinedTrains(t *testing.T, here, there string, known bool, networks int, trains bool) {
	const all, size = 500, 100
	each := all / networks
	w := newWire(t)
	w.join()
	v := listen(t, here, 2)
	catches, links := make([]*catch, networks), make([]*Link, networks)
	for i := range networks {
		catches[i], _ = caught(t, v, vni+uint32(i), there)
	}
	w.at(w.there, func() {
		from := listen(t, there, 1)
		for i := range networks {
			l, err := from.Link(vni+uint32(i), at(here))
			testhost.Must(t, err)
			l.Bind(func([]ether.Frame) {})
			links[i] = l
		}
		if known {
			know(t, v, from)
		}
	})
	await := func(total int) {
		t.Helper()
		for {
			n := 0
			for _, k := range catches {
				n += len(k.frames)
			}
			if n >= total {
				return
			} else if !catches[0].drain(t, time.Minute) {
				t.Fatalf("%d frames came, want %d; %v", n, total, v.RxDropped())
			}
		}
	}
	v6 := netip.MustParseAddr(here).Is6()
	before := w.datagrams(v6)
	want, total, waiting := make([][][]byte, networks), 0, 0
	for i := range each {
		for j, l := range links { // of one flow, and so from one port
			p := packet{UDP: true, ID: uint16(i), Payload: bytes.Repeat([]byte{byte(j)}, size)}
			p.Payload[0] = byte(i)
			frames := []*ether.Frame{p.frame(t)}
			want[j] = append(want[j], room(frames[0]))
			if trains && i%5 == 0 {
				for n := range 4 {
					q := p
					q.ID, q.Payload = uint16(each+i+n), slices.Clone(p.Payload)
					q.Payload[1] = byte(n + 100)
					frames = append(frames, q.frame(t))
					want[j] = append(want[j], room(frames[len(frames)-1]))
				}
			}
			if n, _ := l.Send(frames); n != len(frames) {
				t.Fatal("refused")
			}
			total, waiting = total+len(frames), waiting+len(frames)
			if waiting >= 50 { // the veth holds 256, and some of the talk is left
				await(total)
				waiting = 0
			}
		}
	}
	await(total)
	if n := w.datagrams(v6) - before; known && n >= total {
		t.Errorf("%d datagrams came as %d: this kernel joins nothing", total, n)
	}
	for j, k := range catches {
		if len(k.frames) != len(want[j]) {
			t.Fatalf("network %d of %d: %d frames came, want %d; %v", j+1, networks, len(k.frames), len(want[j]), v.RxDropped())
		}
		slices.SortFunc(k.frames, bytes.Compare) // a veth has a queue for each core, and the test's thread moves
		slices.SortFunc(want[j], bytes.Compare)
		same(t, k.frames, want[j])
	}
	for why, n := range v.RxDropped() {
		if n != 0 {
			t.Errorf("%d are %s", n, why)
		}
	}
}

// A train may hold messages between hosts, and what belongs to no network.
func TestTrainOfAll(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	k, l := caught(t, v, vni, "127.0.0.2")
	p := l.peer.Load()
	size := messageHeadLen + 64
	talk := shape{n: 1, size: size, last: size}.frames(message{kind: kindOpen, nonce: 7}, nil)[0]
	f := make([]byte, size)
	copy(f, packet{}.frame(t).Bytes())
	bad := encapsulated(t, vni, f)
	bad[0] = 0
	partial := encapsulated(t, vni, packet{UDP: true, Payload: packets.Data(size - 42)}.super(t, 0).Bytes())
	train := slices.Concat(bad, encapsulated(t, hostVNI, talk.Bytes()), encapsulated(t, vni, f), encapsulated(t, 99, f), partial, partial[:7])
	for _, cuts := range []bool{false, true} {
		before := v.RxDropped()
		p.peerTests, k.frames = [openTests]peerTest{}, nil
		p.isTapestry.Store(cuts)
		r := v.receivers[0]
		r.links = *v.links.Load()
		r.receive(segments{bytes.Clone(train), headerLen + size}, received{}, p.Host.Addr())
		r.flush()
		r.links, r.link = nil, nil
		if !slices.ContainsFunc(p.peerTests[:], func(their peerTest) bool { return their.known && their.nonce == 7 }) {
			t.Error("the message is lost")
		}
		after := v.RxDropped()
		for why, n := range map[string]uint64{"bad_header": 1, "no_peer": 1, "short": 1, "ambiguous": 0} {
			if got := after[why] - before[why]; got != n {
				t.Errorf("cuts %v: %d are %s, want %d", cuts, got, why, n)
			}
		}
		complete := packet{UDP: true, Payload: packets.Data(size - 42)}.frame(t).Bytes()
		if cuts { // it says so, where it leaves a checksum partial
			complete = partial[headerLen:]
		}
		same(t, k.frames, [][]byte{f, complete})
	}
}

// inject sends frames into a vxlan device of the namespace, as a container behind it can with CAP_NET_RAW: with a virtio-net
// header that says what it likes (packet(7), PACKET_VNET_HDR).
func inject(t testing.TB, device string, off ether.Offload, frame []byte) {
	t.Helper()
	l, err := netlink.LinkByName(device)
	testhost.Must(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	testhost.Must(t, err)
	defer unix.Close(fd)
	testhost.Must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	head := []byte{0, 0}
	if off.PartialChecksum {
		head[0] = 1
	}
	if off.Kind == ether.UDP {
		head[1] = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
	}
	for _, n := range []uint16{off.Head, off.Segment, off.ChecksumStart, off.ChecksumOffset} {
		head = binary.NativeEndian.AppendUint16(head, n)
	}
	testhost.Must(t, unix.Sendto(fd, append(head, frame...), 0, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(frame[12:]), Ifindex: l.Attrs().Index}))
}

// ofTest are the frames of a packet's addresses: a kernel VTEP says things of its own, about IPv6.
func ofTest(frames [][]byte) (some [][]byte) {
	for _, b := range frames {
		if bytes.HasPrefix(b, []byte{2, 0x42, 10, 77, 0, 3, 2, 0x42, 10, 77, 0, 2}) {
			some = append(some, b)
		}
	}
	return some
}

// kernelVTEP makes a vxlan device of a VNI, at an address and to another.
const kernelVTEP = `ip link add vx%[1]d type vxlan id %[1]d dstport 4789 local %[2]s remote %[3]s srcport 50000 50001 udpcsum; ip link set vx%[1]d addrgenmode none; ip link set vx%[1]d up;`

// TestImitatedHeader: a container behind a kernel VTEP sends an inner super-frame that nobody cuts on the way. It says that its first
// segment is all of its packet, and where the next begins it has another network's VXLAN header and a frame. That reaches no
// other network, whatever the kernel makes of it. The same the other way round: a frame that claims what comes behind it gets nothing
// of another network.
func TestImitatedHeader(t *testing.T) {
	w := newWire(t)
	v := listen(t, "192.0.2.1", 2)
	k, l := caught(t, v, vni, "192.0.2.2")
	l.SetMTU(1450)
	k81, l81 := caught(t, v, 81, "192.0.2.2")
	l81.SetMTU(1450)
	secret := packet{UDP: true, Payload: bytes.Repeat([]byte("secret"), 20)}.frame(t).Bytes()
	segment := headerLen + len(secret) // of what seems to be a train
	last := packet{UDP: true, ID: 9, Payload: packets.Data(50)}.frame(t).Bytes()
	frame := func(length int, payload []byte) *ether.Frame {
		p := packet{UDP: true, Payload: packets.Data(segment - headerLen - 42)}
		f := p.super(t, 0)
		b := append(bytes.Clone(f.WithHeadroom()), payload...)
		binary.BigEndian.PutUint16(b[ether.Headroom+16:], uint16(length))
		binary.BigEndian.PutUint16(b[ether.Headroom+38:], uint16(length-20))
		binary.BigEndian.PutUint16(b[ether.Headroom+24:], 0)
		binary.BigEndian.PutUint16(b[ether.Headroom+24:], ^ether.Sum(b[ether.Headroom+14:ether.Headroom+34], 0))
		binary.BigEndian.PutUint16(b[ether.Headroom+40:], ether.Sum(b[ether.Headroom+26:ether.Headroom+34], 17+uint32(length-20)))
		g := ether.Lend(b, ether.Offload{Kind: ether.UDP, PartialChecksum: true, Head: 42, Segment: uint16(segment), ChecksumStart: 34, ChecksumOffset: 6})
		return &g
	}
	whole := segment - headerLen - 14
	came := func(all func() bool) {
		t.Helper()
		for !all() && k.drain(t, time.Minute) {
		}
		for k.drain(t, 0) { // what should not come
		}
	}
	w.at(w.there, func() {
		w.sh(kernelVTEP, vni, "192.0.2.2", "192.0.2.1")
		forged := frame(whole, slices.Concat(encapsulated(t, 81, secret), encapsulated(t, 81, secret)))
		inject(t, "vx80", forged.Off, forged.Bytes())
		inject(t, "vx80", ether.Offload{}, last)
	})
	came(func() bool { // whatever becomes of the first
		got := ofTest(k.frames)
		return len(got) > 0 && bytes.Equal(got[len(got)-1], last)
	})
	if got := ofTest(k81.frames); len(got) != 0 {
		t.Errorf("%d frames in another network, injected from the first: %x", len(got), got[0])
	}
	if got := ofTest(k.frames); len(got) == 0 || !bytes.Equal(got[len(got)-1], last) {
		t.Error("the valid frame behind it is lost")
	}

	k.frames, k81.frames = nil, nil
	w.join()
	w.at(w.there, func() {
		w.sh("ip link del vx80") // its port is ours now
		fd, err := bind(netip.MustParseAddrPort("192.0.2.2:50000"), false)
		testhost.Must(t, err)
		defer unix.Close(fd)
		claim := encapsulated(t, vni, frame(2*segment-headerLen-14, nil).Bytes())
		for _, d := range [][]byte{claim, encapsulated(t, 81, secret), encapsulated(t, vni, last)} {
			testhost.Must(t, unix.Sendto(fd, d, 0, toSockaddr(v.Local)))
		}
	})
	came(func() bool { return len(ofTest(k.frames))+len(ofTest(k81.frames)) >= 3 })
	for _, b := range ofTest(k.frames) {
		if bytes.Contains(b, []byte("secret")) {
			t.Errorf("another network's frame came as payload: %d bytes", len(b))
		}
	}
	same(t, ofTest(k81.frames), [][]byte{secret})
}

// TestKernelVTEPsTrains: what a Linux vxlan device sends comes whole, be it joined on the way, or never cut, from one network, from two and from twenty.
func TestKernelVTEPsTrains(t *testing.T) {
	for _, ends := range wireEnds {
		for _, networks := range []int{1, 2, 20} {
			for _, joined := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s underlay/%d networks/joined %v", ends.name, networks, joined), func(t *testing.T) {
					kernelVTEPsTrains(t, ends.here, ends.there, networks, joined)
				})
			}
		}
	}
}

func kernelVTEPsTrains(t *testing.T, here, there string, networks int, joined bool) {
	w := newWire(t)
	if joined {
		w.join()
	}
	v := listen(t, here, 2)
	var vnis []uint32
	for i := range networks {
		vnis = append(vnis, vni+uint32(i))
	}
	var catches []*catch
	for _, n := range vnis {
		k, l := caught(t, v, n, there)
		l.SetMTU(1400)
		l.Bind(func(frames []ether.Frame) {
			for i := range frames {
				if err := frames[i].Check(); err != nil {
					t.Error(err)
				}
				var c ether.Cutter
				if c.Reset(&frames[i]); frames[i].Off.Kind == ether.None {
					k.in(frames[i : i+1])
					continue
				}
				for head := make([]byte, ether.MaxHead); ; {
					n, payload, ok := c.Next(head)
					if !ok {
						break
					}
					k.frames = append(k.frames, append(bytes.Clone(head[:n]), payload...))
				}
			}
		})
		catches = append(catches, k)
	}
	super := packet{UDP: true, Payload: packets.Data(max(40/networks, 3) * 1000)}
	var want [][]byte
	await := func() {
		t.Helper()
		for _, k := range catches {
			for len(ofTest(k.frames)) < len(want) && k.drain(t, time.Minute) {
			}
			same(t, ofTest(k.frames), want)
		}
	}
	w.at(w.there, func() {
		for _, n := range vnis {
			w.sh(kernelVTEP, n, there, here)
		}
		for i := range 100 / networks {
			p := packet{UDP: true, ID: uint16(i), Payload: packets.Data(500)}
			for _, n := range vnis { // as a container's kernel leaves it
				f := p.super(t, 0)
				inject(t, fmt.Sprintf("vx%d", n), f.Off, f.Bytes())
			}
			want = append(want, p.frame(t).Bytes())
		}
	})
	await() // the veth holds 256
	w.at(w.there, func() {
		for _, n := range vnis {
			f := super.super(t, 1000)
			inject(t, fmt.Sprintf("vx%d", n), f.Off, f.Bytes())
		}
		want = append(want, super.segments(t, 1000)...)
	})
	await()
	if s := v.RxDropped(); s["bad_header"]+s["ambiguous"]+s["short"]+s["no_peer"] != 0 {
		t.Errorf("dropped %v", s)
	}
}

package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
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

// These tests hold our VTEP to Linux's own: both get the same datagrams, and the same frames to send.

// A sniffer reads what passes a link of the namespace it was made in.
type sniffer struct {
	t  testing.TB
	fd int
}

func sniff(t testing.TB, device string) *sniffer {
	t.Helper()
	l, err := netlink.LinkByName(device)
	testhost.Must(t, err)
	const all = unix.ETH_P_ALL << 8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	testhost.Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	testhost.Must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}))
	return &sniffer{t, fd}
}

// until reads frames until one is the last.
func (s *sniffer) until(last func(frame []byte) bool) (frames [][]byte) {
	s.t.Helper()
	b := make([]byte, 1<<16)
	testhost.Until(s.t, "the last frame", func() bool {
		for {
			n, _, err := unix.Recvfrom(s.fd, b, 0)
			if err != nil {
				return false
			}
			frames = append(frames, bytes.Clone(b[:n]))
			if last(b[:n]) {
				return true
			}
		}
	})
	return frames
}

// markedFrame is a frame that can be told from others by its source port; number 0 is the last of a test.
func markedFrame(t testing.TB, v6 bool, number int, class, ttl uint8) []byte {
	t.Helper()
	b := packet{V6: v6, UDP: true, SrcPort: uint16(9000 + number), Payload: packets.Data(60)}.frame(t).Bytes()
	if v6 {
		b[14], b[15], b[21] = 0x60|class>>4, class<<4, ttl
		return b
	}
	b[15], b[22], b[24], b[25] = class, ttl, 0, 0
	binary.BigEndian.PutUint16(b[24:], ^packets.Sum(b[14:34], 0))
	return b
}

// number reads a frame's number; ok: it is numbered.
func number(frame []byte) (n int, ok bool) {
	at := 34
	if len(frame) > 14 && frame[14]>>4 == 6 {
		at = 54
	}
	return int(binary.BigEndian.Uint16(frame[min(at, len(frame)-2):])) - 9000, len(ofTest([][]byte{frame})) == 1
}

func isLast(frame []byte) bool { n, ok := number(frame); return ok && n == 0 }

func byNumber(frames [][]byte) map[int][]byte {
	all := make(map[int][]byte)
	for _, f := range frames {
		if n, ok := number(f); ok && n != 0 {
			all[n] = f
		}
	}
	return all
}

// A datagram to a VTEP, with the traffic class of its IP header.
type sent struct {
	class uint8
	bytes []byte
}

func sendAll(t testing.TB, local, to string, all []sent) {
	t.Helper()
	fd, err := bind(netip.AddrPortFrom(netip.MustParseAddr(local), 0), false)
	testhost.Must(t, err)
	defer unix.Close(fd)
	for _, s := range all {
		var c sendControl
		c.addMark(mark{class: s.class}, netip.MustParseAddr(to).Is6())
		_, err := unix.SendmsgN(fd, s.bytes, c.buf[:c.n], toSockaddr(at(to)), 0)
		testhost.Must(t, err)
	}
}

// underlays are a wire's.
var underlays = []struct{ name, here, there, group string }{{"IPv4 underlay", "192.0.2.1", "192.0.2.2", "239.1.1.1"}, {"IPv6 underlay", "fd00:1::1", "fd00:1::2", "ff05::100"}}

const linuxVTEP = `ip link add vx%[1]d type vxlan id %[1]d dstport 4789 local %[2]s remote %[3]s udpcsum udp6zerocsumrx %[4]s; ip link set vx%[1]d addrgenmode none; ip link set vx%[1]d up;`

// received by the kernel there, and by us here: the frames of the datagrams, by number.
func (w *wire) compare(here, there string, v *VTEP, k *catch, all []sent) (kernel, ours map[int][]byte) {
	w.t.Helper()
	all = append(slices.Clone(all), sent{0, encapsulated(w.t, vni, markedFrame(w.t, false, 0, 0, 64))})
	var s *sniffer
	w.at(w.there, func() {
		w.sh("ip link show vx80 2>/dev/null || { "+linuxVTEP+" }", vni, there, here, "")
		s = sniff(w.t, "vx80")
	})
	sendAll(w.t, here, there, all)
	kernel = byNumber(s.until(isLast))
	w.at(w.there, func() { sendAll(w.t, there, here, all) })
	k.frames = nil
	for end := time.Now().Add(testhost.Patience); !slices.ContainsFunc(k.frames, isLast); k.drain(w.t, time.Second) {
		if time.Now().After(end) {
			w.t.Fatal("the last frame does not come")
		}
	}
	return kernel, byNumber(k.frames)
}

// Each of the header's 64 bits that is neither the I flag's nor the VNI's, by itself: a strict link drops what Linux drops, and one that
// is not drops nothing. Without the I flag neither gets anything.
func TestHeaderBits(t *testing.T) {
	var all []sent
	for bit := range 64 {
		if bit >= 32 && bit < 56 {
			continue // the VNI
		}
		b := encapsulated(t, vni, markedFrame(t, false, bit+1, 0, 64))
		b[bit/8] ^= 0x80 >> (bit % 8) // bit 4 is the I flag
		all = append(all, sent{0, b})
	}
	plain := sent{0, encapsulated(t, vni, markedFrame(t, false, 100, 0, 64))}
	all = append(all, plain)
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict %v", strict), func(t *testing.T) {
			w := newWire(t)
			v := listen(t, "192.0.2.1", 1)
			links, err := v.Links(vni, Wire{DropReserved: strict}, at("192.0.2.2"))
			testhost.Must(t, err)
			k := &catch{v: v, arena: make([]byte, 512<<10)}
			links[0].Bind(k.in)
			kernel, ours := w.compare("192.0.2.1", "192.0.2.2", v, k, all)
			if len(kernel) != 1 || kernel[100] == nil {
				t.Errorf("Linux accepts %v, not the plain header only", slices.Sorted(maps.Keys(kernel)))
			}
			dropped := v.RxDropped()
			switch {
			case strict && (!maps.EqualFunc(ours, kernel, bytes.Equal) || dropped["reserved"] != 39):
				t.Errorf("accepts %v, Linux %v; dropped %v", slices.Sorted(maps.Keys(ours)), slices.Sorted(maps.Keys(kernel)), dropped)
			case !strict && (len(ours) != 40 || ours[4+1] != nil || dropped["reserved"] != 0):
				t.Errorf("accepts %d of the 40 with the I flag; dropped %v", len(ours), dropped)
			}
			if dropped["bad_header"] != 1 {
				t.Errorf("dropped %v, want one without the I flag", dropped)
			}
			if !strict {
				return
			}
			// The flag of a partial checksum is reserved, unless it was agreed on; then it alone, with its byte, is not.
			agreed := encapsulated(t, vni, markedFrame(t, false, 101, 0, 64))
			agreed[1], agreed[7] = flagC, 0xff
			other := bytes.Clone(agreed)
			other[1] |= 0x80
			for _, may := range []bool{false, true} {
				links[0].peer.Load().mayRemoteSum.Store(may)
				if _, ours := w.compare("192.0.2.1", "192.0.2.2", v, k, []sent{{0, agreed}, {0, other}}); len(ours) == 1 != may {
					t.Errorf("agreed %v: accepts %v", may, slices.Sorted(maps.Keys(ours)))
				}
			}
			if n := v.RxDropped()["reserved"]; n != 39+3 {
				t.Errorf("%d dropped", n)
			}
		})
	}
}

// All 16 cases of RFC 6040 section 4.2, over and of each IP version: the frame is byte for byte what Linux makes of it, or is dropped as by Linux.
func TestECNReceived(t *testing.T) {
	for _, u := range underlays {
		t.Run(u.name, func(t *testing.T) {
			w := newWire(t)
			v := listen(t, u.here, 1)
			k, _ := caught(t, v, vni, u.there)
			var all []sent
			n := 1
			for _, v6 := range []bool{false, true} {
				for inner := range uint8(4) {
					for outer := range uint8(4) {
						all = append(all, sent{10<<2 | outer, encapsulated(t, vni, markedFrame(t, v6, n, 46<<2|inner, 64))})
						n++
					}
				}
			}
			kernel, ours := w.compare(u.here, u.there, v, k, all)
			if len(kernel) != 30 || !maps.EqualFunc(ours, kernel, bytes.Equal) || v.RxDropped()["congested"] != 2 {
				t.Errorf("%d frames, Linux %d; dropped %v\n%x\n%x", len(ours), len(kernel), v.RxDropped(), ours, kernel)
			}
			// A train from UDP_GRO has one class, for each of its frames.
			one := encapsulated(t, vni, markedFrame(t, false, 1, ether.ECT0, 64))
			w.at(w.there, func() {
				var c sendControl
				c.addSegment(len(one))
				c.addMark(mark{class: ether.CE}, v.Local.Addr().Is6())
				fd, err := bind(netip.AddrPortFrom(netip.MustParseAddr(u.there), 0), false)
				testhost.Must(t, err)
				defer unix.Close(fd)
				_, err = unix.SendmsgN(fd, slices.Concat(one, one, one), c.buf[:c.n], toSockaddr(v.Local), 0)
				testhost.Must(t, err)
			})
			k.frames = nil
			marked := markedFrame(t, false, 1, ether.CE, 64)
			same(t, k.drainFrames(t, 3), [][]byte{marked, marked, marked})
		})
	}
}

// The outer header's traffic class and TTL, by default, inherited and fixed, are Linux's; but for CE, which RFC 6040 has copied and Linux,
// as RFC 3168, makes ECT(0).
func TestMarksSent(t *testing.T) {
	settings := []struct {
		linux string
		wire  Wire
	}{
		{"", Wire{}}, {"tos inherit ttl inherit", Wire{DSCP: Inherit, TTL: Inherit}}, {"tos 0xb8 ttl 7", Wire{DSCP: 46, TTL: 7}},
	}
	type seen struct {
		vni, number int
		class, ttl  uint8
	}
	// read reads the outer header, and says which frame it is.
	read := func(b []byte) (s seen, ok bool) {
		ip, udp := b[14:], 20
		if ip[0]>>4 == 6 {
			udp = 40
			s.class, s.ttl = ip[0]<<4|ip[1]>>4, ip[7]
		} else {
			s.class, s.ttl = ip[1], ip[8]
		}
		if len(ip) < udp+16+34 || binary.BigEndian.Uint16(ip[udp+2:]) != port {
			return s, false
		}
		s.vni = int(binary.BigEndian.Uint32(ip[udp+12:]) >> 8)
		inner := ip[udp+16:]
		if binary.BigEndian.Uint16(inner[12:]) == ether.TypeARP {
			s.number = 10
			return s, true
		}
		s.number, ok = number(inner)
		return s, ok
	}
	for _, u := range underlays {
		t.Run(u.name, func(t *testing.T) {
			w := newWire(t)
			v := listen(t, u.here, 1)
			var frames [][]byte
			for ecn := range uint8(4) {
				frames = append(frames, markedFrame(t, false, int(ecn)+1, 10<<2|ecn, 33), markedFrame(t, true, int(ecn)+5, 10<<2|ecn, 33))
			}
			frames = append(frames, append(markedFrame(t, false, 0, 0, 0)[:12], packets.Ethernet(ether.TypeARP, make([]byte, 46))[12:]...), markedFrame(t, false, 9, 0, 33))
			frames = append(frames, markedFrame(t, false, 0, 0, 64))
			total := len(settings) * len(frames)
			collect := func(s *sniffer) (all map[seen]bool) { // flows leave in any order
				all = make(map[seen]bool)
				s.until(func(b []byte) bool {
					if one, ok := read(b); ok {
						all[one] = true
					}
					return len(all) == total
				})
				return all
			}
			here := sniff(t, "underlay")
			w.at(w.there, func() {
				for i, s := range settings {
					w.sh(linuxVTEP, vni+i, u.there, u.here, s.linux)
					for _, f := range frames {
						inject(t, fmt.Sprint("vx", vni+i), ether.Offload{}, f)
					}
				}
			})
			linux := collect(here)
			var there *sniffer
			w.at(w.there, func() { there = sniff(t, "underlay") })
			for i, s := range settings {
				links, err := v.Links(uint32(vni+i), s.wire, at(u.there))
				testhost.Must(t, err)
				var all []*ether.Frame
				for _, f := range frames {
					all = append(all, lend(f))
				}
				if n, _ := links[0].Send(all); n != len(all) {
					t.Fatalf("%d of %d were sent: %+v", n, len(all), links[0].Stats())
				}
			}
			ours := collect(there)
			want := make(map[seen]bool)
			for s := range linux {
				if s.number == 4 || s.number == 8 { // its ECN is CE
					if s.class&3 != ether.ECT0 {
						t.Errorf("Linux sends CE as %d", s.class&3)
					}
					s.class |= ether.CE
				}
				want[s] = true
			}
			if !maps.Equal(ours, want) {
				t.Errorf("sent %v\nwant %v", ours, want)
			}
			// To a group the TTL is 1, unless one is asked for.
			for ttl, want := range map[int]uint8{0: 1, 5: 5, Inherit: 64} {
				group, err := v.Group(90, Wire{TTL: ttl}, netip.AddrPortFrom(netip.MustParseAddr(u.group), port), nil)
				testhost.Must(t, err)
				group.Send([]*ether.Frame{lend(frames[len(frames)-1])})
				there.until(func(b []byte) bool {
					one, ok := read(b)
					if ok = ok && one.vni == 90; ok && one.ttl != want {
						t.Errorf("to a group with TTL %d: %d", ttl, one.ttl)
					}
					return ok
				})
				group.Close()
			}
		})
	}
}

package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestRemoteSumInHeader(t *testing.T) {
	for _, c := range []struct {
		start, offset uint16
		ok            bool
	}{
		{34, 16, true}, {34, 6, true}, {54, 16, true}, {254, 6, true},
		{35, 16, false}, {256, 16, false}, {34, 12, false}, {34, 0, false},
	} {
		off := ether.Offload{PartialChecksum: true, ChecksumStart: c.start, ChecksumOffset: c.offset}
		last, ok := remoteSumByte(off)
		if ok != c.ok {
			t.Errorf("%+v: %v, want %v", off, ok, c.ok)
		}
		header := [headerLen]byte{flagI, flagC, 7: last}
		if got := remoteSum(header[:]); ok && got != off {
			t.Errorf("%+v came as %+v", off, got)
		}
		header[1] = 0
		if got := remoteSum(header[:]); got != (ether.Offload{}) {
			t.Errorf("no flag, and %+v", got)
		}
	}
}

// What leaves with its checksum partial arrives so; completed, it is what would have been sent.
func TestRemoteSum(t *testing.T) {
	host(t)
	for _, fam := range families {
		l, k := pair(t, fam.a, fam.b)
		l.remoteSum.Store(true)
		for name, c := range map[string]struct {
			p       packet
			segment int
		}{
			"segments of TCP":  {packet{Payload: packets.Data(9000), TCP: layers.TCP{Seq: 5}}, 1398},
			"segments of UDP6": {packet{V6: true, UDP: true, Payload: packets.Data(900)}, 100},
			"one datagram":     {packet{UDP: true, Payload: packets.Data(900)}, 0},
		} {
			t.Run(fam.name+" "+name, func(t *testing.T) {
				f := c.p.super(t, c.segment)
				want := [][]byte{bytes.Clone(c.p.frame(t).Bytes())}
				if c.segment > 0 {
					want = c.p.segments(t, c.segment)
				}
				partial := 0
				link := (*k.v.links.Load())[linkKey{vni, at(fam.a).Addr()}]
				link.SetMTU(1450)
				link.Bind(func(frames []ether.Frame) {
					for i := range frames {
						if frames[i].Off.PartialChecksum {
							partial++
						}
						if err := frames[i].Check(); err != nil {
							t.Error(err)
						}
					}
					k.in(frames)
				})
				if sent, _ := l.Send([]*ether.Frame{f}); sent != 1 {
					t.Fatal("not sent")
				}
				same(t, k.drainFrames(t, len(want)), want)
				if partial != len(want) {
					t.Errorf("%d of %d came with their checksums partial", partial, len(want))
				}
			})
		}
	}
}

// Linux's own VXLAN has it too: what it leaves partial we read, and what we leave partial it completes.
func TestRemoteSumOfLinux(t *testing.T) {
	here := host(t)
	there, _ := testhost.OtherNamespace(t)
	ip := func(format string, args ...any) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", fmt.Sprintf(format, args...))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", cmd, err, out)
		}
	}
	testhost.Must(t, netns.Set(here))
	testhost.Must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "underlay"}, PeerName: "underlay", PeerNamespace: netlink.NsFd(there)}))
	ip("ip address add 192.0.2.1/24 dev underlay; ip link set underlay up")
	testhost.Must(t, netns.Set(there))
	const vxlan = `ip address add 192.0.2.2/24 dev underlay; ip link set underlay up
		ip link add vx address 02:42:0a:4d:00:03 type vxlan id %d dstport %d local 192.0.2.2 remote 192.0.2.1 udpcsum remcsumtx remcsumrx
		ip address add 10.77.0.3/24 dev vx; ip link set vx up
		ip neighbour add 10.77.0.2 lladdr 02:42:0a:4d:00:02 dev vx`
	ip(vxlan, vni, port)
	carrying(t, "underlay")
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IP{10, 77, 0, 3}, Port: 51820})
	testhost.Must(t, err)
	defer udp.Close()
	testhost.Must(t, netns.Set(here))
	carrying(t, "underlay")

	k, l := caught(t, listen(t, "192.0.2.1", 1), vni, "192.0.2.2")
	l.SetMTU(1450)
	l.remoteSum.Store(true)
	p := packet{UDP: true, SrcPort: 4433, Payload: packets.Data(700)}
	if sent, _ := l.Send([]*ether.Frame{p.super(t, 0)}); sent != 1 {
		t.Fatal("not sent")
	}
	b := make([]byte, 2000)
	testhost.Must(t, udp.SetReadDeadline(time.Now().Add(time.Minute)))
	n, from, err := udp.ReadFromUDP(b)
	testhost.Must(t, err)
	if !bytes.Equal(b[:n], p.Payload) {
		t.Errorf("%d bytes came, not those that were sent", n)
	}

	partial := 0
	l.Bind(func(frames []ether.Frame) {
		for i := range frames {
			f := &frames[i]
			if f.Type() != 0x0800 || f.Bytes()[23] != 17 {
				continue // the kernel's own, about IPv6
			}
			testhost.Must(t, f.Check())
			if f.Off.PartialChecksum {
				partial++
			}
			f.CompleteChecksum()
			b := f.Bytes()
			if sum := ether.Sum(b[34:], uint32(ether.Sum(b[26:34], 17+uint32(len(b)-34)))); sum != 0xffff {
				t.Errorf("completed, it has the sum %#04x", sum)
			}
			k.in(frames[i : i+1])
		}
	})
	_, err = udp.WriteToUDP(p.Payload, from)
	testhost.Must(t, err)
	for len(k.frames) == 0 && k.drain(t, time.Minute) {
	}
	if len(k.frames) != 1 || partial != 1 || !bytes.Equal(k.frames[0][42:], p.Payload) {
		t.Errorf("%d frames came, %d of them partial", len(k.frames), partial)
	}
}

// Checksums are left partial for a host that says that it understands, and only as long as it says so.
func TestRemoteSumAgreed(t *testing.T) {
	p := newPath(t)
	if p.to.Stats().RemoteSum {
		t.Error("checksums are left partial for a host that has said nothing yet")
	}
	for range 5 {
		p.tick()
	}
	if !p.to.Stats().RemoteSum {
		t.Fatal("both ends understand, and checksums are completed here all the same")
	}
	another, err := p.a.Link(vni+1, p.to.Host)
	testhost.Must(t, err)
	if !another.Stats().RemoteSum {
		t.Error("a later link to the host knows nothing of it")
	}
	p.data()
	p.single = func([]byte) bool { return false } // the host is another one now, and no tapestry
	for range int(keepaliveEvery/time.Second) + maxAttempts + 1 {
		p.tick()
	}
	if p.to.Stats().RemoteSum || another.Stats().RemoteSum {
		t.Error("checksums are left partial for a host that has been silent for a minute")
	}
	p.single = nil
	for range int(retryEvery/time.Second) + 5 {
		p.tick()
	}
	if !p.to.Stats().RemoteSum {
		t.Error("the host is back, and its checksums are completed for it")
	}
}

// Checksums are left partial only where the flag that says so arrives.
func TestRemoteSumFlagLost(t *testing.T) {
	p := newPath(t)
	partial := 0
	clear := func(d []byte) bool {
		if d[1] != 0 {
			partial++
		}
		d[1] = 0
		return true
	}
	p.single = clear
	for range 5 {
		p.tick()
	}
	if p.to.Stats().RemoteSum {
		t.Error("checksums are left partial on a path that loses the flag")
	}
	if s := p.state(); s.Result != Good || s.RemoteSum == nil || !errors.Is(s.RemoteSum.Why, ErrFlagLost) || partial == 0 {
		t.Errorf("%+v after %d partial messages", s, partial)
	}
	p.data()
	p.single = func(d []byte) bool { return d[1] == 0 } // or drops what has it
	minute := func() {
		for range int(keepaliveEvery/time.Second) + 3 {
			p.tick()
		}
	}
	if minute(); p.to.Stats().RemoteSum || p.state().Result != Good {
		t.Errorf("the path drops what has the flag: %+v", p.state())
	}
	p.single = nil
	if minute(); !p.to.Stats().RemoteSum || p.state().RemoteSum.Why != nil {
		t.Errorf("the path keeps the flag now: %+v", p.state())
	}
	p.single = clear
	if minute(); p.to.Stats().RemoteSum {
		t.Error("and it loses it again")
	}
}

func TestCompleteChecksums(t *testing.T) {
	p := newPath(t)
	p.a.CompleteChecksums = true
	for range 5 {
		p.tick()
	}
	if p.to.Stats().RemoteSum || p.state().RemoteSum != nil {
		t.Error("checksums are left partial though they must not be")
	}
	p.data()
}

// TestReservedBits: from who was never told that we complete checksums, the flag for that is a reserved bit as any other, and ignored
// (RFC 7348 section 5). Who was told and has not asked again for three minutes is another host by now.
func TestReservedBits(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	k, l := caught(t, v, vni, "127.0.0.2")
	l.SetMTU(1450)
	var got []ether.Offload
	l.Bind(func(frames []ether.Frame) {
		for i := range frames {
			if err := frames[i].Check(); err != nil {
				t.Errorf("frame %d: %v", len(got), err)
			}
			got = append(got, frames[i].Off)
		}
	})
	f := packet{UDP: true, Payload: packets.Data(50)}.frame(t).Bytes()
	var sent [][]byte
	for bit := range 64 {
		d := encapsulated(t, vni, f)
		if bit != 4 && (bit < 32 || bit >= 56) { // I and the VNI
			d[bit/8] |= 0x80 >> (bit % 8)
			sent = append(sent, d)
		}
	}
	all := encapsulated(t, vni, f)
	all[0], all[1], all[2], all[3], all[7] = 0xff, 0xff, 0xff, 0xff, 0xff
	partial := encapsulated(t, vni, f)
	partial[1], partial[7] = flagC, sumUDP|17 // as a tapestry says of UDP over IPv4
	sent = append(sent, all, partial)
	expect := func(want ether.Offload, datagrams ...[]byte) {
		t.Helper()
		got = nil
		from(t, "127.0.0.2", v, datagrams...)
		for len(got) < len(datagrams) && k.drain(t, time.Minute) {
		}
		if len(got) != len(datagrams) {
			t.Fatalf("%d frames came, want %d", len(got), len(datagrams))
		}
		for i, off := range got {
			if off != want {
				t.Errorf("header %x: %+v, want %+v", datagrams[i][:headerLen], off, want)
			}
		}
	}
	expect(ether.Offload{}, sent...)

	p := l.peer.Load()
	question := shape{n: 1, size: messageHeadLen, last: messageHeadLen}.frames(message{kind: kindOpen, shape: keepaliveOnly, nonce: 7}, nil)[0]
	from(t, "127.0.0.2", v, encapsulated(t, hostVNI, question.Bytes()))
	for !p.mayRemoteSum.Load() && k.drain(t, time.Minute) {
	}
	agreed := ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}
	expect(agreed, partial)
	v.Tick(time.Hour)
	v.Tick(time.Hour + maxAttempts*keepaliveEvery)
	expect(agreed, partial)
	v.Tick(time.Hour + maxAttempts*keepaliveEvery + 1)
	expect(ether.Offload{}, partial)
}

package tunnel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestZeroChecksum: a kernel VTEP that sends no outer checksums is heard, over IPv6 as over IPv4.
func TestZeroChecksum(t *testing.T) {
	for _, underlay := range []struct{ name, here, there, device string }{
		{"IPv4", "192.0.2.1", "192.0.2.2", "noudpcsum"},
		{"IPv6", "fd00:1::1", "fd00:1::2", "udp6zerocsumtx udp6zerocsumrx"},
	} {
		for _, own := range []bool{false, true} { // a socket of its host's
			t.Run(fmt.Sprintf("%s, own %v", underlay.name, own), func(t *testing.T) {
				w := newWire(t)
				v := listen(t, underlay.here, 2)
				k, _ := caught(t, v, vni, underlay.there)
				if own {
					caught(t, v, 81, underlay.there)
				}
				f := packet{UDP: true, Payload: packets.Data(100)}.frame(t).Bytes()
				w.at(w.there, func() {
					w.sh("ip link add vx80 type vxlan id 80 dstport 4789 local %s remote %s %s; ip link set vx80 addrgenmode none; ip link set vx80 up", underlay.there, underlay.here, underlay.device)
					inject(t, "vx80", ether.Offload{}, f)
				})
				for len(ofTest(k.frames)) == 0 && k.drain(t, time.Minute) {
				}
				same(t, ofTest(k.frames), [][]byte{f})
				if n := v.KernelDropped()["bad_checksum"]; n != 0 {
					t.Errorf("%d outside the counters", n)
				}
			})
		}
	}
}

// TestOutside: what the kernel drops for its checksum is counted as that, and as nothing else.
func TestOutside(t *testing.T) {
	host(t)
	for _, family := range families {
		v := listen(t, family.b, 1)
		k, _ := caught(t, v, vni, family.a)
		f := packet{Payload: packets.Data(50)}.frame(t).Bytes()
		wrong := encapsulated(t, vni, f)
		domain := unix.AF_INET
		if v.Local.Addr().Is6() {
			domain = unix.AF_INET6
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
		testhost.Must(t, err)
		defer unix.Close(fd)
		testhost.Must(t, unix.Bind(fd, toSockaddr(netip.AddrPortFrom(netip.MustParseAddr(family.a), 0))))
		udp := binary.BigEndian.AppendUint16(nil, 50000)
		udp = binary.BigEndian.AppendUint16(udp, port)
		udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(wrong)))
		udp = append(udp, 0xde, 0xad)
		for range 3 {
			testhost.Must(t, unix.Sendto(fd, append(udp, wrong...), 0, toSockaddr(netip.AddrPortFrom(v.Local.Addr(), 0))))
		}
		from(t, family.a, v, encapsulated(t, vni, f))
		same(t, k.drainFrames(t, 1), [][]byte{f})
		if got := v.KernelDropped(); got["bad_checksum"] != 3 || got["no_memory"] != 0 {
			t.Errorf("%s: outside %v, want 3 of a bad checksum", family.name, got)
		}
		if got := v.RxDropped()["overflow"]; got != 0 {
			t.Errorf("%s: %d are counted as overflow", family.name, got)
		}
		testhost.Must(t, unix.SetsockoptInt(v.receivers[0].fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<14))
		const burst = 500 // the kernel's queue before the sockets holds 1000
		from(t, family.a, v, slices.Repeat([][]byte{encapsulated(t, vni, f)}, burst)...)
		for k.drain(t, 0) {
		}
		lost := v.RxDropped()["overflow"]
		if got := v.KernelDropped(); lost == 0 || uint64(len(k.frames))+lost != burst || got["bad_checksum"] != 3 {
			t.Errorf("%s: %d of %d came and %d overflowed; outside %v", family.name, len(k.frames), burst, lost, got)
		}
	}
}

// TestSortLosses: every drop of our sockets is in one count, whatever the kernel counts elsewhere.
func TestSortLosses(t *testing.T) {
	for _, c := range []struct {
		name                    string
		drops                   uint64
		namespace               kernelUDP
		overflow, noMemory, bad uint64
	}{
		{"nothing", 0, kernelUDP{}, 0, 0, 0},
		{"a full buffer", 7, kernelUDP{full: 7}, 7, 0, 0},
		{"others' full buffers", 2, kernelUDP{full: 7}, 2, 0, 0},
		{"a wrong checksum", 3, kernelUDP{badChecksum: 3}, 0, 0, 3},
		{"no memory, before Linux 6.18", 5, kernelUDP{noMemory: 5}, 0, 5, 0},
		{"no memory, since Linux 6.18", 5, kernelUDP{}, 0, 5, 0},
		{"all of them", 15, kernelUDP{badChecksum: 3, full: 7}, 7, 5, 3},
	} {
		if o, n, b := sortDrops(c.drops, c.namespace); o != c.overflow || n != c.noMemory || b != c.bad {
			t.Errorf("%s: overflow %d, no memory %d, bad checksum %d", c.name, o, n, b)
		}
	}
}

func TestParseSNMP(t *testing.T) {
	const heads = "Ip: Forwarding DefaultTTL\nIp: 1 64\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n"
	for in, want := range map[string]kernelUDP{
		heads + "Udp: 1 2 3 4 5 6 7 8 9\nUdpLite: 1 1 1 1 1 1 1 1 1\n": {7, 9, 5},
		heads + "Udp: 1 2 3 4 5 6 7\n":                                 {7, 0, 5},
		heads + "Udp: 1 2 3 4 5 6 -7 8 x\n":                            {0, 0, 5},
		heads + "Udp: 1 2 3 4 5 6 7 8 9 10 11\n":                       {7, 9, 5},
		heads:                                                          {}, "": {}, "Udp:\nUdp:\n": {},
	} {
		if got := parseSNMP([]byte(in)); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
	for in, want := range map[string]kernelUDP{
		"Udp6InDatagrams \t 1\nUdp6InCsumErrors  7\nUdp6MemErrors 9\nUdpLite6InCsumErrors 5\nUdp6RcvbufErrors 5\n": {7, 9, 5},
		"Udp6InCsumErrors\n": {}, "Udp6InCsumErrors x\n": {}, "": {},
	} {
		if got := parseSNMP6([]byte(in)); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
}

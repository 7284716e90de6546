package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

var links = map[string]int{"SLL": pcapng.LinuxSLL, "SLL2": pcapng.LinuxSLL2, "RAW": pcapng.Raw, "NULL": pcapng.Null, "LOOP": pcapng.Loop,
	"IPV4": pcapng.IPv4, "IPV6": pcapng.IPv6}

// linkFrame makes a frame of another link type with the content of an Ethernet frame.
func (m maker) linkFrame(link int, frame []byte) []byte {
	if len(frame) < 14 {
		return frame
	}
	typ, payload := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	family := map[uint16]uint32{typeIP: familyIP, typeIP6: pick(m, append(familiesIP6, 10))}[typ]
	switch link {
	case pcapng.LinuxSLL:
		if typ <= maxLength {
			typ = pick(m, []uint16{cooked8023, cookedLLC, cookedLLC})
		}
		return join(be(2, uint64(m.IntN(6))), be(2, 1), be(2, 6), frame[6:12], be(2, 0), be(2, uint64(typ)), payload)
	case pcapng.LinuxSLL2:
		return join(be(2, uint64(typ)), be(2, 0), be(4, uint64(1+m.IntN(3))), be(2, 1), []byte{byte(m.IntN(6)), 6}, frame[6:12], be(2, 0), payload)
	case pcapng.Null:
		return join(binary.LittleEndian.AppendUint32(nil, family), payload)
	case pcapng.Loop:
		return join(be(4, uint64(family)), payload)
	}
	return payload
}

func linkCorpus(seed uint64, link, n int) []captured {
	m := maker{rand.New(rand.NewPCG(seed, 9))}
	all := corpus(seed, n)
	for i, c := range all {
		b := m.linkFrame(link, c.frame)
		if len(b) == 0 {
			b = []byte{0}
		}
		all[i] = captured{b, len(b) + max(0, c.wireLen-len(c.frame))}
	}
	return all
}

// On each link type an expression means what tcpdump means there, or both refuse it.
func TestLinksAgainstTcpdump(t *testing.T) {
	for name, link := range links {
		t.Run(name, func(t *testing.T) {
			s := seed(t)
			tr := linkReference(link, linkCorpus(s, link, 300))
			g := generator{rand.New(rand.NewPCG(s, uint64(link)))}
			exprs := []string{"inbound", "outbound", "not inbound and udp", "ifindex 2", "ifindex 1 or tcp", "vlan", "mpls 16", "llc", "broadcast",
				"multicast", "ip broadcast", "ether host 02:42:0a:4d:00:01", "link[0] & 1 = 0", "ether[2:2] > 5", "net 10.0.0.0/8 and (tcp or udp)", "arp", "not arp"}
			for len(exprs) < tries(t)/8 {
				exprs = append(exprs, g.expr(g.IntN(4)))
			}
			if n := tr.check(t, exprs); n.accepted < len(exprs)/3 || n.telling < len(exprs)/6 {
				t.Error("too few expressions are valid and telling: the test says little")
			}
		})
	}
}

// IPv6 in a BSD loopback has another number on each system: all are known.
func TestLoopbackFamilies(t *testing.T) {
	for _, link := range []int{pcapng.Null, pcapng.Loop} {
		f, err := CompileFor(link, "ip6", nil)
		if err != nil {
			t.Fatal(err)
		}
		for family, want := range map[uint32]bool{2: false, 7: false, 10: false, 24: true, 28: true, 30: true} {
			frame := binary.BigEndian.AppendUint32(nil, family)
			if link == pcapng.Null {
				frame = binary.LittleEndian.AppendUint32(nil, family)
			}
			if got := f.Match(append(frame, make([]byte, 40)...), 44); got != want {
				t.Errorf("link type %d, family %d: %v", link, family, got)
			}
		}
	}
}

// VXLAN is found in any link type, and what is behind it is Ethernet.
func TestLinkVXLAN(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(1, 1))}
	inner := join(m.macs(), be(2, 0x0806), m.arp())
	outer := m.encapsulate(inner, 4789, 8, 7)
	for name, link := range links {
		frame := m.linkFrame(link, outer)
		for expr, want := range map[string]bool{"vxlan 7 and arp": true, "vxlan 8": false, "vxlan and ether[12:2] = 0x806": true, "vxlan and tcp": false} {
			if link == pcapng.IPv6 {
				want = false // the outer packet is IPv4
			}
			f, err := CompileFor(link, expr, nil)
			if err != nil {
				t.Fatal(name, err)
			}
			if got := f.Match(frame, len(frame)); got != want && link != pcapng.IPv6 {
				t.Errorf("%s: %s: %v", name, expr, got)
			}
		}
	}
}

func TestUnknownLink(t *testing.T) {
	var e *SyntaxError
	if _, err := CompileFor(147, "tcp", nil); !errors.As(err, &e) || !strings.Contains(err.Error(), "link type 147") || !strings.Contains(e.Caret(), "link type 147") {
		t.Error(err)
	}
	if f, err := CompileFor(147, " ", nil); err != nil || !f.Match(nil, 0) {
		t.Error("the empty expression is refused:", err)
	}
	_, err := CompileFor(pcapng.Raw, "ether host 2:0:0:0:0:1", nil)
	if err == nil || !strings.Contains(fmt.Sprint(err), "raw IP packets have no Ethernet addresses") {
		t.Error(err)
	}
}

// FuzzLink: no expression and no frame of any link type panics.
func FuzzLink(f *testing.F) {
	for _, link := range links {
		for i, c := range linkCorpus(3, link, 8) {
			f.Add(uint16(link), known[i], c.frame, c.wireLen)
			f.Add(uint16(link), "vxlan and (ifindex 1 or inbound or ip6 or isis)", c.frame, c.wireLen)
		}
	}
	f.Fuzz(func(t *testing.T, link uint16, expr string, frame []byte, wireLen int) {
		c, err := CompileFor(int(link), expr, nil)
		var e *SyntaxError
		if err == nil {
			c.Match(frame, wireLen)
		} else if !errors.As(err, &e) || e.Pos < 0 || e.Pos > len(expr) {
			t.Fatalf("%v: not a whole *SyntaxError", err)
		}
	})
}

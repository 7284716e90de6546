package ether_test

import (
	"net/netip"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

func TestReadEnds(t *testing.T) {
	a4, b4 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	a6, b6 := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	m := [6]byte{2, 0, 0, 0, 0, 1}
	for name, tc := range map[string]struct {
		frame    []byte
		from, to netip.Addr
	}{
		"IPv4":                  {packets.Packet{Src: a4, Dst: b4}.Bytes(), a4, b4},
		"IPv4, tagged":          {packets.Packet{Src: a4, Dst: b4, Tags: []uint16{1, 2}}.Bytes(), a4, b4},
		"three tags":            {packets.Packet{Src: a4, Dst: b4, Tags: []uint16{1, 2, 3}}.Bytes(), netip.Addr{}, netip.Addr{}},
		"IPv6":                  {packets.Packet{V6: true, Src: a6, Dst: b6}.Bytes(), a6, b6},
		"request":               {packets.ARP([6]byte{255, 255, 255, 255, 255, 255}, m, 1, a4, [6]byte{}, b4), a4, b4},
		"response":              {packets.ARP(m, m, 2, b4, m, a4), b4, a4},
		"ARP, cut short":        {packets.ARP(m, m, 2, b4, m, a4)[:41], netip.Addr{}, netip.Addr{}},
		"solicitation":          {packets.Solicitation(m, a6, b6), a6, b6},
		"advertisement":         {packets.Advertisement(m, m, 0, b6, a6), b6, a6},
		"IPv4 header cut short": {packets.Packet{Src: a4, Dst: b4}.Bytes()[:33], netip.Addr{}, netip.Addr{}},
		"nothing":               {nil, netip.Addr{}, netip.Addr{}},
		"no IP":                 {packets.Ethernet(0x88cc, make([]byte, 60)), netip.Addr{}, netip.Addr{}},
	} {
		if from, to := ether.ReadEnds(tc.frame); from != tc.from || to != tc.to {
			t.Errorf("%s: %v to %v, want %v to %v", name, from, to, tc.from, tc.to)
		}
		if got, want := ether.IsNeighbour(tc.frame), name == "solicitation" || name == "advertisement"; got != want {
			t.Errorf("%s: neighbour message %t", name, got)
		}
	}
}

func FuzzReadEnds(f *testing.F) {
	f.Add(packets.Packet{}.Bytes())
	f.Add(packets.Packet{V6: true, Hop: make([]byte, 6)}.Bytes())
	f.Add(packets.Solicitation([6]byte{2}, netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if from, to := ether.ReadEnds(b); from.IsValid() != to.IsValid() || from.BitLen() != to.BitLen() {
			t.Errorf("%v to %v", from, to)
		}
		if from, _ := ether.ReadEnds(b); ether.IsNeighbour(b) && !from.Is6() {
			t.Errorf("a neighbour message from %v", from)
		}
	})
}

package ether

import (
	"encoding/binary"
	"testing"

	"github.com/google/gopacket/layers"
)

func TestHeaders(t *testing.T) {
	secret := make([]byte, 500)
	raw := func(typ uint16, body ...byte) Frame {
		room := make([]byte, Headroom+HeaderLen, Headroom+HeaderLen+len(body))
		binary.BigEndian.PutUint16(room[Headroom+12:], typ)
		return Lend(append(room, body...), Offload{})
	}
	ip := func(proto, fragment byte) []byte {
		h := append(make([]byte, 20), secret...)
		h[0], h[7], h[9] = 0x45, fragment, proto
		return h
	}
	six := func(next byte) []byte {
		h := append(make([]byte, 40), secret...)
		h[0], h[6] = 0x60, next
		return h
	}
	for _, c := range []struct {
		name string
		f    Frame
		want int
	}{
		{"TCP", packet{payload: secret}.frame(t), 54},
		{"TCP, IPv6", packet{v6: true, payload: secret}.frame(t), 74},
		{"UDP", packet{udp: true, payload: secret}.frame(t), 42},
		{"UDP behind two tags", packet{udp: true, tags: 2, payload: secret}.frame(t), 50},
		{"ICMP", raw(typeIPv4, ip(1, 0)...), 14 + 20 + 28},
		{"ICMPv6", raw(typeIPv6, six(58)...), 14 + 40 + 28},
		{"fragment", raw(typeIPv4, ip(protoUDP, 1)...), 14 + 20 + 8},
		{"IPv6 fragment", raw(typeIPv6, six(protoFragment)...), 14 + 40 + 8},
		{"short ICMP", raw(typeIPv4, ip(1, 0)[:22]...), 36},
		{"ARP", raw(0x0806, make([]byte, 28)...), 42},
		{"no IP header", raw(typeIPv4, 0x45), 15},
		{"nothing", Lend(nil, Offload{}), 0},
	} {
		if got := c.f.Headers(); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
}

// What most frames are is known at first sight.
func TestPlainHeaders(t *testing.T) {
	payload := make([]byte, 100)
	options := layers.TCP{Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: payload[:8]}}}
	for _, p := range []packet{{payload: payload}, {payload: payload, tcp: options}, {tcp: options}, {udp: true, payload: payload},
		{v6: true, payload: payload, tcp: options}, {v6: true, udp: true, payload: payload}} {
		f := p.frame(t)
		if n, want := plainHeaders(f.Bytes()), anyHeaders(f.Bytes()); n != want || n != f.Len()-len(p.payload) {
			t.Errorf("%+v: %d bytes, want %d", p, n, want)
		}
	}
	for _, p := range []packet{{tags: 1, payload: payload}, {v6: true, hop: payload[:6], payload: payload}} {
		f := p.frame(t)
		if n := plainHeaders(f.Bytes()); n != 0 {
			t.Errorf("%+v: %d bytes", p, n)
		}
	}
}

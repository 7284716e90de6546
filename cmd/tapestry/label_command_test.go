package main

import (
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// Malformed packets do not end a watch, and no control characters of theirs reach a terminal.
func TestWatchHostile(t *testing.T) {
	d := newCaptureDaemon(t, func(f *feed) {
		f.ports()
		f.packet(50, func(p *pcapng.Packet) { // gopacket panics on an ARP whose addresses are longer than it
			copy(p.Data[12:], []byte{8, 6, 0, 1, 8, 0, 0x86, 4, 0, 1})
		})
		for n := range 60 { // IPv6 with extension headers, and DNS, cut off everywhere
			f.packet(60, func(p *pcapng.Packet) {
				copy(p.Data[12:], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0xff, 0xff, 0, 64})
				p.Data, p.Len = p.Data[:n], 60
				p.Comment = "\x1b[2J \u202e verdict"
			})
			f.packet(100, func(p *pcapng.Packet) { p.Data[37], p.Data[36] = 53, 0; p.Data = p.Data[:42+n%58]; p.Len = 100 })
		}
	})
	r := tapestry(t, d.args(t, "watch", "-v")...)
	if r.code != exit.OK || strings.Count(r.out, " B") < 121 || !strings.Contains(r.out, "Error: runtime error") || strings.ContainsAny(r.out, "\x1b\u202e") {
		t.Errorf("exit %d, %s\n%q", r.code, r.stderr, r.out)
	}
}

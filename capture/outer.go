package capture

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

// A Tunnel is the two VTEPs of a remote host's port.
type Tunnel struct{ Local, Remote netip.AddrPort }

// outerHeadersLen is the largest length of the outer headers in bytes: Ethernet, IPv6, UDP, VXLAN.
const outerHeadersLen = 14 + 40 + 8 + 8

// outer appends the headers of the VXLAN datagram that carries a frame of length bytes, and the frame, to b (RFC 7348
// section 5). They are rebuilt, not captured: MAC addresses, TTL and source port are made up; the UDP checksum is zero, which
// means none, also with IPv6 (RFC 6935 section 5).
func (t *Tunnel) outer(b, frame []byte, length int, vni uint32, in bool) []byte {
	src, dst := t.Local, t.Remote
	port := t.Remote.Port()
	if in {
		src, dst = dst, src
		port = t.Local.Port()
	}
	be := binary.BigEndian
	b = append(b, hostMAC(dst.Addr())...)
	b = append(b, hostMAC(src.Addr())...)
	udp := 8 + 8 + length
	if src.Addr().Is4() {
		b = append(b, 0x08, 0x00)
		at := len(b)
		b = append(b, 0x45, 0)
		b = be.AppendUint16(b, uint16(20+udp))
		b = append(b, 0, 0, 0, 0, 64, 17, 0, 0)
		b = append(b, src.Addr().AsSlice()...)
		b = append(b, dst.Addr().AsSlice()...)
		var sum uint32
		for i := at; i < len(b); i += 2 {
			sum += uint32(be.Uint16(b[i:]))
		}
		sum = sum&0xffff + sum>>16
		be.PutUint16(b[at+10:], ^uint16(sum+sum>>16))
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = be.AppendUint16(b, uint16(udp))
		b = append(b, 17, 64)
		b = append(b, src.Addr().AsSlice()...)
		b = append(b, dst.Addr().AsSlice()...)
	}
	f := ether.Lend(append(make([]byte, ether.Headroom), frame...), ether.Offload{})
	b = be.AppendUint16(b, uint16(49152+f.Flow()%16384))
	b = be.AppendUint16(b, port)
	b = be.AppendUint16(b, uint16(udp))
	b = append(b, 0, 0, 0x08, 0, 0, 0, byte(vni>>16), byte(vni>>8), byte(vni), 0)
	return append(b, frame...)
}

// hostMAC is a locally administered MAC address that ends like the host's IP address.
func hostMAC(a netip.Addr) []byte {
	b := a.AsSlice()
	return append([]byte{2, 0}, b[len(b)-4:]...)
}

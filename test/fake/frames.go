package fake

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/test/packets"
)

var webMAC, webAddr = [6]byte{2, 0x42, 10, 80, 1, 2}, netip.MustParseAddr("10.80.1.2")

// UDPFrame is a frame of length bytes, at least 42, with a UDP datagram from web to db.
func UDPFrame(length int) []byte {
	return packets.Packet{UDP: true, SrcMAC: webMAC, DstMAC: [6]byte{2, 0x42, 10, 80, 1, 3}, Src: webAddr, Dst: netip.MustParseAddr("10.80.1.3"),
		ID: 1, SrcPort: 40212, DstPort: 8080, Payload: make([]byte, length-42)}.Bytes()
}

// TCPFrame is a frame of a TCP connection from web to port 80 of 10.80.2.9, in either direction, with these TCP flags and no payload.
func TCPFrame(fromWeb bool, flags byte) []byte {
	p := packets.Packet{SrcMAC: webMAC, DstMAC: [6]byte{2, 0x42, 10, 80, 2, 9}, Src: webAddr, Dst: netip.MustParseAddr("10.80.2.9"),
		SrcPort: 40000, DstPort: 80, TCP: packets.Flags(flags)}
	if !fromWeb {
		p.SrcMAC, p.DstMAC, p.Src, p.Dst, p.SrcPort, p.DstPort = p.DstMAC, p.SrcMAC, p.Dst, p.Src, p.DstPort, p.SrcPort
	}
	return p.Bytes()
}

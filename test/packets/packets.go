// Package packets writes the frames that tests send: Ethernet with VLAN tags, IPv4 or IPv6, TCP or UDP. gopacket writes them, so that what
// reads them is compared with another implementation. It imports nothing of ours, so that the tests inside each room can use it.
package packets

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// A Packet is one TCP segment or UDP datagram in an Ethernet frame. What is zero has the value that its comment names.
type Packet struct {
	V6, UDP          bool       // zero: TCP over IPv4
	SrcMAC, DstMAC   [6]byte    // zero: 02:42:0a:4d:00:02 to 02:42:0a:4d:00:03
	Tags             []uint16   // VLAN ids, the outermost first, all of type 0x8100
	Src, Dst         netip.Addr // zero: 10.77.0.2 to 10.77.0.3, or fd00::2 to fd00::3
	ID               uint16     // IPv4's identification
	DF               bool       // IPv4's don't fragment
	Label            uint32     // IPv6's flow label
	Hop              []byte     // options of an IPv6 hop-by-hop header, 6 + n*8 bytes; nil: no such header
	SrcPort, DstPort uint16     // zero: 4433 to 51820
	TCP              layers.TCP // sequence numbers, flags, window and options; of its ports, lengths and checksum nothing counts
	Payload          []byte
}

// Flags is a TCP header with these flags, whose bits are those of its byte 13.
func Flags(f byte) layers.TCP {
	return layers.TCP{FIN: f&1 != 0, SYN: f&2 != 0, RST: f&4 != 0, PSH: f&8 != 0, ACK: f&16 != 0, URG: f&32 != 0, ECE: f&64 != 0, CWR: f&128 != 0, Window: 501}
}

// Data is n bytes of payload, no two neighbours alike.
func Data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// Bytes is the frame with its lengths and checksums, without padding. A packet that gopacket cannot write is the test's mistake: it panics.
func (p Packet) Bytes() []byte {
	var stack []gopacket.SerializableLayer
	typ, proto := layers.EthernetTypeIPv4, layers.IPProtocolTCP
	if p.V6 {
		typ = layers.EthernetTypeIPv6
	}
	if p.UDP {
		proto = layers.IPProtocolUDP
	}
	src, dst := macOr(p.SrcMAC, 2), macOr(p.DstMAC, 3)
	eth := &layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: typ}
	stack = append(stack, eth)
	for i, id := range p.Tags {
		eth.EthernetType = layers.EthernetTypeDot1Q
		tag := &layers.Dot1Q{VLANIdentifier: id, Type: layers.EthernetTypeDot1Q}
		if i == len(p.Tags)-1 {
			tag.Type = typ
		}
		stack = append(stack, tag)
	}
	if p.V6 {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, FlowLabel: p.Label, NextHeader: proto, SrcIP: addrOr(p.Src, "fd00::2"), DstIP: addrOr(p.Dst, "fd00::3")}
		stack = append(stack, ip)
		if p.Hop != nil {
			ip.NextHeader = layers.IPProtocolIPv6HopByHop
			stack = append(stack, gopacket.Payload(slices.Concat([]byte{byte(proto), byte((len(p.Hop)+2)/8 - 1)}, p.Hop)))
		}
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: p.ID, Protocol: proto, SrcIP: addrOr(p.Src, "10.77.0.2"), DstIP: addrOr(p.Dst, "10.77.0.3")}
		if p.DF {
			ip.Flags = layers.IPv4DontFragment
		}
		stack = append(stack, ip)
	}
	srcPort, dstPort := portOr(p.SrcPort, 4433), portOr(p.DstPort, 51820)
	if p.UDP {
		udp := &layers.UDP{SrcPort: layers.UDPPort(srcPort), DstPort: layers.UDPPort(dstPort)}
		stack = append(stack, udp)
	} else {
		tcp := p.TCP
		tcp.SrcPort, tcp.DstPort = layers.TCPPort(srcPort), layers.TCPPort(dstPort)
		stack = append(stack, &tcp)
	}
	return Serialize(append(stack, gopacket.Payload(p.Payload))...)[:p.HeadLen()+len(p.Payload)] // gopacket pads to Ethernet's least, a container's kernel does not
}

// Serialize is the frame of these layers, with their lengths and checksums. It panics if gopacket cannot write it.
func Serialize(stack ...gopacket.SerializableLayer) []byte {
	var ip gopacket.NetworkLayer
	for _, l := range stack {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			ip = n
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok && ip != nil {
			must(c.SetNetworkLayerForChecksum(ip))
		}
	}
	buf := gopacket.NewSerializeBuffer()
	must(gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...))
	return slices.Clone(buf.Bytes())
}

// Layout is where the transport header begins and where the transport checksum is, in bytes from the frame's beginning.
func (p Packet) Layout() (l4, checksum int) {
	l4 = 14 + 4*len(p.Tags) + 20
	if p.V6 {
		l4 += 20
		if p.Hop != nil {
			l4 += 2 + len(p.Hop)
		}
	}
	if p.UDP {
		return l4, l4 + 6
	}
	return l4, l4 + 16
}

// l4Len is the length of the transport header. gopacket pads TCP options to a multiple of four bytes.
func (p Packet) l4Len() int {
	if p.UDP {
		return 8
	}
	n := 20
	for _, o := range p.TCP.Options {
		switch o.OptionType {
		case layers.TCPOptionKindEndList, layers.TCPOptionKindNop:
			n++
		default:
			n += 2 + len(o.OptionData)
		}
	}
	return (n + 3) &^ 3
}

// HeadLen is the length of all headers, in bytes.
func (p Packet) HeadLen() int {
	l4, _ := p.Layout()
	return l4 + p.l4Len()
}

// Partial is the frame as a container's kernel leaves it for the device to complete: the checksum field has the sum of the pseudo-header
// (RFC 9293 §3.1, RFC 8200 §8.1) only.
func (p Packet) Partial() []byte {
	b := p.Bytes()
	l4, checksum := p.Layout()
	proto := uint32(6)
	if p.UDP {
		proto = 17
	}
	ip := b[14+4*len(p.Tags):]
	addresses := ip[12:20]
	if p.V6 {
		addresses = ip[8:40]
	}
	binary.BigEndian.PutUint16(b[checksum:], Sum(addresses, proto+uint32(len(b)-l4)))
	return b
}

// Segments are the packets into which a super-frame of p has to be cut, with size bytes of payload each; the last may have less.
// Sequence numbers and identifications count on. TCP's flags stay as they are.
func (p Packet) Segments(size int) (all []Packet) {
	for at := 0; at < len(p.Payload); at += size {
		q := p
		q.Payload = p.Payload[at:min(at+size, len(p.Payload))]
		q.TCP.Seq, q.ID = p.TCP.Seq+uint32(at), p.ID+uint16(at/size)
		all = append(all, q)
	}
	return all
}

// Sum is RFC 1071 to the letter: the ones' complement sum of b and sum, not inverted.
func Sum(b []byte, sum uint32) uint16 {
	for i := range b {
		word := uint32(b[i])
		if i%2 == 0 {
			word <<= 8
		}
		sum += word
		if sum > 0xffff {
			sum = sum&0xffff + sum>>16
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func macOr(mac [6]byte, last byte) net.HardwareAddr {
	if mac == [6]byte{} {
		mac = [6]byte{2, 0x42, 10, 77, 0, last}
	}
	return mac[:]
}

func addrOr(a netip.Addr, other string) net.IP {
	if !a.IsValid() {
		a = netip.MustParseAddr(other)
	}
	return a.AsSlice()
}

func portOr(port, other uint16) uint16 {
	if port == 0 {
		return other
	}
	return port
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

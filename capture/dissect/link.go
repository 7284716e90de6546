package dissect

import (
	"encoding/binary"
	"fmt"

	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
)

// A Link is the header of a frame that is not Ethernet.
type Link struct {
	Type      string    `json:"type"`                // sll, sll2 (Linux cooked, tcpdump -i any), raw or loopback
	Packet    string    `json:"packet,omitempty"`    // of cooked ones: to us, broadcast, multicast, to another, from us
	Interface uint32    `json:"interface,omitempty"` // of sll2: the interface's index
	Src       string    `json:"src,omitempty"`       // of cooked ones: the sender's MAC address
	Proto     EtherType `json:"proto"`               // what is behind it
}

var packetTypes = []string{"to us", "broadcast", "multicast", "to another", "from us"}

// readLink reads the header of n bytes of a frame of this link type, a LINKTYPE_ number; nil if it is none that is known,
// or is cut short.
func readLink(link int, b []byte) (l *Link, n int) {
	l = new(Link)
	var kind, size int
	var addr []byte
	switch link {
	case pcapng.LinuxSLL:
		if n = 16; len(b) < n {
			return nil, 0
		}
		l.Type, l.Proto = "sll", etherType(b[14:])
		kind, size, addr = int(be16(b)), int(be16(b[4:])), b[6:14]
	case pcapng.LinuxSLL2:
		if n = 20; len(b) < n {
			return nil, 0
		}
		l.Type, l.Proto, l.Interface = "sll2", etherType(b), be32(b[4:])
		kind, size, addr = int(b[10]), int(b[11]), b[12:20]
	case pcapng.Null, pcapng.Loop:
		if n = 4; len(b) < n {
			return nil, 0
		}
		l.Type = "loopback"
		family := be32(b)
		if link == pcapng.Null {
			family = binary.LittleEndian.Uint32(b)
		}
		switch family {
		case 2:
			l.Proto = typeIPv4
		case 10, 24, 28, 30:
			l.Proto = typeIPv6
		}
		return l, n
	case pcapng.Raw, pcapng.RawBSD, pcapng.RawOpen, pcapng.IPv4, pcapng.IPv6:
		if len(b) < 1 {
			return nil, 0
		}
		l.Type = "raw"
		switch b[0] >> 4 {
		case 4:
			l.Proto = typeIPv4
		case 6:
			l.Proto = typeIPv6
		}
		return l, 0
	default:
		return nil, 0
	}
	if kind < len(packetTypes) {
		l.Packet = packetTypes[kind]
	}
	if size == 6 {
		l.Src = ether.MAC(addr).String()
	}
	return l, n
}

// DissectLink is Dissect of a frame of another link type. It has Summary.Link instead of Eth.
func DissectLink(link int, frame []byte, wireLen int) (s *Summary) {
	if link == pcapng.Ethernet {
		return Dissect(frame, wireLen)
	}
	s = &Summary{Len: max(wireLen, len(frame))}
	if len(frame) < s.Len {
		s.Captured = len(frame)
	}
	defer func() {
		if r := recover(); r != nil {
			s.Error = fmt.Sprintf("dissector failed: %v", r)
		}
	}()
	var n int
	if s.Link, n = readLink(link, frame); s.Link == nil {
		s.Info = fmt.Sprintf("frame of link type %d", link)
		return s
	}
	s.network(s.Link.Proto, part{frame, s.Len}.skip(n))
	s.Info = string(s.describe(make([]byte, 0, 128), nil))
	return s
}

// FullLink is Full of a frame of another link type.
func FullLink(link int, frame []byte) string {
	if link == pcapng.Ethernet {
		return Full(frame)
	}
	t := &tree{}
	l, n := readLink(link, frame)
	if l == nil {
		t.line(0, fmt.Sprintf("Link type %d (%d bytes)", link, len(frame)), "")
		return t.out.String()
	}
	t.line(0, fmt.Sprintf("%s (%d bytes)", l.Type, n), "")
	for _, f := range [][2]string{{"Packet", l.Packet}, {"Source", l.Src}, {"Protocol", l.Proto.String()}} {
		if f[1] != "" {
			t.line(1, f[0], f[1])
		}
	}
	if l.Interface != 0 {
		t.line(1, "Interface", fmt.Sprint(l.Interface))
	}
	if l.Proto >= minType {
		t.layers(frame[n:], layers.EthernetType(l.Proto))
	}
	return t.out.String()
}

// AsEthernet rewrites a frame of another link type as an Ethernet frame, in b, with at most room bytes of payload. Unknown
// addresses are zero. It returns nil if the link type is unknown or the frame too short for its header.
func AsEthernet(b []byte, link int, frame []byte, room int) []byte {
	l, n := readLink(link, frame)
	if l == nil {
		return nil
	}
	b = append(b[:0], make([]byte, macsLen)...)
	if l.Packet == "broadcast" {
		copy(b, broadcastMAC[:])
	}
	switch link {
	case pcapng.LinuxSLL:
		copy(b[6:], frame[6:12])
	case pcapng.LinuxSLL2:
		copy(b[6:], frame[12:18])
	}
	b = binary.BigEndian.AppendUint16(b, uint16(l.Proto))
	return append(b, frame[n:min(len(frame), n+room)]...)
}

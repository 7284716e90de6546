package packets

import (
	"encoding/binary"
	"slices"
)

// Ethernet is a frame of this EtherType from 02:00:00:00:00:01 to 02:00:00:00:00:02, with all of payload behind its header. Nothing is
// checked: tests also ask what becomes of a payload that is not of that type.
func Ethernet(typ uint16, payload ...[]byte) []byte {
	header := binary.BigEndian.AppendUint16([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}, typ)
	return slices.Concat(header, slices.Concat(payload...))
}

// IPv4 is a packet from 10.0.0.1 to 10.0.0.2, of this protocol, flags and fragment offset. The length of options is a multiple of 4.
func IPv4(proto byte, fragment uint16, options []byte, payload ...[]byte) []byte {
	body := slices.Concat(payload...)
	h := slices.Concat([]byte{0x45 + byte(len(options)/4), 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, options)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(body)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	binary.BigEndian.PutUint16(h[10:], ^Sum(h, 0))
	return append(h, body...)
}

// IPv6 is a packet from :: to ::, with this next header.
func IPv6(next byte, payload ...[]byte) []byte {
	body := slices.Concat(payload...)
	h := make([]byte, 40, 40+len(body))
	h[0], h[6], h[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	return append(h, body...)
}

package ether

import (
	"encoding/binary"
	"math/bits"
)

// Where TCP's flags stand in its header, some of them, and kinds of options (RFC 9293 section 3.1 and 3.2).
const (
	tcpControl = 13
	tcpSYN     = 1 << 1
	tcpRST     = 1 << 2

	optionEnd  = 0
	optionNone = 1 // between others
	optionMSS  = 2
	mssLen     = 4
)

// IsSYN tells whether the frame is a TCP segment that opens a connection, or one that accepts it. Of a later fragment it may be wrong: MSS is not.
func (f *Frame) IsSYN() bool {
	b, at := f.Bytes(), 0
	switch {
	case len(b) < HeaderLen+ipv4Len+tcpLen:
		return false
	case b[12] == TypeIPv4>>8 && b[13] == TypeIPv4&0xff && b[14] == 0x45: // as nearly all are
		if b[23] != protoTCP {
			return false
		}
		at = HeaderLen + ipv4Len
	case b[12] == TypeIPv6>>8 && b[13] == TypeIPv6&0xff && (b[20] == protoTCP || b[20] == protoUDP):
		if b[20] == protoUDP {
			return false
		}
		at = HeaderLen + ipv6Len
	default:
		l := LayersOf(b)
		if l.Proto != protoTCP || l.Transport == 0 {
			return false
		}
		at = l.Transport
	}
	return at+tcpControl < len(b) && b[at+tcpControl]&(tcpSYN|tcpRST) == tcpSYN
}

// MSS is the largest segment that a TCP segment which opens or accepts a connection announces, and headers the length of the IP and TCP headers
// without options: a segment of that size is in a packet of both together (RFC 6691). It is 0 of every other frame, and where it cannot be changed: there is no
// such option, an option before it is malformed, the packet is a fragment or ends in its header, or the Offload is not about this header. f must have passed Check.
func (f *Frame) MSS() (mss, headers int) {
	l, at := f.mssOption()
	if at == 0 {
		return 0, 0
	}
	return int(binary.BigEndian.Uint16(f.Bytes()[at:])), l.ipLen() + tcpLen
}

// mssOption finds the value of the option, counted from the frame's first byte; 0: see MSS.
func (f *Frame) mssOption() (l headers, at int) {
	b := f.Bytes()
	l, ok := dissect(b)
	if !ok || l.kind == UDP || l.head > l.end(b) || f.Off.Kind != None || b[l.l4+tcpControl]&(tcpSYN|tcpRST) != tcpSYN ||
		f.Off.PartialChecksum && (int(f.Off.ChecksumStart) != l.l4 || f.Off.ChecksumOffset != tcpSum) {
		return l, 0
	}
	for at = l.l4 + tcpLen; at < l.head && b[at] != optionEnd; {
		if b[at] == optionNone {
			at++
			continue
		}
		if at+1 >= l.head {
			break
		}
		n := int(b[at+1])
		if n < 2 || at+n > l.head || b[at] == optionMSS && n != mssLen {
			break
		}
		if b[at] == optionMSS {
			return l, at + 2
		}
		at += n
	}
	return l, 0
}

// AppendMSS appends f to b with another MSS in its option, and returns it as it is there, with its Headroom before it. What MSS gives must not be 0. A partial
// checksum stays as it is, since it has nothing of the option yet; a complete one is right after it if it was before (RFC 1624).
func (f *Frame) AppendMSS(b []byte, mss uint16) (changed Frame, rest []byte) {
	l, at := f.mssOption()
	begin := len(b)
	b = append(b, f.buf...)
	changed = f.copied(b[begin:], 0)
	frame := changed.Bytes()
	was := binary.BigEndian.Uint16(frame[at:])
	binary.BigEndian.PutUint16(frame[at:], mss)
	if f.Off.PartialChecksum {
		return changed, b
	}
	if (at-l.l4)%2 != 0 { // behind an odd number of bytes it stands in two words, the other way round
		was, mss = bits.ReverseBytes16(was), bits.ReverseBytes16(mss)
	}
	sum := frame[l.l4+tcpSum:]
	binary.BigEndian.PutUint16(sum, ^fold(uint64(^binary.BigEndian.Uint16(sum))+uint64(^was)+uint64(mss)))
	return changed, b
}

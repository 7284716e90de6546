package tunnel

import (
	"encoding/binary"
	"strconv"

	"github.com/tapestry-net/tapestry/ether"
)

// Wire is how the datagrams of a network look on the underlay where RFC 7348 leaves it open, and which are accepted. It may differ from
// host to host. The zero Wire is the default.
type Wire struct {
	DropReserved bool `json:"drop_reserved,omitempty"` // drop datagrams with a reserved bit, as Linux does; else the bits are ignored, as RFC 7348 section 5 says
	DropTagged   bool `json:"drop_tagged,omitempty"`   // drop frames with a VLAN tag, in both directions (RFC 7348 section 6.1)
	DSCP         int  `json:"dscp,omitempty"`          // of the outer IP header: 0 to 63, or Inherit
	TTL          int  `json:"ttl,omitempty"`           // of the outer IP header: 1 to 255, or Inherit; 0: the host's, and 1 for a group
}

// Words are the values as users write them: ignore or drop, pass or drop, numbers or inherit; "" is the host's TTL.
func (w *Wire) Words() (reserved, tagged, dscp, ttl string) {
	reserved, tagged, dscp = "ignore", "pass", strconv.Itoa(w.DSCP)
	if w.DropReserved {
		reserved = "drop"
	}
	if w.DropTagged {
		tagged = "drop"
	}
	if w.DSCP == Inherit {
		dscp = "inherit"
	}
	if w.TTL == Inherit {
		ttl = "inherit"
	} else if w.TTL != 0 {
		ttl = strconv.Itoa(w.TTL)
	}
	return reserved, tagged, dscp, ttl
}

// Inherit, as DSCP or TTL, is the inner header's. What is not IP then has DSCP 0 and the host's TTL.
const Inherit = -1

// A mark is what datagrams of one train have in common of their outer IP header: the traffic class, and the TTL or hop limit; 0 is the
// socket's own.
type mark struct{ class, ttl uint8 }

// markOf is the mark of a frame's datagrams. Its ECN is the frame's, CE too: RFC 6040 section 4.1, normal mode. (Linux sends ECT(0)
// for CE, as RFC 3168 had it; to the inner frame it makes no difference.)
func (w *Wire) markOf(f *ether.Frame) (m mark) {
	class, ttl, _ := f.Class()
	if m.class = class; w.DSCP != Inherit {
		m.class = class&ether.ECNMask | uint8(w.DSCP)<<2
	}
	if m.ttl = uint8(w.TTL); w.TTL == Inherit {
		m.ttl = ttl
	}
	return m
}

// admit tells why a datagram of the link is dropped all the same: the network is strict, or its path was congested. The outer header's
// ECN becomes the frame's.
func (l *Link) admit(datagram []byte, about *received) dropReason {
	if about.fragmented {
		l.fragmented.Add(1)
		about.fragmented = false // of a train only once
	}
	frame := datagram[headerLen:]
	switch {
	case l.wire.DropReserved && l.hasReserved(datagram):
		return reservedBit
	case l.wire.DropTagged && ether.IsTagged(frame):
		return hasTag
	case about.class&ether.ECT1 != 0 && !ether.CombineECN(frame, about.class): // only ECT(1) and CE say something new, and both have this bit
		return congested
	}
	return accepted
}

// hasReserved tells whether a header has a bit other than the I flag and the VNI; those of remoteSum count only where they were not agreed on.
func (l *Link) hasReserved(header []byte) bool {
	known := uint64(flagI<<56 | ether.MaxVNI<<8)
	if l.readFlag(header).PartialChecksum {
		known |= flagC<<48 | 0xff
	}
	return binary.BigEndian.Uint64(header)&^known != 0
}

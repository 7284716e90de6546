package tunnel

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/tapestry-net/tapestry/ether"
)

// Talk between hosts: datagrams with the VXLAN header of VNI 0, which no network has and kernel VTEPs
// drop, and in it an Ethernet frame of IEEE 802's local experimental EtherType. No container can make
// one: its frames leave with its network's VNI. The frame, in bytes and network byte order:
//
//	 0  destination 01:80:c2:00:00:0f, which no bridge passes on (IEEE 802.1Q table 8-1)
//	 6  source 02:00 and half of the nonce, so that each test is a flow of its own
//	12  0x88b5
//	14  version, kind, shape, way, index, ask
//	20  size of the frame
//	22  features of the host that answers
//	24  nonce of the test, random
//	32  CRC-32C of all from byte 14 on, without these four
//	36  body: of a segment anything, of an answer a report
const (
	hostVNI        = 0
	hostType       = 0x88b5
	hostVersion    = 1
	messageHeadLen = 36
)

// The kinds of message. A test is: open, answered; trains and the same singly, segment by segment; ask, answered.
const (
	kindOpen    = 1 + iota // a test begins, and who is there?
	kindSegment            //
	kindAsk                // what came?
	kindAnswer             // to either
)

// stillThere, as the shape of an open, says that no test follows: the host is only to say that it is there.
const keepaliveOnly = 1

// Ways that a segment is sent.
const (
	inTrain = iota
	singly
	ways
)

type message struct {
	kind     uint8
	shape    uint8  // of the train that a segment belongs to
	way      uint8  // of a segment
	index    uint8  // of a segment in its train
	ask      uint8  // counts open and ask, so that an answer is known from an earlier one's
	features uint16 // of an answer
	nonce    uint64
	body     []byte
	open     bool // it travels as a frame whose checksum is left open (see remoteSum); of any kind, in no byte of its own
}

// Features are what a host understands of what plain VXLAN does not have. Of who says featureRemoteSum it is also
// tried whether the flag gets there: each question goes twice, at first as an open message.
const (
	featureRemoteSum = 1 << iota // it adds up checksums that are left open, see remoteSum

	features = featureRemoteSum // of this version
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes a message into all of a frame, which holds its body already.
func (m *message) encode(b []byte) {
	copy(b, []byte{0x01, 0x80, 0xc2, 0, 0, 0x0f, 0x02, 0})
	binary.BigEndian.PutUint32(b[8:], uint32(m.nonce))
	binary.BigEndian.PutUint16(b[12:], hostType)
	b[14], b[15], b[16], b[17], b[18], b[19] = hostVersion, m.kind, m.shape, m.way, m.index, m.ask
	binary.BigEndian.PutUint16(b[20:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[22:], m.features)
	binary.BigEndian.PutUint64(b[24:], m.nonce)
	binary.BigEndian.PutUint32(b[32:], messageSum(b))
}

// parse reads a frame. ok: it is a message; intact: it is as it was sent.
func parse(b []byte) (m message, intact, ok bool) {
	if len(b) < messageHeadLen || binary.BigEndian.Uint16(b[12:]) != hostType || b[14] != hostVersion {
		return m, false, false
	}
	m = message{kind: b[15], shape: b[16], way: b[17], index: b[18], ask: b[19], features: binary.BigEndian.Uint16(b[22:]),
		nonce: binary.BigEndian.Uint64(b[24:]), body: b[messageHeadLen:]}
	intact = int(binary.BigEndian.Uint16(b[20:])) == len(b) && binary.BigEndian.Uint32(b[32:]) == messageSum(b)
	return m, intact, true
}

func messageSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[14:32], castagnoli), castagnoli, b[messageHeadLen:])
}

// A shape is a train: n frames of size bytes, the last of them shorter or as long.
type shape struct{ size, n, last int }

const shapes = 4

// trainShapes are what is tried on a path for frames of up to full bytes: a train as long as trains get, one whose
// last is no shorter, odd sizes, and a last that lacks one byte.
func trainShapes(full int) [shapes]shape {
	full = min(full, trainBytes/2-headerLen)
	most := min(maxTrain, trainBytes/(full+headerLen))
	return [shapes]shape{
		{full, most, full/2 | 1},
		{full, min(most, 4), full},
		{min(full, 333), 17, min(full, 101)},
		{min(full, 1000), 2, min(full, 1000) - 1},
	}
}

// all is the train's segments, a bit for each.
func (s shape) all() uint64 { return 1<<(s.n-1)<<1 - 1 }

// long is those of them that are size long.
func (s shape) long() uint64 {
	if s.last < s.size {
		return s.all() >> 1
	}
	return s.all()
}

// frames makes the train for one way. The body is what it may be, and is lent.
func (s shape) frames(m message, body []byte) []*ether.Frame {
	room := make([]byte, s.n*(ether.Headroom+s.size))
	frames := make([]*ether.Frame, s.n)
	for i := range frames {
		size := ether.Headroom + s.size
		if i == s.n-1 {
			size = ether.Headroom + s.last
		}
		b := room[:size:size]
		room = room[size:]
		copy(b[ether.Headroom+messageHeadLen:], body)
		m.index = uint8(i)
		m.encode(b[ether.Headroom:])
		f := ether.Lend(b, ether.Offload{})
		frames[i] = &f
	}
	return frames
}

// A report is what came of a test.
type report struct {
	known   bool // the test was opened, and is not forgotten yet
	open    bool // an open message came, and came as one
	intact  [shapes][ways]uint64
	damaged [ways]uint16 // segments that came otherwise than they were sent
}

const reportLen = 1 + shapes*ways*8 + ways*2

func (r *report) encode(b []byte) {
	_ = b[reportLen-1]
	b[0] = 0
	if r.known {
		b[0] |= 1
	}
	if r.open {
		b[0] |= 2
	}
	b = b[1:]
	for shape := range r.intact {
		for _, bits := range r.intact[shape] {
			binary.BigEndian.PutUint64(b, bits)
			b = b[8:]
		}
	}
	for _, n := range r.damaged {
		binary.BigEndian.PutUint16(b, n)
		b = b[2:]
	}
}

func (r *report) decode(b []byte) bool {
	if len(b) < reportLen {
		return false
	}
	r.known, r.open = b[0]&1 != 0, b[0]&2 != 0
	b = b[1:]
	for shape := range r.intact {
		for way := range r.intact[shape] {
			r.intact[shape][way] = binary.BigEndian.Uint64(b)
			b = b[8:]
		}
	}
	for way := range r.damaged {
		r.damaged[way] = binary.BigEndian.Uint16(b)
		b = b[2:]
	}
	return true
}

// narrow tells whether the path takes short datagrams and none of the longest ones.
func (r *report) narrow(full int) bool {
	all, short := trainShapes(full), false
	for i, s := range all {
		switch {
		case s.size == all[0].size && (r.intact[i][singly]|r.intact[i][inTrain])&s.long() != 0:
			return false
		case s.size < all[0].size && r.intact[i][singly]&s.all() != s.all():
			return false // it loses others too
		case s.size < all[0].size:
			short = true
		}
	}
	return short
}

// note enters a segment.
func (r *report) countSegment(m message, intact bool) {
	if intact && m.shape < shapes && m.way < ways && m.index < maxTrain {
		r.intact[m.shape][m.way] |= 1 << m.index
	} else if n := &r.damaged[m.way%ways]; *n < 1<<16-1 {
		*n++
	}
}

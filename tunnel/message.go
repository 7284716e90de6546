package tunnel

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/tapestry-net/tapestry/ether"
)

// Messages between hosts: datagrams with VNI 0, which no network has and kernel VTEPs drop. The inner Ethernet frame has
// the local experimental EtherType of IEEE 802. No container can send one: its frames have the VNI of its network.
// The frame, in bytes and network byte order:
//
//	 0  destination 01:80:c2:00:00:0f, which no bridge forwards (IEEE 802.1Q table 8-1)
//	 6  source 02:00 and half of the nonce, so that each test is another flow
//	12  0x88b5
//	14  version, kind, shape, mode, index, ask
//	20  size of the frame
//	22  features of the host that answers
//	24  nonce of the test, random
//	32  CRC-32C of all from byte 14 on, without these four
//	36  body: random bytes in a segment, a report in an answer, a tally in an echo
const (
	hostVNI        = 0
	hostType       = ether.TypeExperimental
	hostVersion    = 1
	messageHeadLen = 36
)

// The kinds of message. A test is: open and answer; segments, in trains and singly; ask and answer.
const (
	kindOpen    = 1 + iota // a test begins; answered by hosts that run tapestry
	kindSegment            // one datagram of a test
	kindAsk                // which segments have arrived?
	kindAnswer             // to open and to ask
	kindProbe              // of a burst, or the question for its tally (health.go)
	kindEcho               // to a probe
)

// keepaliveOnly, as the shape of an open, says that no trains follow: the host has to answer, no more.
const keepaliveOnly = 1

// How a segment is sent.
const (
	inTrain = iota
	singly
	modes
)

// What a probe or an echo is.
const (
	numbered = iota // one of a burst
	total           // the question for its tally, or the answer
)

type message struct {
	kind     uint8
	shape    uint8  // of the train that a segment belongs to
	mode     uint8  // of a segment, a probe or an echo
	index    uint8  // of a segment in its train, a probe or an echo in its burst
	ask      uint8  // number of the question, so that late answers to earlier ones are ignored
	features uint16 // of an answer
	nonce    uint64
	body     []byte
	partial  bool // sent as a frame with a partial checksum (see remoteSum), to test that: a flag of the VXLAN header, not of the message
}

// Features are extensions of VXLAN that a host supports. To a host with featureRemoteSum each question is sent twice, first
// with a partial checksum, to test whether the flag reaches it.
const (
	featureRemoteSum = 1 << iota // it completes partial checksums, see remoteSum
	featureProbes                // it answers probes

	features = featureRemoteSum | featureProbes // of this version
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes the head of a message into b, which is the whole frame and holds the body already.
func (m *message) encode(b []byte) {
	copy(b, []byte{0x01, 0x80, 0xc2, 0, 0, 0x0f, 0x02, 0})
	binary.BigEndian.PutUint32(b[8:], uint32(m.nonce))
	binary.BigEndian.PutUint16(b[12:], hostType)
	b[14], b[15], b[16], b[17], b[18], b[19] = hostVersion, m.kind, m.shape, m.mode, m.index, m.ask
	binary.BigEndian.PutUint16(b[20:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[22:], m.features)
	binary.BigEndian.PutUint64(b[24:], m.nonce)
	binary.BigEndian.PutUint32(b[32:], messageSum(b))
}

// frame is the message as a frame.
func (m *message) frame() *ether.Frame {
	room := make([]byte, ether.Headroom+messageHeadLen+len(m.body))
	copy(room[ether.Headroom+messageHeadLen:], m.body)
	m.encode(room[ether.Headroom:])
	f := ether.Lend(room, ether.Offload{})
	if m.partial {
		f.Off = ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16} // as TCP over IPv4
	}
	return &f
}

// parse reads a frame. ok: it is a message; intact: its length and CRC are right.
func parse(b []byte) (m message, intact, ok bool) {
	if len(b) < messageHeadLen || binary.BigEndian.Uint16(b[12:]) != hostType || b[14] != hostVersion {
		return m, false, false
	}
	m = message{kind: b[15], shape: b[16], mode: b[17], index: b[18], ask: b[19], features: binary.BigEndian.Uint16(b[22:]),
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

// trainShapes are the trains of a test on a path that carries frames of up to full bytes: one of maximum length, one whose
// last frame is not shorter, one of odd sizes, and one whose last frame is one byte shorter.
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

// all has a bit for each segment of the train.
func (s shape) all() uint64 { return 1<<(s.n-1)<<1 - 1 }

// long has a bit for each segment of the full size.
func (s shape) long() uint64 {
	if s.last < s.size {
		return s.all() >> 1
	}
	return s.all()
}

// frames makes the frames of the train; all have the same body, up to their size.
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

// A report says what has arrived of a test.
type report struct {
	known   bool // the test is known: it was opened, and is one of the last openTests
	partial bool // a message with a partial checksum has arrived, with its flag
	intact  [shapes][modes]uint64
	damaged [modes]uint16 // segments that have arrived changed
}

const reportLen = 1 + shapes*modes*8 + modes*2

func (r *report) encode(b []byte) {
	_ = b[reportLen-1]
	b[0] = 0
	if r.known {
		b[0] |= 1
	}
	if r.partial {
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
	r.known, r.partial = b[0]&1 != 0, b[0]&2 != 0
	b = b[1:]
	for shape := range r.intact {
		for mode := range r.intact[shape] {
			r.intact[shape][mode] = binary.BigEndian.Uint64(b)
			b = b[8:]
		}
	}
	for mode := range r.damaged {
		r.damaged[mode] = binary.BigEndian.Uint16(b)
		b = b[2:]
	}
	return true
}

// narrow tells whether short datagrams have arrived and none of the longest ones.
func (r *report) narrow(full int) bool {
	all, short := trainShapes(full), false
	for i, s := range all {
		switch {
		case s.size == all[0].size && (r.intact[i][singly]|r.intact[i][inTrain])&s.long() != 0:
			return false
		case s.size < all[0].size && r.intact[i][singly]&s.all() != s.all():
			return false // it loses others, too
		case s.size < all[0].size:
			short = true
		}
	}
	return short
}

// countSegment adds a segment that has arrived.
func (r *report) countSegment(m message, intact bool) {
	if intact && m.shape < shapes && m.mode < modes && m.index < maxTrain {
		r.intact[m.shape][m.mode] |= 1 << m.index
	} else if n := &r.damaged[m.mode%modes]; *n < 1<<16-1 {
		*n++
	}
}

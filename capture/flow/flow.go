// Package flow counts flows: one row for each conversation, with both directions.
//
// It is used by the commands, not by the daemon. It needs a frame's headers only, as a capture or the recorder has them, does
// not rely on the lengths in them, and holds a bounded number of rows: what was evicted is still in the sums.
package flow

import (
	"iter"
	"net/netip"
	"unique"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// DefaultBound is how many flows a Table holds unless told otherwise: it then uses up to some 25 MB.
const DefaultBound = 1 << 16

// TCP flags (RFC 9293 §3.1) at the beginning and the end of a connection.
const (
	FIN uint8 = 1 << 0
	SYN uint8 = 1 << 1
	RST uint8 = 1 << 2
	ack uint8 = 1 << 4
)

// A Packet is one frame to count.
type Packet struct {
	Network unique.Handle[string] // equal addresses on two networks are different ends
	Time    int64                 // ns since 1970
	Data    []byte                // from the Ethernet header on; 128 bytes are enough
	Len     int                   // bytes of the whole frame
	Segment int                   // bytes of payload in each segment of a super-frame; 0: it is none
	Verdict vswitch.Verdict       // one that is Known
	Fault   ether.Fault
}

// An End is one of the two ends of a flow. With IP it has an address, and a port if the protocol has ports (but not of
// fragments, since only the first one carries them); with anything else it has the MAC address.
type End struct {
	Addr netip.Addr
	MAC  ether.MAC
	Port uint16
}

// Compare orders ends: by address, MAC address and port.
func (e *End) Compare(f *End) int {
	if c := e.Addr.Compare(f.Addr); c != 0 {
		return c
	}
	for i := range e.MAC {
		if e.MAC[i] != f.MAC[i] {
			return int(e.MAC[i]) - int(f.MAC[i])
		}
	}
	return int(e.Port) - int(f.Port)
}

// Counts are how much went in one direction.
type Counts struct {
	Frames uint64 // as the switch saw them: a super-frame is one
	Wire   uint64 // frames on a wire: a super-frame is its segments
	Bytes  uint64 // of these, Ethernet header to payload
}

// Add adds.
func (c *Counts) Add(d Counts) {
	c.Frames += d.Frames
	c.Wire += d.Wire
	c.Bytes += d.Bytes
}

// A Sum is the counters of several frames.
type Sum struct {
	Counts
	Verdicts vswitch.Tally
	Faults   uint64 // frames that an injected fault did something to
}

// Add adds.
func (s *Sum) Add(o *Sum) {
	s.Counts.Add(o.Counts)
	for v, n := range o.Verdicts {
		s.Verdicts[v] += n
	}
	s.Faults += o.Faults
}

// A Flow is one conversation. A is the end that began it: the one that sent TCP's SYN, else the one that was seen first.
type Flow struct {
	Network     unique.Handle[string]
	Type        uint16 // EtherType behind up to two VLAN tags; 0: the frame ends before it
	Proto       uint8  // of IP, behind extension headers
	A, B        End
	Out, Back   Counts // A to B, and B to A
	Verdicts    vswitch.Tally
	Faults      uint64
	First, Last int64 // ns since 1970
	Sent, Got   uint8 // TCP flags that A sent, and that it got
}

// Sum is both directions together.
func (f *Flow) Sum() Sum {
	s := Sum{f.Out, f.Verdicts, f.Faults}
	s.Counts.Add(f.Back)
	return s
}

// swap makes B the end that began it.
func (f *Flow) swap() {
	f.A, f.B, f.Out, f.Back, f.Sent, f.Got = f.B, f.A, f.Back, f.Out, f.Got, f.Sent
}

// A Table holds the flows that were seen last. It is for one goroutine. New makes it.
type Table struct {
	bound        int
	at           map[key]int32
	rows         []row // linked by index, since the slice grows
	newest, last int32 // ends of the list of rows in the order in which they were seen; none: it is empty
	total        Sum
	evicted      Sum
	evictedFlows uint64 // flows that were evicted
}

type row struct {
	Flow
	newer, older int32
}

const none = -1

// New makes a table of at most bound flows; 0 means DefaultBound.
func New(bound int) *Table {
	if bound <= 0 {
		bound = DefaultBound
	}
	return &Table{bound: bound, at: make(map[key]int32), newest: none, last: none}
}

// Add counts p, and returns what it is on a wire. It keeps nothing of p.
func (t *Table) Add(p *Packet) Counts {
	h := read(p.Data)
	c := h.onWire(p)
	k, turned := h.key(p.Network)
	i, known := t.at[k]
	if known {
		t.unlink(i)
	} else {
		i = t.freeRow()
		t.at[k] = i
		t.rows[i].Flow = Flow{Network: k.network, Type: k.typ, Proto: k.proto, A: k.low, B: k.high, First: p.Time}
	}
	t.moveToFront(i)
	f := &t.rows[i].Flow
	back := turned != (f.A != k.low)
	begins, answers := h.flags&(SYN|ack) == SYN, h.flags&(SYN|ack) == SYN|ack
	if known && back && begins && f.Sent&SYN == 0 || !known && back != answers {
		f.swap()
		back = !back
	}
	f.Last = max(f.Last, p.Time)
	f.Verdicts[p.Verdict]++
	t.total.Verdicts[p.Verdict]++
	if p.Fault != 0 {
		f.Faults++
		t.total.Faults++
	}
	t.total.Counts.Add(c)
	if back {
		f.Back.Add(c)
		f.Got |= h.flags
	} else {
		f.Out.Add(c)
		f.Sent |= h.flags
	}
	return c
}

// freeRow returns the index of a row for a new flow: an unused one, or that of the flow whose last frame is the oldest.
func (t *Table) freeRow() int32 {
	if len(t.rows) < t.bound {
		t.rows = append(t.rows, row{})
		return int32(len(t.rows) - 1)
	}
	i := t.last
	f := &t.rows[i].Flow
	sum := f.Sum()
	t.evicted.Add(&sum)
	t.evictedFlows++
	t.unlink(i)
	delete(t.at, f.key())
	return i
}

func (t *Table) unlink(i int32) {
	r := &t.rows[i]
	if r.newer == none {
		t.newest = r.older
	} else {
		t.rows[r.newer].older = r.older
	}
	if r.older == none {
		t.last = r.newer
	} else {
		t.rows[r.older].newer = r.newer
	}
}

func (t *Table) moveToFront(i int32) {
	t.rows[i].newer, t.rows[i].older = none, t.newest
	if t.newest == none {
		t.last = i
	} else {
		t.rows[t.newest].newer = i
	}
	t.newest = i
}

// All lends every flow, the one seen last first.
func (t *Table) All() iter.Seq[*Flow] {
	return func(yield func(*Flow) bool) {
		for i := t.newest; i != none; i = t.rows[i].older {
			if !yield(&t.rows[i].Flow) {
				return
			}
		}
	}
}

// Len is the number of flows that are held.
func (t *Table) Len() int { return len(t.at) }

// Total is the sum of all frames that were added: that of All and what was evicted.
func (t *Table) Total() Sum { return t.total }

// Evicted is how many flows were evicted, and the sum of their counters.
func (t *Table) Evicted() (flows uint64, s Sum) { return t.evictedFlows, t.evicted }

// Take lends fn the flows that were seen since the previous Take, the one seen last first. Then it resets all counters, sums
// and TCP flags but SYN; the flows and who began them stay known. Flows without frames since then cost nothing.
func (t *Table) Take(fn func(*Flow)) {
	for f := range t.All() {
		if f.Out.Frames+f.Back.Frames == 0 { // and so have all that were seen before it
			break
		}
		fn(f)
		*f = Flow{Network: f.Network, Type: f.Type, Proto: f.Proto, A: f.A, B: f.B, First: f.First, Last: f.Last,
			Sent: f.Sent & SYN, Got: f.Got & SYN}
	}
	t.total, t.evicted, t.evictedFlows = Sum{}, Sum{}, 0
}

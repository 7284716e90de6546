package show

import (
	"errors"
	"fmt"
	"io"
	"unique"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/dissect"
	"github.com/tapestry-net/tapestry/capture/flow"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A Counter counts the packets of a stream or a file by flow and by port. It is not safe for concurrent use.
type Counter struct {
	Table     *flow.Table
	Ports     []PortStats
	FileNames *FileNames // the names in a file; nil: the packets come from the daemon

	macs        map[networkMAC]string // the port that has a MAC address
	First, Last int64                 // times of the earliest and the latest packet, ns since 1970; 0: there was none

	ether []byte // buffer: a packet of another link type, rewritten as an Ethernet frame

	id   uint64    // of the previous packet
	seen [2]uint32 // interface and direction of the previous packet
}

// networkMAC is a MAC address on a network: other networks may have the same one.
type networkMAC struct {
	network unique.Handle[string]
	mac     ether.MAC
}

// PortStats are the counts of one port. Who reads From and To at intervals sets them to zero each time.
type PortStats struct {
	capture.Port
	network  unique.Handle[string]
	link     int      // link type of its packets
	From, To flow.Sum // frames that came from the port, and that the switch sent to it and to no other
	Lost     uint64   // frames lost in the capture, since it began
}

// NewCounter returns an empty Counter.

func NewCounter() *Counter {
	return &Counter{Table: flow.New(0), macs: map[networkMAC]string{}}
}

// Add counts one block, and keeps no reference to it.
func (t *Counter) Add(b pcapng.Block) {
	switch b := b.(type) {
	case *pcapng.Interface:
		p, _ := capture.ReadPort(b)
		if p.Network == "" {
			p.Network = b.Name // not one of tapestry's: each interface counts as a network of its own
		}
		p.Network, p.Name = human.Printable(p.Network), human.Printable(p.Name)
		network := unique.Make(p.Network)
		t.Ports = append(t.Ports, PortStats{Port: p, network: network, link: b.LinkType})
		if !p.MAC.IsZero() {
			t.macs[networkMAC{network, p.MAC}] = p.Name
		}
	case *pcapng.Stats:
		if uint(b.Interface) < uint(len(t.Ports)) {
			p := &t.Ports[b.Interface]
			p.Lost = max(p.Lost, b.Dropped)
		}
	case *pcapng.Packet:
		t.packet(b)
	}
}

func (t *Counter) packet(b *pcapng.Packet) {
	if uint(b.Interface) >= uint(len(t.Ports)) {
		return
	}
	in := &t.Ports[b.Interface]
	in.Lost += b.Drops
	seen := [2]uint32{uint32(b.Interface), b.Flags & pcapng.Direction}
	again := b.ID != 0 && b.ID == t.id && seen != t.seen // the same frame at another port, or in the other direction
	d, live := capture.ReadDetail(b)
	if !live {
		d = detailOf(b.Comment)
	}
	if out := b.Flags&pcapng.Direction == pcapng.Outbound; out && (live && d.Fault != 0 || d.Verdict == vswitch.Answered) {
		again = true // it was counted at its ingress port; what a fault does at the egress port is in the fault's own counters. No port sent an answer
	}
	if in.Outer || again {
		return
	}
	t.id, t.seen = b.ID, seen
	data := b.Data
	if in.link != pcapng.Ethernet {
		t.ether = dissect.AsEthernet(t.ether, in.link, data, 256)
		data = t.ether
	}
	p := flow.Packet{Network: in.network, Time: b.Time, Data: data, Len: b.Len, Verdict: d.Verdict, Fault: d.Fault}
	if d.Kind != ether.None {
		p.Segment = int(d.Segment)
	}
	s := flow.Sum{Counts: t.Table.Add(&p)}
	s.Verdicts[d.Verdict]++
	in.From.Add(&s)
	if d.Out >= 0 && d.Out < len(t.Ports) {
		t.Ports[d.Out].To.Add(&s)
	}
	if t.First == 0 || b.Time < t.First {
		t.First = b.Time
	}
	t.Last = max(t.Last, b.Time)
}

// detailOf reads the verdict and the fault from a comment in a file. A fault of any kind becomes ether.FaultLost: only whether
// there is one is counted.
func detailOf(comment string) capture.Detail {
	d := capture.Detail{Out: -1, In: -1}
	words := capture.ReadComment(comment)
	verdict := words["verdict"]
	if verdict == "drop" {
		verdict = words["reason"]
	}
	for v := vswitch.Verdict(0); v.Known(); v++ {
		if v.String() == verdict {
			d.Verdict = v
		}
	}
	if words["fault"] != "" {
		d.Fault = ether.FaultLost
	}
	return d
}

// Lost returns the number of frames lost in the capture, of all ports.
func (t *Counter) Lost() (n uint64) {
	for i := range t.Ports {
		n += t.Ports[i].Lost
	}
	return n
}

// CountAll counts all blocks. After an error, what was counted before stays. The errors are those of ForEachBlock.
func (t *Counter) CountAll(from BlockReader) error { return forEachBlock(from, t.Add) }

// forEachBlock calls take with each block, which is valid during the call only. It returns nil at io.EOF.
func forEachBlock(from BlockReader, take func(pcapng.Block)) error {
	for {
		b, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the frames broke off: %w", exit.WithoutURL(err))
		}
		take(b)
	}
}

// endName returns the name of one end of a flow, "" if it is not known. n may be nil.
func (t *Counter) endName(n Resolver, f *flow.Flow, e flow.End) string {
	if !e.Addr.IsValid() {
		port := t.macs[networkMAC{f.Network, e.MAC}]
		if !isFullID(port) { // a file's own names
			return port
		}
		if n == nil {
			return ""
		}
		return n.Container(port)
	}
	if t.FileNames != nil {
		if name := t.FileNames.Addr(e.Addr); name != "" {
			return human.Printable(name)
		}
	}
	if n == nil {
		return ""
	}
	return n.Addr(e.Addr)
}

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

// A Tally counts the packets of a stream, or of a file, as flows and by port.
type Tally struct {
	Table *flow.Table
	Ports []Tallied
	Told  *FileNames // of a file; nil: it is none

	macs        map[placed]string // port of a container's address
	First, Last int64             // times of packets, ns since 1970; 0: there was none

	ether []byte // a frame of another link type as one

	id   uint64 // of the packet before, and where it was seen
	seen [2]uint32
}

// placed is an address on a network.
type placed struct {
	network unique.Handle[string]
	mac     ether.MAC
}

// Tallied is a port, and what came from it and left to it since the last look.
type Tallied struct {
	capture.Port
	network  unique.Handle[string]
	link     int // type
	From, To flow.Sum
	Lost     uint64 // frames that were not read in time, from the beginning
}

func NewTally() *Tally {
	return &Tally{Table: flow.New(0), macs: map[placed]string{}}
}

// Add counts one block.
func (t *Tally) Add(b pcapng.Block) {
	switch b := b.(type) {
	case *pcapng.Interface:
		p, _ := capture.ReadPort(b)
		if p.Network == "" {
			p.Network = b.Name // of another origin: no addresses of two interfaces are taken for the same
		}
		p.Network, p.Name = human.Printable(p.Network), human.Printable(p.Name)
		network := unique.Make(p.Network)
		t.Ports = append(t.Ports, Tallied{Port: p, network: network, link: b.LinkType})
		if !p.MAC.IsZero() {
			t.macs[placed{network, p.MAC}] = p.Name
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

func (t *Tally) packet(b *pcapng.Packet) {
	if uint(b.Interface) >= uint(len(t.Ports)) {
		return
	}
	in := &t.Ports[b.Interface]
	in.Lost += b.Drops
	seen := [2]uint32{uint32(b.Interface), b.Flags & pcapng.Direction}
	again := b.ID != 0 && b.ID == t.id && seen != t.seen // the same frame at another place
	if d, live := capture.ReadDetail(b); live && d.Fault != 0 && b.Flags&pcapng.Direction == pcapng.Outbound {
		again = true // it was counted where it came in; what a fault did to it on its way out is the fault's to count
	}
	if in.Outer || again {
		return
	}
	t.id, t.seen = b.ID, seen
	d, ok := capture.ReadDetail(b)
	if !ok {
		d = detailOf(b.Comment)
	}
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

// detailOf is what a file's comment tells of a frame.
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

// Lost is how many frames are missing.
func (t *Tally) Lost() (n uint64) {
	for i := range t.Ports {
		n += t.Ports[i].Lost
	}
	return n
}

// All counts until the end. What was counted before an error stays.
func (t *Tally) All(from Blocks) error { return Drain(from, t.Add) }

// Drain lends take all blocks.
func Drain(from Blocks, take func(pcapng.Block)) error {
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

// Name is what an end of a flow is called; "": not known.
func (t *Tally) Name(n Naming, f *flow.Flow, e flow.End) string {
	if !e.Addr.IsValid() {
		port := t.macs[placed{f.Network, e.MAC}]
		if !WholeID(port) { // a file's own names
			return port
		}
		if n == nil {
			return ""
		}
		return n.Container(port)
	}
	if t.Told != nil {
		if name := t.Told.Addr(e.Addr); name != "" {
			return human.Printable(name)
		}
	}
	if n == nil {
		return ""
	}
	return n.Addr(e.Addr)
}

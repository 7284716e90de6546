package capture

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A Point is where in its path a frame is shown.
type Point uint8

const (
	Once Point = iota // at its ingress port; and at an egress port if a fault did something to it there, with the same ID
	In                // at its ingress port, if that is selected
	Out               // at each of its egress ports that is selected
	Both              // In and Out
)

// A View is which layer is shown.
type View uint8

const (
	Inner     View = iota // the containers' frames
	Outer                 // the VXLAN datagrams of frames from and to other hosts
	BothViews             // both, as two packets with one ID
)

// Annotate is which packets get a comment with their verdict.
type Annotate uint8

const (
	AnnotateDrops Annotate = iota // dropped frames, and those that an injected fault has changed
	AnnotateAll                   // every packet
	AnnotateNone                  // no packet
)

var (
	points    = []string{"once", "in", "out", "both"}
	views     = []string{"inner", "outer", "both"}
	annotates = []string{"drops", "all", "none"}
)

// ParsePoint reads once, in, out or both.
func ParsePoint(text string) (Point, error) { return parse[Point]("point", text, points) }

// ParseView reads inner, outer or both.
func ParseView(text string) (View, error) { return parse[View]("view", text, views) }

// ParseAnnotate reads drops, all or none.
func ParseAnnotate(text string) (Annotate, error) {
	return parse[Annotate]("annotate", text, annotates)
}

func parse[T ~uint8](what, text string, names []string) (T, error) {
	if i := slices.Index(names, text); i >= 0 {
		return T(i), nil
	}
	return 0, fmt.Errorf("%s %q: want one of %v", what, text, names)
}

// EncoderOptions say how an Encoder shows frames.
type EncoderOptions struct {
	Mode     Mode
	Point    Point
	View     View
	Annotate Annotate
	Detail   bool   // a Detail in every packet
	Snap     int    // bytes of each packet; 0: all
	Filter   string // that the frames have passed, for the file
}

// A Writer is what an Encoder writes to: pcapng.Writer is one.
type Writer interface {
	AddInterface(*pcapng.Interface) (index int, err error)
	WritePacket(*pcapng.Packet) error
	Statistics(*pcapng.Stats) error
	Flush() error
	Size() int64
}

// An Encoder makes packets of records. It is for one goroutine.
type Encoder struct {
	Packets uint64 // that were written

	hub        *Hub
	selects    func(number uint32) bool
	w          Writer
	opts       EncoderOptions
	converter  Converter
	segmenter  Converter // for outer frames: a datagram carries no super-frame
	interfaces map[interfaceKey]int
	counts     map[uint32]*portCounts
	started    int64
	buf        []byte          // of an outer frame
	detail     [detailLen]byte // of a Detail
}

// An interfaceKey identifies an Interface that was written.
type interfaceKey struct {
	number uint32
	outer  bool
}

// portCounts are a port's counters, in frames.
type portCounts struct {
	delivered, dropped uint64
	unreported         uint64 // of the dropped, those that are in no packet's Drops yet
}

// NewEncoder makes an Encoder that writes to w. selects tells which ports are selected; nil: all.
func (h *Hub) NewEncoder(w Writer, opts EncoderOptions, selects func(number uint32) bool) *Encoder {
	if selects == nil {
		selects = func(uint32) bool { return true }
	}
	s := &Encoder{hub: h, selects: selects, w: w, opts: opts, interfaces: make(map[interfaceKey]int), counts: make(map[uint32]*portCounts),
		started: time.Now().UnixNano()}
	s.converter.Mode, s.segmenter.Mode = opts.Mode, Segment
	return s
}

// WriteFrom writes what a Subscriber has, and returns the number of frames.
func (s *Encoder) WriteFrom(sub *Subscriber) (n int, err error) {
	n = sub.Read(func(r *Record) {
		if err == nil {
			err = s.Write(r)
		}
	})
	return n, err
}

// AddPorts writes the Interfaces of those ports that have none yet.
func (s *Encoder) AddPorts(ports []*Port) error {
	for _, p := range ports {
		if s.opts.View != Outer || !p.Remote {
			if _, err := s.interfaceFor(p, false); err != nil {
				return err
			}
		}
		if s.opts.View != Inner && p.Remote {
			if _, err := s.interfaceFor(p, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// interfaceFor returns the index of a port's Interface, which it writes if there is none yet.
func (s *Encoder) interfaceFor(p *Port, outer bool) (index int, err error) {
	at := interfaceKey{p.Number, outer}
	if index, ok := s.interfaces[at]; ok {
		return index, nil
	}
	index, err = s.w.AddInterface(&pcapng.Interface{Name: p.Name, Description: p.describe(outer), Filter: s.opts.Filter,
		MAC: p.MAC, Addrs: p.Addrs, SnapLen: s.opts.Snap, LinkType: pcapng.Ethernet})
	if err == nil {
		s.interfaces[at] = index
	}
	return index, err
}

// portOrUnknown returns a port; if it is not known any more, one with its number only.
func (h *Hub) portOrUnknown(number uint32) *Port {
	if p := h.port(number); p != nil {
		return p
	}
	return &Port{Number: number, Name: fmt.Sprintf("port %d", number)}
}

// Write writes one record, at each point and view where it is to be shown.
func (s *Encoder) Write(r *Record) error {
	var in, out *Port
	if r.In != 0 {
		in = s.hub.portOrUnknown(r.In)
	}
	if r.Out != 0 {
		out = s.hub.portOrUnknown(r.Out)
	}
	first := in
	if first == nil {
		first = out
	}
	if first == nil {
		return errors.New("a record of no port")
	}
	b := s.counts[first.Number]
	if b == nil {
		b = &portCounts{}
		s.counts[first.Number] = b
	}
	b.delivered++
	b.dropped += uint64(r.Lost)
	b.unreported += uint64(r.Lost)
	point := s.opts.Point
	var leaves []*Port
	if in != nil && (point == Out || point == Both || s.opts.View != Inner) {
		leaves = s.egressPorts(r, in, out)
	}
	if s.opts.View != Outer {
		if point == Once || in != nil && point != Out && s.selects(in.Number) {
			if err := s.inner(r, first, in != nil, out, b); err != nil {
				return err
			}
		}
		if in == nil && point != Once && point != In {
			leaves = []*Port{out}
		}
		for _, p := range leaves {
			if point != Once && point != In && s.selects(p.Number) {
				if err := s.inner(r, p, false, out, b); err != nil {
					return err
				}
			}
		}
	}
	if s.opts.View == Inner {
		return nil
	}
	if in != nil && in.Remote {
		if err := s.outer(r, in, true, b); err != nil {
			return err
		}
	}
	for _, p := range leaves {
		if p.Remote {
			if err := s.outer(r, p, false, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// egressPorts returns the ports that a frame was sent to: of a flooded one the present ports of its network, of an answered one none.
func (s *Encoder) egressPorts(r *Record, in, out *Port) (all []*Port) {
	if out != nil {
		return []*Port{out}
	}
	if r.Verdict.Drop() || r.Verdict == vswitch.Answered {
		return nil
	}
	longest := r.Len
	if r.Off.Kind != ether.None {
		longest = min(r.Len, int(r.Off.Head)+int(r.Off.Segment))
	}
	return slices.DeleteFunc(s.hub.neighbours(in), func(p *Port) bool {
		header := 14
		if !p.Remote {
			header += 4 // a VLAN tag does not count towards the MTU
		}
		return in.Remote && p.Remote || p.MTU > 0 && longest > p.MTU+header // split horizon, MTU
	})
}

// inner writes the frame as a packet of a port.
func (s *Encoder) inner(r *Record, at *Port, in bool, out *Port, b *portCounts) error {
	p, err := s.packet(r, at, false, in, out)
	if err != nil {
		return err
	}
	s.converter.Convert(r, func(frame []byte, length int) {
		if err != nil {
			return
		}
		q := p
		q.Data, q.Len = frame, length
		if s.opts.Mode == Raw && r.Off.PartialChecksum || s.partialChecksum(r) {
			q.Flags |= pcapng.ChecksumNotReady
		}
		if r.Off.Kind != ether.None && (s.opts.Mode != Segment || len(r.Data) < r.Len) {
			q.Flags |= pcapng.Segmented
		}
		q.Drops, b.unreported = b.unreported, 0
		s.Packets++
		err = s.w.WritePacket(&q)
	})
	return err
}

// partialChecksum tells whether a checksum could not be completed, since the ring has not kept the whole frame.
func (s *Encoder) partialChecksum(r *Record) bool {
	return r.Off.PartialChecksum && len(r.Data) < r.Len
}

// outer writes the datagrams that carry the frame between a remote host's port and this host.
func (s *Encoder) outer(r *Record, at *Port, in bool, b *portCounts) error {
	if !at.Tunnel.Remote.IsValid() {
		return nil
	}
	p, err := s.packet(r, at, true, in, nil)
	if err != nil {
		return err
	}
	s.segmenter.Convert(r, func(frame []byte, length int) {
		if err != nil || length+outerHeadersLen > ether.MaxIPLen {
			return // a super-frame that the ring has not kept whole
		}
		q := p
		s.buf = at.Tunnel.outer(s.buf[:0], frame, length, at.VNI, in)
		q.Data, q.Len = s.buf, len(s.buf)-len(frame)+length
		q.Drops, b.unreported = b.unreported, 0
		s.Packets++
		err = s.w.WritePacket(&q)
	})
	return err
}

// packet is what all packets of a record at one port have in common.
func (s *Encoder) packet(r *Record, at *Port, outer, in bool, out *Port) (p pcapng.Packet, err error) {
	p = pcapng.Packet{Time: r.Time, ID: r.ID, Queue: -1, Flags: pcapng.Outbound}
	if in {
		p.Flags = pcapng.Inbound
	}
	if !outer && len(r.Data) >= 6 {
		switch d := ether.MAC(r.Data[:6]); {
		case d == ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
			p.Flags |= pcapng.Broadcast
		case d.Group():
			p.Flags |= pcapng.Multicast
		default:
			p.Flags |= pcapng.Unicast
		}
	}
	if p.Interface, err = s.interfaceFor(at, outer); err != nil {
		return p, err
	}
	name := ""
	if out != nil {
		name = out.Name
		if s.opts.Detail {
			if _, err := s.interfaceFor(out, false); err != nil {
				return p, err
			}
		}
	}
	if s.opts.Annotate != AnnotateNone {
		p.Comment = comment(r, name, s.opts.Annotate == AnnotateAll)
	}
	if s.opts.Detail {
		d := Detail{Verdict: r.Verdict, Fault: r.Fault, Kind: r.Off.Kind, Segment: r.Off.Segment, Inner: uint8(r.Off.Inner), Out: s.interfaceIndex(r.Out), In: s.interfaceIndex(r.In)}
		d.put(&s.detail)
		p.Verdict = s.detail[:]
	}
	return p, nil
}

// interfaceIndex returns the Interface of a port's inner frames, -1 if none was written.
func (s *Encoder) interfaceIndex(number uint32) int {
	if i, ok := s.interfaces[interfaceKey{number, false}]; ok {
		return i
	}
	return -1
}

// Statistics writes the counters of every port. tail is Subscriber.TrailingDrops.
func (s *Encoder) Statistics(tail map[uint32]uint64) error {
	now := time.Now().UnixNano()
	for number, n := range tail {
		if n == 0 {
			continue
		}
		if _, err := s.interfaceFor(s.hub.portOrUnknown(number), s.opts.View == Outer); err != nil {
			return err
		}
	}
	places := make([]interfaceKey, 0, len(s.interfaces))
	for at := range s.interfaces {
		places = append(places, at)
	}
	slices.SortFunc(places, func(a, b interfaceKey) int { return s.interfaces[a] - s.interfaces[b] })
	for _, at := range places {
		var b portCounts
		if known := s.counts[at.number]; known != nil && (!at.outer || s.opts.View == Outer) {
			b = *known
		}
		if !at.outer || s.opts.View == Outer {
			b.dropped += tail[at.number]
		}
		if err := s.w.Statistics(&pcapng.Stats{Interface: s.interfaces[at], Start: s.started, End: max(now, s.started),
			Received: b.delivered + b.dropped, Accepted: b.delivered + b.dropped, Dropped: b.dropped,
			Delivered: b.delivered}); err != nil {
			return err
		}
	}
	return nil
}

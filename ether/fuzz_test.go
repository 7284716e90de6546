package ether

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

// seeds are super-frames of every kind, and some lies that a container's PACKET_VNET_HDR brings to the TAP.
func seeds(t testing.TB) []Frame {
	end := layers.TCP{Seq: 1 << 31, Ack: 1, ACK: true, FIN: true, PSH: true, CWR: true, ECE: true}
	six := packet{V6: true, TCP: stream(0).TCP, Payload: packets.Data(900)}
	one := stream(60)
	lie := stream(600).super(t, 8)
	lie.Off.Segment = 1
	total := stream(600).super(t, 200)
	total.Bytes()[16], total.Bytes()[17] = 0, 0
	return []Frame{
		stream(700).super(t, 200),
		packet{TCP: end, Payload: packets.Data(401)}.super(t, 200),
		six.super(t, 300),
		packet{V6: true, Tags: vlans[:2], TCP: end, Payload: packets.Data(900)}.super(t, 300),
		packet{UDP: true, ID: 65535, Payload: packets.Data(700)}.super(t, 100),
		packet{UDP: true, V6: true, Tags: vlans[:1], Payload: packets.Data(700)}.super(t, 99),
		hops(six.super(t, 300), 2, protoHopByHop),
		hops(six.super(t, 300), 1, protoFragment),
		atomic(six.frame(t)),
		hops(six.super(t, 300), 9, protoDestOpts),
		one.super(t, 1398),
		one.frame(t),
		lie,
		total,
		lend(make([]byte, HeaderLen), Offload{PartialChecksum: true}),
		lend(append(make([]byte, 12), 0x81, 0, 0, 1), Offload{Kind: UDP, Segment: 1}),
	}
}

// Whatever bytes with whatever claims: no panic, and what passes Check keeps Check's promises.
func FuzzFrame(f *testing.F) {
	for _, s := range seeds(f) {
		o := s.Off
		f.Add(s.WithHeadroom(), uint8(o.Kind), o.PartialChecksum, o.Head, o.Segment, o.ChecksumStart, o.ChecksumOffset)
	}
	f.Add([]byte{1, 2, 3}, uint8(0), false, uint16(0), uint16(0), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, room []byte, kind uint8, needs bool, head, segment, start, offset uint16) {
		off := Offload{Kind: Kind(kind), PartialChecksum: needs, Head: head, Inner: head, Segment: segment, ChecksumStart: start, ChecksumOffset: offset}
		fr := Lend(room, off)
		fr.Type()
		fr.Flow()
		if n := fr.WireLen(); n > fr.Len() {
			t.Errorf("%d bytes on the wire of %d", n, fr.Len())
		}
		if n := fr.HeadersLen(); n < 0 || n > fr.Len() {
			t.Errorf("%d bytes of headers of %d", n, fr.Len())
		}
		if n, want := plainHeaders(fr.Bytes()), linkHeaders(fr.Bytes()); n != 0 && n != want {
			t.Errorf("%d bytes of headers at first sight, %d at the second", n, want)
		}
		if l := LayersOf(fr.Bytes()); l.Network > fr.Len() || l.Transport > fr.Len() || l.Transport > 0 && (!l.IP || l.Transport < l.Network+ipv4Len) {
			t.Errorf("layers %+v of %d bytes", l, fr.Len())
		} else if h, ok := dissect(fr.Bytes()); ok && h.l4 != l.Transport {
			t.Errorf("layers %+v, dissected %+v", l, h)
		}
		unchecked := lend(fr.Bytes(), off)
		unchecked.CompleteChecksum()
		found := lend(fr.Bytes(), Offload{})
		found.RestoreOffload(int(segment), int(head))
		_ = found.MaybeUnsegmented(int(segment))
		if err := found.Check(); err != nil && err != ErrRunt && int(found.Off.Segment)*MaxSegments >= found.Len() && found.Off.Segment != head {
			t.Errorf("RestoreOffload made %+v, and Check says %v", found.Off, err)
		}
		cut := lend(fr.Bytes(), off)
		var c Cutter
		c.Reset(&cut)
		c.Next(make([]byte, MaxHead))
		var j Joiner
		if j.Start(&fr) != (j.Frames() == 1) {
			t.Error("Start and Frames do not agree")
		}

		before := bytes.Clone(fr.WithHeadroom())
		err := fr.Check()
		if !bytes.Equal(before, fr.WithHeadroom()) {
			t.Error("Check changed the frame")
		}
		if err != nil {
			return
		}
		o := fr.Off
		if again := fr.Check(); again != nil || fr.Off != o {
			t.Errorf("a second Check: %v, %+v; the first left %+v", again, fr.Off, o)
		}
		if o.PartialChecksum && int(o.ChecksumStart)+int(o.ChecksumOffset)+2 > fr.Len() {
			t.Errorf("checksum behind the end: %+v of %d bytes", o, fr.Len())
		}
		if o.Kind != None {
			payload := fr.Len() - int(o.Head)
			if payload < 0 || o.Head > MaxHead || payload > int(o.Segment)*MaxSegments {
				t.Errorf("passed: %+v of %d bytes", o, fr.Len())
			}
			return
		}
		fr.Dst()
		fr.Src()
		if fr.Checksum(); !bytes.Equal(before, fr.WithHeadroom()) {
			t.Error("Checksum changed the frame")
		}
		fr.CompleteChecksum()
		if fr.Off != (Offload{}) {
			t.Errorf("left undone: %+v", fr.Off)
		}
	})
}

// Whatever passes Check is cut into few whole segments, with checksums right.
func FuzzCut(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s.Bytes(), uint8(s.Off.Kind), s.Off.Segment)
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, segment uint16) {
		fr := lend(b, Offload{Kind: Kind(kind), Segment: segment})
		if fr.Check() != nil || fr.Off.Kind == None {
			return
		}
		frames := cutAll(t, &fr)
		if len(frames) == 0 || len(frames) > MaxSegments {
			t.Fatalf("%d segments", len(frames))
		}
		var payload []byte
		for i := range frames {
			wantSegment(t, &fr, &frames[i], i)
			payload = append(payload, frames[i].Bytes()[fr.Off.Head:]...)
		}
		if !bytes.Equal(payload, b[fr.Off.Head:]) {
			t.Error("the payload is another")
		}
		if len(b) < 2000 { // it is slow
			wantPartialChecksum(t, &fr)
		}
	})
}

// Segments, damaged in any way, are joined only into what would be cut into the same segments; undamaged
// ones into the super-frame that they were cut from. An edit is four bytes: which segment, where, xor with what, and
// what else (bit 0: fix the checksums, bit 1: swap it with the next).
func FuzzJoin(f *testing.F) {
	for _, s := range seeds(f) {
		for _, edits := range []string{"", "\x01\x15\x01\x01", "\x01\x2f\x08\x01", "\x00\x2f\x01\x01", "\x01\x00\x00\x02", "\x02\x80\x01\x00", "\x01\x11\xff\x00"} {
			f.Add(s.Bytes(), uint8(s.Off.Kind), s.Off.Segment, []byte(edits))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, segment uint16, edits []byte) {
		fr := lend(b, Offload{Kind: Kind(kind), Segment: segment})
		if fr.Check() != nil || fr.Off.Kind == None {
			return
		}
		frames := cutAll(t, &fr)
		if len(edits) < 4 && joinable(&fr, len(frames)) {
			var j Joiner
			if !j.Start(&frames[0]) {
				t.Fatalf("the first of %d segments begins no run", len(frames))
			}
			for i := range frames[1:] {
				if !j.Add(&frames[i+1]) {
					t.Fatalf("segment %d of %d does not go on the run", i+1, len(frames))
				}
			}
			got, want := joined(&j), normal(&fr)
			if !bytes.Equal(got.Bytes(), want.Bytes()) || got.Off != want.Off {
				t.Errorf("cut and joined it is\n%x %+v, want\n%x %+v", got.Bytes(), got.Off, want.Bytes(), want.Off)
			}
		}
		for edit := range slices.Chunk(edits, 4) {
			if len(edit) < 4 {
				break
			}
			i := int(edit[0]) % len(frames)
			fb := frames[i].Bytes()
			fb[int(edit[1])%len(fb)] ^= edit[2]
			if edit[3]&1 != 0 {
				resum(fb)
			}
			if next := (i + 1) % len(frames); edit[3]&2 != 0 {
				frames[i], frames[next] = frames[next], frames[i]
			}
		}
		joinAll(t, frames)
	})
}

// joinable tells whether all segments of f make one run.
func joinable(f *Frame, segments int) bool {
	b := f.Bytes()
	l, _ := dissect(b)
	if segments < 2 || l.l4-l.ip != l.ipLen() || len(b)-l.ip > 65535 {
		return false
	}
	if l.kind == UDP {
		return segments <= maxJoinUDP
	}
	return tcpFlags(b[l.l4:])&(flagACK|flagSYN|flagRST|flagURG|flagCWR) == flagACK
}

// normal is f with the lengths, the IPv4 checksum and the pseudo-header's sum that a valid kernel writes.
func normal(f *Frame) Frame {
	g := lend(f.Bytes(), f.Off)
	b := g.Bytes()
	l, _ := dissect(b)
	l.setLengths(b, len(b)-l.head)
	resum(b)
	field := b[l.l4+l.checksumOffset():]
	sum := slowPseudo(b, l, len(b)-l.l4)
	field[0], field[1] = byte(sum>>8), byte(sum)
	g.Off.PartialChecksum, g.Off.ChecksumStart, g.Off.ChecksumOffset = true, uint16(l.l4), uint16(l.checksumOffset())
	return g
}

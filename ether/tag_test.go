package ether

import (
	"bytes"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

func room() []byte { return make([]byte, 0, 2*MaxFrame) }

// A tag that is put on a frame is the one that gopacket writes, and taking it off leaves what was there.
func TestTag(t *testing.T) {
	for _, tags := range [][]uint16{nil, {0}, {77, 8}} {
		p := packets.Packet{Tags: tags, Payload: packets.Data(99)}
		f := lend(p.Bytes(), Offload{})
		if len(tags) == 2 {
			if f.VLAN() != 77 {
				t.Errorf("VLAN %d", f.VLAN())
			}
			plain, _ := f.AppendUntagged(room())
			p.Tags = tags[1:]
			if !bytes.Equal(plain.Bytes(), p.Bytes()) {
				t.Errorf("%x", plain.Bytes())
			}
			continue
		}
		if f.VLAN() != 0 {
			t.Errorf("VLAN %d of %x", f.VLAN(), f.Bytes())
		}
		before := bytes.Clone(f.WithHeadroom())
		tagged, rest := f.AppendTagged(append(room(), "before"...), 4094)
		p.Tags = []uint16{4094}
		if !bytes.Equal(tagged.Bytes(), p.Bytes()) || tagged.VLAN() != 4094 || !bytes.HasPrefix(rest, []byte("before")) || len(rest) != 6+Headroom+tagged.Len() {
			t.Errorf("%x, want %x", tagged.Bytes(), p.Bytes())
		}
		if !bytes.Equal(f.WithHeadroom(), before) {
			t.Error("the lent frame has changed")
		}
		plain, _ := tagged.AppendUntagged(room())
		p.Tags = nil
		if !bytes.Equal(plain.Bytes(), p.Bytes()) {
			t.Errorf("%x", plain.Bytes())
		}
	}
	f := lend(packets.Packet{Tags: []uint16{0}}.Bytes(), Offload{})
	f.Bytes()[14] = 0xb0 // priority 5, drop eligible
	tagged, _ := f.AppendTagged(room(), 10)
	if got := tagged.Bytes()[14:16]; got[0] != 0xb0 || got[1] != 10 {
		t.Errorf("tag %x", got)
	}
}

// Super-frames and partial checksums stay what they are, with a tag and again without it.
func TestTagSuper(t *testing.T) {
	for i, f := range seeds(t) {
		valid := f.Check() == nil
		if f.Len() < HeaderLen || f.VLAN() != 0 {
			continue
		}
		tagged, _ := f.AppendTagged(room(), 10)
		if got := tagged.Check() == nil; got != valid && len(f.Bytes()) >= 18 && f.Bytes()[12] != 0x81 {
			t.Errorf("%d: valid: %t, with a tag %t", i, valid, got)
		}
		if !valid || tagged.Check() != nil {
			continue
		}
		if f.Off.Kind != None && tagged.WireLen() != f.WireLen()+4 {
			t.Errorf("%d: %d bytes on the wire, with a tag %d", i, f.WireLen(), tagged.WireLen())
		}
		plain, _ := tagged.AppendUntagged(room())
		if plain.Check() != nil || plain.Off != f.Off || !bytes.Equal(plain.Bytes(), f.Bytes()) {
			t.Errorf("%d: %+v, was %+v", i, plain.Off, f.Off)
		}
	}
}

// Whatever bytes with whatever claims: no panic, and a tag comes off again.
func FuzzTag(f *testing.F) {
	for _, s := range seeds(f) {
		o := s.Off
		f.Add(s.WithHeadroom(), uint8(o.Kind), o.PartialChecksum, o.Head, o.Inner, o.Segment, o.ChecksumStart, uint16(10))
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, partial bool, head, inner, segment, start, id uint16) {
		fr := Lend(b, Offload{Kind: Kind(kind), PartialChecksum: partial, Head: head, Inner: inner, Segment: segment, ChecksumStart: start})
		id = id%MaxVLAN + 1
		if fr.Len() < HeaderLen || fr.VLAN() != 0 {
			return
		}
		tagged, _ := fr.AppendTagged(nil, id)
		if tagged.VLAN() != id {
			t.Fatalf("VLAN %d", tagged.VLAN())
		}
		plain, _ := tagged.AppendUntagged(nil)
		if want := fr.Bytes(); fr.OuterTag() == 0 && !bytes.Equal(plain.Bytes(), want) {
			t.Errorf("%x, was %x", plain.Bytes(), want)
		}
		if tagged.Check() == nil {
			_ = tagged.WireLen()
		}
	})
}

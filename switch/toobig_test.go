package vswitch

import (
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// tcp is a packet of TCP that may not be fragmented, from the i-th station to the j-th.
func tcp(i, j, payload int, tags ...uint16) ether.Frame {
	return lent(packets.Packet{SrcMAC: mac(i), DstMAC: mac(j), Src: ip(i), Dst: ip(j), DF: true, Tags: tags, TCP: packets.Flags(0x10), Payload: packets.Data(payload)}.Bytes())
}

// Who sends a frame that is too long for its way is told what fits, and nobody else is told anything: 64 times a second.
func TestTooBig(t *testing.T) {
	const limit = 1364 // an IP packet of 1,350 bytes
	s := New(Config{})
	var a, b, u keeper
	in := s.Attach("a", &a, false, 1464)
	other := s.Attach("b", &b, false, 1464)
	up := s.Attach("up", &u, true, limit)
	up.Ingress([]ether.Frame{lent(packets.Packet{SrcMAC: mac(9), DstMAC: mac(1), Payload: packets.Data(1)}.Bytes())})
	other.Ingress([]ether.Frame{tcp(2, 1, 1)})
	a.taken()
	b.taken()
	u.taken()
	long := tcp(1, 9, 1400)
	want := func(f ether.Frame, packet int) []byte {
		return f.AppendTooBig([]byte{}, packet)
	}
	for i, tc := range []struct {
		name   string
		f      ether.Frame
		by     *Port
		answer []byte // nil: none
		found  string
	}{
		{"fits", tcp(1, 9, 1310), in, nil, "fits"},
		{"one byte too long", tcp(1, 9, 1311), in, want(tcp(1, 9, 1311), 1350), "told"},
		{"with a VLAN tag", tcp(1, 9, 1311, 7), in, want(tcp(1, 9, 1311, 7), 1346), "told"},
		{"may be fragmented", lent(packets.Packet{SrcMAC: mac(1), DstMAC: mac(9), Payload: packets.Data(1400)}.Bytes()), in, nil, "long"},
		{"no IP", lent(append(append(long.Bytes()[:12:12], 0x88, 0xb5), make([]byte, 1400)...)), in, nil, "long"},
		{"to nobody who is known", tcp(1, 5, 2000), in, nil, ""},
	} {
		s.Tick(time.Duration(1+i) * time.Second)
		before, told := tc.by.Stats(), s.TooBig()
		e := tc.by.Explain(&tc.f)
		u.taken()
		v := tc.by.Inject(tc.f)
		if e.Verdict != v || tc.found != "" && e.Steps[len(e.Steps)-1].Found != tc.found {
			t.Errorf("%s: %s, explained as %s, %+v", tc.name, v, e.Verdict, e.Steps[len(e.Steps)-1])
		}
		got, others := a.taken(), len(b.taken())
		after := tc.by.Stats()
		if tc.answer == nil {
			if len(got) > 0 || s.TooBig() != told {
				t.Errorf("%s: %x was sent back", tc.name, got)
			}
			continue
		}
		if v != MTU || len(got) != 1 || string(got[0]) != string(tc.answer) || others+len(u.taken()) > 0 {
			t.Errorf("%s: %s, %x was sent back, want %x; %d to others", tc.name, v, got, tc.answer, others)
		}
		if after.Tx != before.Tx+1 || after.TxBytes != before.TxBytes+uint64(len(tc.answer)) || s.TooBig() != told+1 {
			t.Errorf("%s: counters %+v, were %+v; %d told", tc.name, after, before, s.TooBig())
		}
	}
	up.SetLimit(1464)
	other.SetLimit(limit)
	f := tcp(9, 2, 1400)
	if v := up.Inject(f); v != MTU || len(u.taken()) != 1 || len(a.taken())+len(b.taken()) > 0 {
		t.Errorf("a sender on another host: %s", v)
	}
	s.Tick(100 * time.Second)
	told := s.TooBig()
	for range 40 { // 4 a batch
		in.Ingress([]ether.Frame{tcp(1, 2, 1400), tcp(1, 2, 1400), tcp(1, 2, 1400), tcp(1, 2, 1400), tcp(1, 2, 1400), tcp(1, 2, 1400)})
	}
	if n := len(a.taken()); n != tooBigBudget || s.TooBig() != told+tooBigBudget {
		t.Errorf("told %d times in a second, counted %d", n, s.TooBig()-told)
	}
	s.Tick(101 * time.Second)
	if in.Inject(tcp(1, 2, 1400)); len(a.taken()) != 1 {
		t.Error("not told in the next second")
	}
	in.SetLimit(500)
	if in.Inject(tcp(1, 2, 1400)); len(a.taken()) != 0 {
		t.Error("told in a frame that is too long itself")
	}
}

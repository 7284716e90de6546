package vswitch

import (
	"fmt"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// inVLANs are these VLANs.
func inVLANs(ids ...uint16) *VLANs {
	s := new(VLANs)
	for _, id := range ids {
		s.Add(id)
	}
	return s
}

// withTag is a frame with a tag, or without one for 0.
func withTag(src, dst ether.MAC, id uint16) ether.Frame {
	p := packets.Packet{SrcMAC: src, DstMAC: dst, Payload: packets.Data(9)}
	if id > 0 {
		p.Tags = []uint16{id}
	}
	return lent(p.Bytes())
}

// A port with VLANs takes their frames only, and gets no others: known, unknown and in runs.
func TestVLANs(t *testing.T) {
	s := New(Config{})
	var ports [5]*Port
	var to [5]*keeper
	for i := 1; i <= 4; i++ {
		to[i] = new(keeper)
		ports[i] = s.Attach(fmt.Sprint(i), to[i], i == 4, 1500)
		ports[i].Pin(mac(i))
	}
	ports[1].SetVLANs(inVLANs(10))
	ports[2].SetVLANs(inVLANs(0, 10, 20)) // a trunk; 3 and the uplink 4 take all
	all := ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, tc := range []struct {
		from int
		dst  ether.MAC
		id   uint16
		v    Verdict
		got  string // the ports that it leaves by
		step string // the last check
	}{
		{1, mac(2), 10, Forwarded, "2", "length fits"},
		{1, mac(2), 20, VLAN, "", "vlan not_here"},
		{1, mac(2), 0, VLAN, "", "vlan not_here"},
		{2, mac(1), 10, Forwarded, "1", "length fits"},
		{2, mac(1), 20, VLAN, "", "vlan not_there"},
		{2, mac(1), 0, VLAN, "", "vlan not_there"},
		{3, mac(1), 10, Forwarded, "1", "length fits"},
		{3, mac(1), 11, VLAN, "", "vlan not_there"},
		{4, mac(2), 0, Forwarded, "2", "length fits"},
		{1, all, 10, Flooded, "234", "flood some"},
		{2, all, 20, Flooded, "34", "flood some"},
		{3, all, 0, Flooded, "24", "flood some"},
		{3, all, 10, Flooded, "124", "flood some"},
		{4, mac(99), 10, Flooded, "123", "flood some"},
		{4, mac(99), 30, Flooded, "3", "flood some"},
	} {
		f := withTag(mac(tc.from), tc.dst, tc.id)
		if tc.from == 4 {
			f = withTag(mac(4), tc.dst, tc.id)
		}
		e := ports[tc.from].Explain(&f)
		last := e.Steps[len(e.Steps)-1]
		v, got := ports[tc.from].Inject(f), ""
		for i := 1; i <= 4; i++ {
			if len(to[i].taken()) > 0 {
				got += fmt.Sprint(i)
			}
		}
		if step := fmt.Sprint(last.Check, " ", last.Found); v != tc.v || e.Verdict != v || got != tc.got || step != tc.step {
			t.Errorf("%+v: %s to %q, explained as %s, %s", tc, v, got, e.Verdict, step)
		}
	}
	// A run of one flow's addresses may change its VLAN.
	var run []ether.Frame
	for _, id := range []uint16{10, 10, 11, 10, 0, 10} {
		run = append(run, withTag(mac(3), mac(1), id))
	}
	before := ports[3].Stats()
	ports[3].Ingress(run)
	after := ports[3].Stats()
	if n := len(to[1].taken()); n != 4 || after.Rx[VLAN]-before.Rx[VLAN] != 2 || after.Rx[Forwarded]-before.Rx[Forwarded] != 4 {
		t.Errorf("%d frames of a run arrived: %+v", n, after.Rx)
	}
	ports[1].SetVLANs(nil)
	if v := ports[2].Inject(withTag(mac(2), mac(1), 20)); v != Forwarded {
		t.Errorf("without VLANs: %s", v)
	}
}

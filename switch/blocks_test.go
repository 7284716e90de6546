package vswitch

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

func block(prefix string, p *Port) Block { return Block{netip.MustParsePrefix(prefix), p} }

// A frame to an address of a block leaves by the block's port only, until something newer is known.
func TestSetPlaces(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, wb := attach(s, "b", true)
	c, wc := attach(s, "c", true)
	d, wd := attach(s, "d", false)
	odd := ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 1}
	s.SetPlaces([]Block{block("10.0.0.0/24", b), block("10.0.0.128/25", c), block("fd00::/64", c), block("10.0.1.7/32", c)}, map[ether.MAC]*Port{odd: c, mac(77): c})
	sends := func(what string, in *Port, dst ether.MAC, want ...*wire) {
		t.Helper()
		before := in.Stats().Rx
		f := frame(mac(9), dst, 1)
		if in.Uplink {
			f = frame(mac(8), dst, 1)
		}
		if e, v := in.Explain(&f), Forwarded; len(want) > 1 {
			v = Flooded
			if e.Verdict != v {
				t.Errorf("%s: explained as %v", what, e.Verdict)
			}
		}
		in.Ingress([]ether.Frame{f})
		v := Forwarded
		if len(want) != 1 {
			v = Flooded
		}
		if got := minus(in.Stats().Rx, before); got[v] != 1 {
			t.Errorf("%s: verdicts %v", what, got)
		}
		for _, w := range []*wire{wb, wc, wd} {
			if n := len(w.taken()); (n == 1) != slices.Contains(want, w) {
				t.Errorf("%s: a port got %d frames", what, n)
			}
		}
	}
	sends("a block", a, mac(5), wb)
	sends("a longer block", a, mac(200), wc)
	sends("one address", a, mac(256+7), wc)
	sends("a station", a, odd, wc)
	sends("a station in another's block", a, mac(77), wc)
	sends("no block", a, mac(256+8), wb, wc, wd)
	other := mac(5)
	other[1] = 0x43
	sends("a MAC of another kind", a, other, wb, wc, wd)
	sends("a group", a, ether.MAC{3, 0x42, 10, 0, 0, 5}, wb, wc, wd)
	sends("from a remote host", b, mac(200), wd, nil) // to the containers: it may be one of them
	f := frame(mac(5), mac(9), 1)
	d.Ingress([]ether.Frame{f}) // the container has come here, and has said so
	wb.taken()
	wc.taken()
	sends("what was seen is newer", a, mac(5), wd)
	still := setDown(c)
	sends("a port that is down", a, mac(200), wb, wd)
	*still = false
	c.Detach()
	sends("a port that was detached", a, mac(201), wb, wd)
	s.SetPlaces(nil, nil)
	sends("no blocks", a, mac(6), wb, wd)
}

// What was learned before a station's place has changed is older.
func TestPlaceChanges(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, wb := attach(s, "b", true)
	c, wc := attach(s, "c", true)
	send := func(what string, want *wire) {
		t.Helper()
		a.Ingress([]ether.Frame{frame(mac(9), mac(5), 1)})
		for _, w := range []*wire{wb, wc} {
			if n := len(w.taken()); (n == 1) != (w == want) {
				t.Errorf("%s: a port got %d frames", what, n)
			}
		}
	}
	at := func(p *Port) map[ether.MAC]*Port { return map[ether.MAC]*Port{mac(5): p} }
	s.SetPlaces(nil, at(b))
	send("told", wb)
	b.Ingress([]ether.Frame{frame(mac(5), mac(9), 1)})
	s.SetPlaces(nil, at(c))
	send("told anew", wc)
	b.Ingress([]ether.Frame{frame(mac(5), mac(9), 1)})
	s.SetPlaces(nil, at(c))
	send("seen since then", wb)
	a.Pin(mac(5))
	s.SetPlaces(nil, at(b))
	if s.find(mac(5)) != a {
		t.Error("a pinned address has moved")
	}
	balanced(t, s)
}

// What the explanation of a frame says of a block, and that a look-up allocates nothing.
func TestBlockExplained(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, _ := attach(s, "b", true)
	var all []Block
	for i := range 1000 {
		all = append(all, Block{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 26), b})
	}
	s.SetPlaces(all, nil)
	f := frame(mac(1), mac(5), 1)
	e := a.Explain(&f)
	i := slices.IndexFunc(e.Steps, func(s Step) bool { return s.Check == CheckDestination })
	if e.Verdict != Forwarded || i < 0 || e.Steps[i].Found != "told" || e.Steps[i].Port != b {
		t.Errorf("%+v", e)
	}
	if n := testing.AllocsPerRun(100, func() { a.locate(mac(5)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

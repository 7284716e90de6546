package vtep

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"
)

func TestAddrsTo(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, test := range []struct {
		own  Addrs
		host string
		want netip.Addr
	}{
		{Addrs{four, six}, "192.0.2.2", four}, {Addrs{four, six}, "2001:db8::2", six},
		{Addrs{six, four}, "192.0.2.2", four}, {Addrs{six, four}, "2001:db8::2", six},
		{Addrs{Main: four}, "2001:db8::2", four}, // which is refused with it
		{Addrs{}, "2001:db8::2", netip.Addr{}},
	} {
		if got := test.own.To(netip.MustParseAddr(test.host)); got != test.want {
			t.Errorf("%v to %s: %s, want %s", test.own, test.host, got, test.want)
		}
	}
}

// Each link leaves from the address of its host's IP version; without the second address the others are made all the same.
func TestLinksOfBothVersions(t *testing.T) {
	listen := func(at string) *VTEP {
		v, err := tunnel.Listen(netip.AddrPortFrom(netip.MustParseAddr(at), 0), 1)
		testhost.Must(t, err)
		return &VTEP{VTEP: v}
	}
	four, six := netip.MustParseAddrPort("127.0.0.2:4789"), netip.MustParseAddrPort("[fd00::2]:4789")
	v, second := listen("127.0.0.1"), listen("::1")
	if links, err := v.Links(1, tunnel.Wire{}, four, six); err == nil || errors.Is(err, errors.ErrUnsupported) || len(links) != 1 {
		t.Errorf("with one address: %d links, %v", len(links), err)
	} else {
		v.CloseLinks(links...)
	}
	v.SecondWhy = errors.ErrUnsupported
	links, err := v.Links(1, tunnel.Wire{}, four, six)
	if !errors.Is(err, errors.ErrUnsupported) || len(links) != 1 || v.To(six.Addr()) != v.VTEP {
		t.Errorf("while the second address is missing: %d links, %v", len(links), err)
	}
	v.CloseLinks(links...)
	v.second, v.SecondWhy = second, nil
	links, err = v.Links(1, tunnel.Wire{}, four, six)
	if err != nil || len(links) != 2 || len(v.Peers()) != 2 || len(second.Peers()) != 1 || v.To(six.Addr()) != second.VTEP {
		t.Errorf("with both: %d links, %v", len(links), err)
	}
	if hosts := v.ByHost(); hosts[four.Addr()] == nil || hosts[six.Addr()] == nil {
		t.Errorf("hosts %v", hosts)
	}
	v.CloseLinks(links...)
	if n := len(v.Peers()); n != 0 {
		t.Errorf("%d peers without links", n)
	}
	var drops Drops
	v.CloseSecond(errors.ErrUnsupported, &drops, func() {})
	if v.HasSecond() || !errors.Is(v.SecondWhy, errors.ErrUnsupported) || drops.Last().Rx == nil {
		t.Error("the second address is open still")
	}
	testhost.Must(t, v.Close(func() {}))
}

package tunnel

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// underlay makes a veth pair, both ends up: "under" has 192.0.2.10/24, 2001:db8::10/64 and a default route over an own
// gateway of each IP version; lo has 198.51.100.1 and 2001:db8:1::1, as hosts have it that route.
func underlay(t *testing.T) (under, peer netlink.Link) {
	t.Helper()
	at := netlink.NewLinkAttrs()
	at.Name, at.MTU = "under", 1500
	testhost.Must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: "peer"}))
	under, err := netlink.LinkByName("under")
	testhost.Must(t, err)
	peer, err = netlink.LinkByName("peer")
	testhost.Must(t, err)
	testhost.Must(t, netlink.LinkSetUp(peer))
	testhost.Must(t, netlink.LinkSetUp(under))
	carrying(t, "under", "peer")
	add(t, under, "192.0.2.10/24", "2001:db8::10/64")
	add(t, lo(t), "198.51.100.1/32", "2001:db8:1::1/128")
	for _, gw := range []string{"192.0.2.1", "2001:db8::1"} {
		testhost.Must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: under.Attrs().Index, Gw: net.ParseIP(gw), Flags: int(netlink.FLAG_ONLINK)}))
	}
	return under, peer
}

// carrying waits until links carry: the kernel notes a carrier a moment after both ends are up, and until then loses what is sent.
func carrying(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		testhost.Until(t, "a link with a carrier: "+name, func() bool {
			l, err := netlink.LinkByName(name)
			testhost.Must(t, err)
			return linkState(l.Attrs()) == nil
		})
	}
}

func add(t *testing.T, l netlink.Link, addrs ...string) {
	t.Helper()
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		testhost.Must(t, err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		testhost.Must(t, netlink.AddrAdd(l, a))
	}
}

// TestPath: how long packets may be is the route's word, wherever the address is, and why a host is unreachable is said.
func TestPath(t *testing.T) {
	host(t)
	under, _ := underlay(t)
	find := func(from, to string) (Path, error) {
		t.Helper()
		return FindPath(netip.MustParseAddr(from), netip.MustParseAddr(to))
	}
	is := func(from, to string, mtu int, link string) {
		t.Helper()
		if p, err := find(from, to); err != nil || p != (Path{mtu, link}) {
			t.Errorf("from %s to %s: %+v, %v, want %d by %s", from, to, p, err, mtu, link)
		}
	}
	never := func(from, to, why string) {
		t.Helper()
		if p, err := find(from, to); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("from %s to %s: %+v, %v, want %q", from, to, p, err, why)
		}
	}
	is("192.0.2.10", "192.0.2.2", 1500, "under")
	is("198.51.100.1", "192.0.2.2", 1500, "under")
	is("198.51.100.1", "198.51.100.2", 1500, "under")
	is("2001:db8:1::1", "2001:db8:1::2", 1500, "under")
	is("127.0.0.1", "127.0.0.2", 65535, "lo")
	route := func(dst string, change func(*netlink.Route)) {
		t.Helper()
		_, n, err := net.ParseCIDR(dst)
		testhost.Must(t, err)
		r := &netlink.Route{LinkIndex: under.Attrs().Index, Dst: n}
		change(r)
		testhost.Must(t, netlink.RouteAdd(r))
	}
	route("203.0.113.0/24", func(r *netlink.Route) { r.MTU = 1350 })
	is("198.51.100.1", "203.0.113.9", 1350, "under")
	route("2001:db8:2::/64", func(r *netlink.Route) { r.MTU = 1350 })
	is("2001:db8:1::1", "2001:db8:2::9", 1350, "under")
	for dst, typ := range map[string]int{"203.0.113.1/32": unix.RTN_BLACKHOLE, "203.0.113.2/32": unix.RTN_UNREACHABLE, "203.0.113.3/32": unix.RTN_PROHIBIT} {
		route(dst, func(r *netlink.Route) { r.Type, r.LinkIndex = typ, 0 })
	}
	never("198.51.100.1", "203.0.113.1", "the route to 203.0.113.1 is a black hole")
	never("198.51.100.1", "203.0.113.2", "the route to 203.0.113.2 is one that refuses")
	never("198.51.100.1", "203.0.113.3", "the route to 203.0.113.3 is one that refuses")
	never("192.0.2.99", "192.0.2.2", "no link of this host has the address 192.0.2.99")
	for to, why := range map[string]string{"192.0.2.255": "the broadcast address", "192.0.2.10": "an address of this host itself"} {
		never("198.51.100.1", to, why)
		if _, err := find("198.51.100.1", to); !errors.Is(err, ErrNoHost) {
			t.Errorf("%s: %v, want ErrNoHost", to, err)
		}
	}
	testhost.Must(t, netlink.LinkSetMTU(under, 1400))
	is("198.51.100.1", "192.0.2.2", 1400, "under")
	testhost.Must(t, netlink.LinkSetDown(under))
	never("198.51.100.1", "192.0.2.2", "no route to 192.0.2.2")
	never("2001:db8:1::1", "2001:db8:1::2", "no route to 2001:db8:1::2")
}

// TestPathWithoutCarrier: the route stays when the other end of the wire goes, and nothing arrives.
func TestPathWithoutCarrier(t *testing.T) {
	host(t)
	_, peer := underlay(t)
	m, err := NewMonitor()
	testhost.Must(t, err)
	defer m.Close()
	from, to := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("192.0.2.2")
	until := func(what string, ok func(error) bool) {
		t.Helper()
		for {
			p, err := FindPath(from, to)
			if _, known := Underlay(from); ok(err) && ok(known) && p.MTU == 1500 {
				return
			}
			if err := m.Wait(); err != nil { // else the test's own time ends it
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	until("at first", func(err error) bool { return err == nil })
	testhost.Must(t, netlink.LinkSetDown(peer))
	until("down", func(err error) bool { return err != nil && strings.Contains(err.Error(), "link under has no carrier") })
	testhost.Must(t, netlink.LinkSetUp(peer))
	until("up again", func(err error) bool { return err == nil })
}

// TestMonitor: changes of links, addresses and routes are reported, and Close ends it.
func TestMonitor(t *testing.T) {
	host(t)
	under, peer := underlay(t)
	m, err := NewMonitor()
	testhost.Must(t, err)
	for name, change := range map[string]func(){
		"MTU":     func() { testhost.Must(t, netlink.LinkSetMTU(under, 1400)) },
		"address": func() { add(t, peer, "203.0.113.1/24") },
		"route": func() {
			testhost.Must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: under.Attrs().Index, Dst: &net.IPNet{IP: net.IP{10, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}}))
		},
	} {
		change()
		if err := m.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended := make(chan error)
	go func() {
		for {
			if err := m.Wait(); err != nil {
				ended <- err
				return
			}
		}
	}()
	m.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
}

// TestUnderlayOnLoopback: of an address on lo: other hosts are reached by the default route's link.
func TestUnderlayOnLoopback(t *testing.T) {
	host(t)
	under, _ := underlay(t)
	for _, a := range []string{"198.51.100.1", "2001:db8:1::1"} {
		if p, err := Underlay(netip.MustParseAddr(a)); err != nil || p != (Path{1500, "under"}) {
			t.Errorf("%s: %+v, %v", a, p, err)
		}
	}
	if p, err := Underlay(netip.MustParseAddr("127.0.0.1")); err != nil || p != (Path{65536, "lo"}) {
		t.Errorf("127.0.0.1: %+v, %v", p, err)
	}
	testhost.Must(t, netlink.LinkSetDown(under))
	if p, err := Underlay(netip.MustParseAddr("198.51.100.1")); err != nil || p != (Path{}) {
		t.Errorf("without a default route: %+v, %v", p, err)
	}
}

func TestCheckPeer(t *testing.T) {
	for _, tt := range []struct{ vtep, peer, want string }{
		{"192.0.2.1", "192.0.2.2", ""},
		{"2001:db8::1", "2001:db8::2", ""},
		{"127.0.0.1", "127.0.0.2", ""},
		{"192.0.2.1", "127.0.0.1", "peer 127.0.0.1 is a loopback address, which every host has for itself: name the address that the other host has as its VTEP, as this one has 192.0.2.1"},
		{"2001:db8::1", "::1", "is a loopback address"},
		{"", "127.0.0.1", "name the address that the other host has as its VTEP"},
		{"127.0.0.1", "192.0.2.2", "start tapestry with another --vtep"},
		{"192.0.2.1", "2001:db8::2", "different IP versions"},
		{"192.0.2.1", "0.0.0.0", "0.0.0.0 is no host's address"},
		{"2001:db8::1", "::", ":: is no host's address"},
		{"192.0.2.1", "255.255.255.255", "is no host's address"},
		{"192.0.2.1", "239.1.1.1", "is a multicast group"},
		{"2001:db8::1", "ff02::1", "is a multicast group"},
		{"2001:db8::1", "fe80::1", "holds on one link only; want an address that every host can reach"},
		{"2001:db8::1", "2001:db8::2%eth0", "holds on one link only"},
		{"192.0.2.1", "::ffff:192.0.2.2%eth0", "holds on one link only"},
	} {
		vtep, _ := netip.ParseAddr(tt.vtep)
		err := CheckPeer(vtep, netip.MustParseAddr(tt.peer))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("from %s to %s: %v, want %q", tt.vtep, tt.peer, err, tt.want)
		}
	}
}

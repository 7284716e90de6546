package tap

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// hostSpec is a host's own port.
func hostSpec(addrs ...string) Spec {
	s := Spec{ID: "host" + id, Tag: "tapestry:test:host" + id, Mode: Direct, MAC: ether.MAC{2, 0x42, 10, 77, 0, 1}, MTU: 1450}
	for _, a := range addrs {
		s.Host = append(s.Host, netip.MustParsePrefix(a))
	}
	return s
}

// rules are what hostPriority has.
func rules(t testing.TB) (all []netlink.Rule) {
	t.Helper()
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		found, err := netlink.RuleList(family)
		testhost.Must(t, err)
		all = append(all, slices.DeleteFunc(found, func(r netlink.Rule) bool { return r.Priority != hostPriority })...)
	}
	return all
}

// route is where the host sends a packet that came in by a link; "" is the host itself.
func route(t testing.TB, to, iif string) (link string, table int, err error) {
	t.Helper()
	o := &netlink.RouteGetOptions{Iif: iif}
	if iif != "" {
		o.SrcAddr = net.ParseIP("198.51.100.7")
	}
	routes, err := netlink.RouteGetWithOptions(net.ParseIP(to), o)
	if err != nil || len(routes) == 0 {
		return "", 0, err
	}
	l, err := netlink.LinkByIndex(routes[0].LinkIndex)
	testhost.Must(t, err)
	return l.Attrs().Name, routes[0].Table, nil
}

// outside gives the host another link, with the default route.
func outside(t testing.TB) {
	t.Helper()
	testhost.Must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "outside"}, PeerName: "world"}))
	for _, name := range []string{"outside", "world", "lo"} {
		testhost.Must(t, netlink.LinkSetUp(link(t, name)))
	}
	address(t, "outside", "198.51.100.1/24")
	testhost.Must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("198.51.100.254")}))
	testhost.Must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
}

func address(t testing.TB, name, addr string) {
	t.Helper()
	a, err := netlink.ParseAddr(addr)
	testhost.Must(t, err)
	testhost.Must(t, netlink.AddrAdd(link(t, name), a))
}

// The host's port has its addresses, and only what the host itself says goes there; nothing that comes from there goes
// anywhere else. It is completed as often as it is asked for, and removed without a trace.
func TestHostPort(t *testing.T) {
	testhost.Namespace(t)
	outside(t)
	s := hostSpec("10.77.0.1/24", "fd77::1/64")
	name, _, _ := Names(s.ID)
	d, err := Create(s)
	testhost.Must(t, err)
	defer d.Close()
	check := func(when string) {
		t.Helper()
		has, err := netlink.AddrList(link(t, name), netlink.FAMILY_ALL)
		testhost.Must(t, err)
		var got []string
		for _, a := range has {
			got = append(got, a.IPNet.String())
		}
		if !slices.Equal(got, []string{"10.77.0.1/24", "fd77::1/64"}) {
			t.Errorf("%s: %s has %v, want its two addresses and no link-local one", when, name, got)
		}
		for _, to := range []string{"10.77.0.3", "fd77::3"} {
			if by, table, err := route(t, to, ""); by != name || table != hostTable {
				t.Errorf("%s: the host reaches %s by %q, table %d (%v), want %s, table %d", when, to, by, table, err, name, hostTable)
			}
		}
		if by, _, err := route(t, "10.77.0.3", "outside"); by != "" && by == name {
			t.Errorf("%s: the host forwards to the network (%v)", when, err)
		}
		if by, _, err := route(t, "203.0.113.9", name); err == nil {
			t.Errorf("%s: the host forwards from the network, by %q", when, by)
		}
		for _, family := range []string{"ipv4", "ipv6"} {
			if b, err := os.ReadFile("/proc/sys/net/" + family + "/conf/" + name + "/forwarding"); strings.TrimSpace(string(b)) != "0" {
				t.Errorf("%s: %s forwarding of %s is %q (%v)", when, family, name, b, err)
			}
		}
		if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/accept_ra"); strings.TrimSpace(string(b)) != "0" {
			t.Errorf("%s: router advertisements are accepted: %q (%v)", when, b, err)
		}
	}
	check("made")
	testhost.Must(t, RepairHostPort(s))
	if n := len(rules(t)); n != 4 {
		t.Errorf("%d rules, want 4: %v", n, rules(t))
	}
	for _, r := range rules(t) { // as systemd-networkd does when it starts
		testhost.Must(t, netlink.RuleDel(&r))
	}
	testhost.Must(t, netlink.LinkSetDown(link(t, name)))
	a, err := netlink.ParseAddr("10.77.0.1/24")
	testhost.Must(t, err)
	testhost.Must(t, netlink.AddrDel(link(t, name), a))
	testhost.Must(t, RepairHostPort(s))
	check("repaired")
	testhost.Must(t, d.Close())
	d, err = Create(s)
	testhost.Must(t, err)
	check("made again")
	testhost.Must(t, d.Close())

	bare := Spec{ID: s.ID, Tag: s.Tag} // of a link that no record names
	testhost.Must(t, Remove(bare))
	if there(t, name) || len(rules(t)) != 0 {
		t.Errorf("left: link %v, rules %v", there(t, name), rules(t))
	}
	testhost.Must(t, Remove(s))
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: hostTable}, netlink.RT_FILTER_TABLE)
	testhost.Must(t, err)
	if len(routes) != 0 {
		t.Errorf("left: %v", routes)
	}
}

// A subnet that the host reaches by another link is refused, and nothing is left; a wider one behind a router is not.
func TestHostPortOverlap(t *testing.T) {
	for _, c := range []struct {
		name, taken string // address of the other link
		via         string // or a route
		addr        string
		ok          bool
	}{
		{"same", "10.77.0.9/24", "", "10.77.0.1/24", false},
		{"within", "10.77.0.129/25", "", "10.77.0.1/24", false},
		{"one address", "10.77.0.77/32", "", "10.77.0.1/24", false},
		{"around, on the link", "10.9.9.9/8", "", "10.77.0.1/24", false},
		{"around, by a router", "", "10.0.0.0/8", "10.77.0.1/24", true},
		{"within, by a router", "", "10.77.0.128/25", "10.77.0.1/24", false},
		{"beside", "10.78.0.9/24", "", "10.77.0.1/24", true},
		{"IPv6", "fd77::9/64", "", "fd77::1/64", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			testhost.Namespace(t)
			outside(t)
			if c.via != "" {
				_, dst, err := net.ParseCIDR(c.via)
				testhost.Must(t, err)
				testhost.Must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP("198.51.100.254")}))
			} else {
				address(t, "outside", c.taken)
			}
			s := hostSpec(c.addr)
			d, err := Create(s)
			if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "on outside already") {
				t.Errorf("it says: %v", err)
			}
			if err == nil {
				testhost.Must(t, d.Close())
			}
			testhost.Must(t, Remove(s))
			if name, _, _ := Names(s.ID); there(t, name) || len(rules(t)) != 0 {
				t.Errorf("left: %v", rules(t))
			}
		})
	}
}

// Another network's port with the same subnet is another link, too.
func TestHostPortTwice(t *testing.T) {
	testhost.Namespace(t)
	create(t, hostSpec("10.77.0.1/24"))
	s := hostSpec("10.77.0.2/24")
	s.ID = "hostabcdefabcdefabcdef"
	s.Tag = "tapestry:test:" + s.ID
	if _, err := Create(s); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("it says: %v", err)
	}
	testhost.Must(t, Remove(s))
	if err := RepairHostPort(s); !gone(err) && !errors.Is(err, ErrGone) {
		t.Errorf("what is not there was completed: %v", err)
	}
}

package plugin

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// creating is a CreateNetwork request with options as dockerd sends them.
func creating(opts map[string]any, pools ...string) *network.CreateNetworkRequest {
	req := &network.CreateNetworkRequest{NetworkID: netID, Options: map[string]any{}}
	if opts != nil {
		req.Options[generic] = opts
	}
	for _, p := range pools {
		req.IPv4Data = append(req.IPv4Data, &network.IPAMData{Pool: p})
	}
	return req
}

func peers(s ...string) []netip.AddrPort {
	var ps []netip.AddrPort
	for _, s := range s {
		ps = append(ps, netip.MustParseAddrPort(s))
	}
	return ps
}

func TestParseNetwork(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts map[string]any
		want func(n *fabric.Network) // changes to the defaults
	}{
		{"no options", nil, func(n *fabric.Network) {}},
		{"empty options", map[string]any{}, func(n *fabric.Network) {}},
		{"smallest VNI", map[string]any{"tapestry.vni": "1"}, func(n *fabric.Network) { n.VNI = 1 }},
		{"largest VNI", map[string]any{"tapestry.vni": "16777215"}, func(n *fabric.Network) { n.VNI = 16777215 }},
		{"overlay's VNI", map[string]any{optVNIList: "4097"}, func(n *fabric.Network) { n.VNI = 4097 }},
		{"both VNIs agree", map[string]any{optVNIList: "80", "tapestry.vni": "80"}, func(n *fabric.Network) { n.VNI = 80 }},
		{"peers", map[string]any{"tapestry.vni": "80", "tapestry.peers": "192.0.2.2, 192.0.2.3:4790,2001:db8::2,[2001:db8::3]:8472,::ffff:192.0.2.4"},
			func(n *fabric.Network) {
				n.VNI = 80
				n.Peers = peers("192.0.2.2:0", "192.0.2.3:4790", "[2001:db8::2]:0", "[2001:db8::3]:8472", "192.0.2.4:0")
			}},
		{"group", map[string]any{"tapestry.vni": "80", "tapestry.group": "239.1.1.1"}, func(n *fabric.Network) { n.VNI, n.Group = 80, netip.MustParseAddr("239.1.1.1") }},
		{"group, IPv6", map[string]any{"tapestry.vni": "80", "tapestry.group": "ff05::100"}, func(n *fabric.Network) { n.VNI, n.Group = 80, netip.MustParseAddr("ff05::100") }},
		{"peers by name", map[string]any{"tapestry.vni": "80", "tapestry.peers": "Host-B.example.org, host-c:8472"},
			func(n *fabric.Network) {
				n.VNI, n.Peers = 80, []netip.AddrPort{}
				n.PeerNames = []fabric.PeerName{{Host: "host-b.example.org"}, {Host: "host-c", Port: 8472}}
			}},
		{"the wire", map[string]any{"tapestry.vni": "80", "tapestry.reserved": "drop", "tapestry.tagged": "drop", "tapestry.dscp": "46", "tapestry.ttl": "255"},
			func(n *fabric.Network) {
				n.VNI, n.Wire = 80, tunnel.Wire{DropReserved: true, DropTagged: true, DSCP: 46, TTL: 255}
			}},
		{"the wire, inherited", map[string]any{"tapestry.network": "blue", "tapestry.reserved": "ignore", "tapestry.tagged": "pass", "tapestry.dscp": "inherit", "tapestry.ttl": "inherit"},
			func(n *fabric.Network) {
				n.Key, n.Wire = "blue", tunnel.Wire{DSCP: tunnel.Inherit, TTL: tunnel.Inherit}
			}},
		{"the wire's defaults need no VNI", map[string]any{"tapestry.reserved": "ignore", "tapestry.tagged": "pass", "tapestry.dscp": "0"}, func(n *fabric.Network) {}},
		{"key", map[string]any{"tapestry.network": "blue"}, func(n *fabric.Network) { n.Key = "blue" }},
		{"key and VNI", map[string]any{"tapestry.network": "blue", "tapestry.vni": "80"}, func(n *fabric.Network) { n.Key, n.VNI = "blue", 80 }},
		{"attach tap", map[string]any{"tapestry.attach": "tap"}, func(n *fabric.Network) { n.Attach = tap.Direct }},
		{"attach veth", map[string]any{"tapestry.attach": "veth"}, func(n *fabric.Network) {}},
		{"ageing", map[string]any{"tapestry.ageing": "1m30s"}, func(n *fabric.Network) { n.Ageing = 90 * time.Second }},
		{"external off", map[string]any{"tapestry.external": "off"}, func(n *fabric.Network) { n.External = false }},
		{"external on", map[string]any{"tapestry.external": "on"}, func(n *fabric.Network) {}},
		{"smallest MTU", map[string]any{optMTU: "68"}, func(n *fabric.Network) { n.MTU = 68 }},
		{"largest MTU", map[string]any{optMTU: "65521"}, func(n *fabric.Network) { n.MTU = 65521 }},
		{"prefix", map[string]any{optPrefix: "dc-lan.1_ab"}, func(n *fabric.Network) { n.Prefix = "dc-lan.1_ab" }},
		{"foreign options", map[string]any{"com.docker.network.something": "1", "works.weave.multicast": "true", "foreign": 7.0}, func(n *fabric.Network) {}},
		{"not encrypted", map[string]any{"encrypted": "false"}, func(n *fabric.Network) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := fabric.Network{ID: netID, Attach: tap.Veth, Ageing: 300 * time.Second, External: true,
				Pools: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}}
			tc.want(&want)
			got, err := parseNetwork(creating(tc.opts, "10.77.0.0/24"))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestParsePools(t *testing.T) {
	v4 := func(pools ...string) (ds []*network.IPAMData) {
		for _, p := range pools {
			ds = append(ds, &network.IPAMData{Pool: p, Gateway: "<nil>"})
		}
		return ds
	}
	for _, tc := range []struct {
		name   string
		v4, v6 []*network.IPAMData
		want   []string
	}{
		{"none", nil, nil, nil},
		{"null IPAM", v4("0.0.0.0/0"), v4("::/0"), nil},
		{"printed nil", v4("<nil>", ""), nil, nil},
		{"null element", []*network.IPAMData{nil}, nil, nil},
		{"several", v4("10.1.0.0/16", "10.2.0.0/16"), v4("fd00::/64"), []string{"10.1.0.0/16", "10.2.0.0/16", "fd00::/64"}},
		{"IPv6 only", nil, v4("fd00::/64"), []string{"fd00::/64"}},
		{"host bits", v4("10.1.2.3/16"), nil, []string{"10.1.0.0/16"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parsePools(tc.v4, tc.v6)
			if err != nil {
				t.Fatal(err)
			}
			var want []netip.Prefix
			for _, s := range tc.want {
				want = append(want, netip.MustParsePrefix(s))
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	if _, err := parsePools(v4("10.77.0.0")); err == nil || !strings.Contains(err.Error(), "10.77.0.0/24") {
		t.Errorf("pool without mask: %v", err)
	}
}

// Everything here is refused before fabric is called.
func TestRefusedOptions(t *testing.T) {
	const known = "Known are tapestry.ageing, tapestry.allow, tapestry.allow-to, tapestry.attach, tapestry.dscp, tapestry.external, tapestry.group, tapestry.guard, tapestry.host, tapestry.isolated, tapestry.mss, tapestry.network, tapestry.peers, tapestry.rate, tapestry.reserved, tapestry.snooping, tapestry.storm, tapestry.tagged, tapestry.ttl, tapestry.vni"
	type opts = map[string]any
	peersOf := func(s string) opts { return opts{"tapestry.vni": "80", "tapestry.peers": s} }
	for _, tc := range []struct {
		name string
		opts opts
		want []string
	}{
		{"VNI 0", opts{"tapestry.vni": "0"}, []string{"tapestry.vni=0: want a number from 1 to 16777215"}},
		{"VNI 2^24", opts{"tapestry.vni": "16777216"}, []string{"tapestry.vni=16777216: want a number from 1 to 16777215"}},
		{"VNI 2^32+1", opts{"tapestry.vni": "4294967297"}, []string{"from 1 to 16777215"}},
		{"VNI negative", opts{"tapestry.vni": "-1"}, []string{"tapestry.vni=-1: want"}},
		{"VNI text", opts{"tapestry.vni": "blue"}, []string{"tapestry.vni=blue: want"}},
		{"VNI empty", opts{"tapestry.vni": ""}, []string{"tapestry.vni=: want"}},
		{"VNI as a number", opts{"tapestry.vni": 80.0}, []string{"tapestry.vni: want a string, got a number"}},
		{"VNI as null", opts{"tapestry.vni": nil}, []string{"tapestry.vni: want a string, got null"}},
		{"two overlay VNIs", opts{optVNIList: "80,81"}, []string{optVNIList + "=80,81: want exactly one number"}},
		{"overlay VNI text", opts{optVNIList: "x"}, []string{optVNIList + "=x: want a number"}},
		{"VNIs differ", opts{optVNIList: "81", "tapestry.vni": "80"}, []string{"tapestry.vni says 80"}},

		{"peers empty", peersOf(""), []string{"tapestry.peers=: want addresses", "--peer"}},
		{"peers trailing comma", peersOf("192.0.2.2,"), []string{`"" is no peer`}},
		{"group of one host", opts{"tapestry.vni": "80", "tapestry.group": "192.0.2.1"}, []string{"192.0.2.1 is no multicast group: want one of 224.0.0.0/4"}},
		{"group text", opts{"tapestry.vni": "80", "tapestry.group": "all"}, []string{"tapestry.group=all: want a multicast group"}},
		{"group and peers", opts{"tapestry.vni": "80", "tapestry.group": "239.1.1.1", "tapestry.peers": "192.0.2.2"}, []string{"tapestry.group and tapestry.peers: a network has a group or a list"}},
		{"group and key", opts{"tapestry.group": "239.1.1.1", "tapestry.network": "blue"}, []string{"tapestry.group and tapestry.network"}},
		{"reserved", opts{"tapestry.vni": "80", "tapestry.reserved": "strict"}, []string{"tapestry.reserved=strict: want ignore (", "as RFC 7348 says) or drop ("}},
		{"tagged", opts{"tapestry.vni": "80", "tapestry.tagged": ""}, []string{"tapestry.tagged=: want pass (", ") or drop ("}},
		{"DSCP by name", opts{"tapestry.vni": "80", "tapestry.dscp": "ef"}, []string{"tapestry.dscp=ef: want a number from 0 to 63", "inherit"}},
		{"DSCP of 7 bits", opts{"tapestry.vni": "80", "tapestry.dscp": "64"}, []string{"tapestry.dscp=64: want a number from 0 to 63"}},
		{"DSCP negative", opts{"tapestry.vni": "80", "tapestry.dscp": "-1"}, []string{"tapestry.dscp=-1: want"}},
		{"TTL 0", opts{"tapestry.vni": "80", "tapestry.ttl": "0"}, []string{"tapestry.ttl=0: want a number from 1 to 255", "leave the option away"}},
		{"TTL 256", opts{"tapestry.vni": "80", "tapestry.ttl": "256"}, []string{"tapestry.ttl=256: want a number from 1 to 255"}},
		{"DSCP without VNI", opts{"tapestry.dscp": "46"}, []string{"tapestry.dscp without tapestry.vni"}},
		{"TTL without VNI", opts{"tapestry.ttl": "inherit"}, []string{"tapestry.ttl without tapestry.vni"}},
		{"reserved without VNI", opts{"tapestry.reserved": "drop"}, []string{"tapestry.reserved without tapestry.vni"}},
		{"tagged without VNI", opts{"tapestry.tagged": "drop"}, []string{"tapestry.tagged without tapestry.vni"}},
		{"group without VNI", opts{"tapestry.group": "239.1.1.1"}, []string{"tapestry.group without tapestry.vni"}},
		{"peer mistyped", peersOf("192.0.2.300"), []string{`"192.0.2.300" is no peer`, "its last part begins with a digit, as of an address"}},
		{"peer cut short", peersOf("192.0.2"), []string{`"192.0.2" is no peer`}},
		{"peer mistyped, IPv6", peersOf("2001:db8::zz"), []string{`"2001:db8::zz" is no peer`}},
		{"peer name with port 0", peersOf("host-b:0"), []string{`"host-b:0" is no peer`, "it has no such port"}},
		{"peer name with a port too large", peersOf("host-b:65536"), []string{"a port from 1 to 65535"}},
		{"peer name of no letters", peersOf("host b"), []string{"want letters, digits and hyphens"}},
		{"peer name twice", peersOf("host-b,HOST-B:8472"), []string{"host-b is there twice"}},
		{"peer with mask", peersOf("192.0.2.2/24"), []string{`"192.0.2.2/24" is no peer`}},
		{"peer port 0", peersOf("192.0.2.2:0"), []string{"a port from 1 to 65535"}},
		{"peer port too large", peersOf("192.0.2.2:65536"), []string{"a port from 1 to 65535"}},
		{"peer half bracket", peersOf("[2001:db8::2"), []string{"is no peer"}},
		{"peer twice", peersOf("192.0.2.2,192.0.2.3,192.0.2.2"), []string{"192.0.2.2 is there twice"}},
		{"peer twice, mapped", peersOf("192.0.2.2,::ffff:192.0.2.2"), []string{"192.0.2.2 is there twice"}},
		{"peer twice, two ports", peersOf("192.0.2.2:4789,192.0.2.2:4790"), []string{"192.0.2.2 is there twice"}},
		{"peer multicast", peersOf("239.1.1.1"), []string{"239.1.1.1 is a multicast group"}},
		{"peer unspecified", peersOf("0.0.0.0"), []string{"0.0.0.0 is no host's address"}},
		{"peer broadcast", peersOf("255.255.255.255:4789"), []string{"255.255.255.255 is no host's address"}},
		{"peer link-local", peersOf("fe80::1%eth0"), []string{"holds on one link only"}},
		{"peer with a zone, mapped", peersOf("::ffff:192.0.2.2%eth0"), []string{"holds on one link only"}},
		{"key", opts{"tapestry.network": "Blue"}, []string{`tapestry.network=Blue: network "Blue": want 1 to 63 small letters`}},
		{"key and peers", opts{"tapestry.network": "blue", "tapestry.peers": "192.0.2.2"}, []string{"tapestry.network and tapestry.peers", "tapestry peers add"}},
		{"peers without VNI", opts{"tapestry.peers": "192.0.2.2"}, []string{"tapestry.peers without tapestry.vni", "-o tapestry.vni="}},

		{"attach", opts{"tapestry.attach": "macvlan"}, []string{"tapestry.attach=macvlan: want veth or tap"}},
		{"ageing 0", opts{"tapestry.ageing": "0"}, []string{"tapestry.ageing=0: want a duration of 1s or more"}},
		{"ageing short", opts{"tapestry.ageing": "999ms"}, []string{"want a duration of 1s or more"}},
		{"ageing negative", opts{"tapestry.ageing": "-5m"}, []string{"want a duration of 1s or more"}},
		{"ageing without unit", opts{"tapestry.ageing": "300"}, []string{"tapestry.ageing=300: want a duration", "300s"}},
		{"ageing too long", opts{"tapestry.ageing": "9999999h"}, []string{"want a duration"}},
		{"guard", opts{"tapestry.guard": "ful"}, []string{"tapestry.guard=ful: want off, mac or full; did you mean full?"}},
		{"guard empty", opts{"tapestry.guard": ""}, []string{"tapestry.guard=: want off, mac or full"}},
		{"allow", opts{"tapestry.allow": "ra,dchp"}, []string{`tapestry.allow=ra,dchp: "dchp": want ra (router advertisements), dhcp`, "did you mean dhcp?"}},
		{"allow empty", opts{"tapestry.allow": ""}, []string{`"": want ra`}},
		{"allow twice", opts{"tapestry.allow": "ra, ra"}, []string{"tapestry.allow=ra, ra: ra is there twice"}},
		{"allow twice, with another sign", opts{"tapestry.allow": "dhcp+ra,dhcp"}, []string{"tapestry.allow=dhcp+ra,dhcp: dhcp is there twice"}},
		{"external", opts{"tapestry.external": "true"}, []string{"tapestry.external=true: want on"}},

		{"MTU text", opts{optMTU: "abc"}, []string{optMTU + "=abc: want a number from 68 to 65521"}},
		{"MTU negative", opts{optMTU: "-1"}, []string{optMTU + "=-1: want"}},
		{"MTU too large", opts{optMTU: "70000"}, []string{optMTU + "=70000: want"}},
		{"MTU 0", opts{optMTU: "0"}, []string{optMTU + "=0: want"}},
		{"MTU 67", opts{optMTU: "67"}, []string{optMTU + "=67: want"}},

		{"prefix empty", opts{optPrefix: ""}, []string{"want 1 to 11 letters"}},
		{"prefix long", opts{optPrefix: "abcdefghijkl"}, []string{"abcdefghijkl: want 1 to 11"}},
		{"prefix slash", opts{optPrefix: "a/b"}, []string{"a/b: want"}},
		{"prefix blank", opts{optPrefix: "a b"}, []string{"want 1 to 11"}},

		{"encrypted bare", opts{"encrypted": ""}, []string{"encrypted=: tapestry's VXLAN is not encrypted"}},
		{"encrypted true", opts{"encrypted": "true"}, []string{"encrypted=true: tapestry's VXLAN is not encrypted"}},
		{"encrypted anything", opts{"encrypted": "aes"}, []string{"not encrypted"}},

		{"typo", opts{"tapestry.peer": "192.0.2.2"}, []string{"tapestry.peer: no such option; did you mean tapestry.peers?", known, optMTU}},
		{"American ageing", opts{"tapestry.aging": "5m"}, []string{"did you mean tapestry.ageing?"}},
		{"capitals", opts{"Tapestry.VNI": "80"}, []string{"Tapestry.VNI: no such option; did you mean tapestry.vni?"}},
		{"far from all", opts{"tapestry.colour": "red"}, []string{"tapestry.colour: no such option. " + known}},
		{"control bytes", opts{"tapestry.vni": "1\x00\x1b[2J"}, []string{`tapestry.vni="1\x00\x1b[2J": want`}},
		{"endless value", opts{"tapestry.vni": strings.Repeat("9", 1<<16)}, []string{"999\"…: want"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &fakeBackend{}
			status, got := post(t, serving(t, r), "/NetworkDriver.CreateNetwork", object(t, creating(tc.opts)))
			mustRefuse(t, status, 200, got, tc.want...)
			if len(r.calls) != 0 {
				t.Errorf("fabric was called: %v", r.calls)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	for _, tc := range []struct{ key, want string }{
		{"tapestry.vnis", "tapestry.vni"},
		{"tapestry.vnx", "tapestry.vni"},
		{"tapestry.mtu", ""},
		{"tapestry.atach", "tapestry.attach"},
		{"tapestry.externel", "tapestry.external"},
		{"tapestry.", ""},
	} {
		if got := nearest(tc.key, ownKeys()); got != tc.want {
			t.Errorf("nearest(%s) = %q, want %q", tc.key, got, tc.want)
		}
	}
}

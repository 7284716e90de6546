package plugin

import (
	"reflect"
	"strings"
	"testing"

	"net/netip"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/tapestry-net/tapestry/ether"
)

// The host's addresses are the gateways' or given ones, which Docker then gives to no container.
func TestHostOption(t *testing.T) {
	v4 := &network.IPAMData{Pool: "10.77.0.0/24", Gateway: "10.77.0.1/24", AuxAddresses: map[string]any{"host": "10.77.0.9/24", "x": 7.0}}
	v6 := &network.IPAMData{Pool: "fd77::/64", Gateway: "fd77::1/64", AuxAddresses: map[string]any{"host6": "fd77::9"}}
	bare := &network.IPAMData{Pool: "10.78.0.0/24"}
	null := &network.IPAMData{Pool: "0.0.0.0/0"}
	type data = []*network.IPAMData
	for _, tc := range []struct {
		name, value string
		v4, v6      data
		want        string // addresses, or part of the error
		mac         string // "": refused
	}{
		{"off", "off", data{v4}, nil, "", "none"},
		{"on", "on", data{v4}, nil, "10.77.0.1/24", "02:42:0a:4d:00:01"},
		{"on, both families", "on", data{v4}, data{v6}, "10.77.0.1/24 fd77::1/64", "02:42:0a:4d:00:01"},
		{"reserved", "10.77.0.9", data{v4}, data{v6}, "10.77.0.9/24", "02:42:0a:4d:00:09"},
		{"with its length", "10.77.0.9/24", data{v4}, nil, "10.77.0.9/24", "02:42:0a:4d:00:09"},
		{"both, IPv6 first", "fd77::9,10.77.0.9", data{v4}, data{v6}, "10.77.0.9/24 fd77::9/64", "02:42:0a:4d:00:09"},
		{"the gateway by name", "10.77.0.1", data{v4}, nil, "10.77.0.1/24", "02:42:0a:4d:00:01"},
		{"no subnet", "10.1.2.3/16", data{null}, nil, "10.1.2.3/16", "02:42:0a:01:02:03"},

		{"on without a gateway", "on", data{v4, bare}, nil, "10.78.0.0/24 has none: add --gateway ADDRESS", ""},
		{"on without a subnet", "on", data{null}, nil, "no subnet; name the host's address with its prefix length", ""},
		{"no subnet, no length", "10.1.2.3", data{null}, nil, "say how long the prefix of 10.1.2.3 is", ""},
		{"another subnet", "10.79.0.9", data{v4}, nil, "10.79.0.9 is in no subnet of this network's", ""},
		{"another length", "10.77.0.9/16", data{v4}, nil, "10.77.0.9/16 is in 10.77.0.0/24", ""},
		{"not reserved", "10.77.0.10", data{v4}, nil, "--aux-address host=10.77.0.10", ""},
		{"twice", "10.77.0.9,10.77.0.9/24", data{v4}, nil, "10.77.0.9 is there twice", ""},
		{"true", "true", data{v4}, nil, "tapestry.host=true: want on", ""},
		{"empty", "", data{v4}, nil, "want on", ""},
		{"a group", "239.1.1.1", data{v4}, nil, "want on", ""},
		{"loopback", "127.0.0.1", data{v4}, nil, "want on", ""},
		{"a zone", "fe80::1%eth0", data{v4}, nil, "want on", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := creating(map[string]any{optHostPort: tc.value})
			req.IPv4Data, req.IPv6Data = tc.v4, tc.v6
			n, err := parseNetwork(req)
			switch {
			case tc.mac == "":
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v, want %s", err, tc.want)
				}
				return
			case err != nil:
				t.Fatal(err)
			case tc.mac == "none":
				if n.HostPort != nil {
					t.Errorf("%+v", n.HostPort)
				}
				return
			}
			var want []netip.Prefix
			for _, s := range strings.Fields(tc.want) {
				want = append(want, netip.MustParsePrefix(s))
			}
			mac, err := ether.ParseMAC(tc.mac)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(n.HostPort.Addrs, want) || n.HostPort.MAC != mac || n.HostPort.ID != "host"+netID {
				t.Errorf("got %+v, want %v %s", n.HostPort, want, mac)
			}
		})
	}
}

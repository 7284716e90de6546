package guard

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/fabric/view"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A container's limits are its own, then its network's, then the defaults; the host has none.
func TestLimits(t *testing.T) {
	one, two := netip.MustParsePrefix("10.77.0.1/32"), netip.MustParsePrefix("10.77.0.2/32")
	for name, tc := range map[string]struct {
		network, endpoint state.Limits
		host              bool
		want              vswitch.Policy
	}{
		"nothing":       {want: vswitch.Policy{Storm: vswitch.DefaultStorm}},
		"the network's": {network: state.Limits{Rate: 1e6, Storm: 7, Isolated: "on", AllowTo: []netip.Prefix{one}}, want: vswitch.Policy{Storm: 7, Rate: 125_000, Isolated: true, With: []netip.Prefix{one}}},
		"its own": {network: state.Limits{Rate: 1e6, Storm: 7, Isolated: "on", AllowTo: []netip.Prefix{one}}, endpoint: state.Limits{Rate: 8e6, Storm: 9, AllowTo: []netip.Prefix{two}},
			want: vswitch.Policy{Storm: 9, Rate: 1_000_000, Isolated: true, With: []netip.Prefix{one, two}}},
		"none after all":    {network: state.Limits{Rate: 1e6, Storm: 7, Isolated: "on"}, endpoint: state.Limits{Rate: state.NoLimit, Storm: state.NoLimit, Isolated: "off"}},
		"an MSS":            {network: state.Limits{MSS: 1300, Storm: -1}, want: vswitch.Policy{MSS: 1300}},
		"its own MSS":       {network: state.Limits{MSS: 1300, Storm: -1}, endpoint: state.Limits{MSS: state.AutoMSS}, want: vswitch.Policy{MSS: vswitch.AutoMSS}},
		"no MSS after all":  {network: state.Limits{MSS: state.AutoMSS, Storm: -1}, endpoint: state.Limits{MSS: state.NoLimit}},
		"the host's is one": {network: state.Limits{MSS: state.AutoMSS, Rate: 1e6}, host: true, want: vswitch.Policy{MSS: vswitch.AutoMSS}},
		"the host's":        {network: state.Limits{Rate: 1e6, Storm: 7, Isolated: "on"}, host: true},
	} {
		n, e := &state.Network{Limits: tc.network}, &state.Endpoint{ID: "e", Limits: tc.endpoint}
		if n.HostPort = nil; tc.host {
			n.HostPort = e
		}
		got := Of(n, e)
		if got.Guards = 0; !reflect.DeepEqual(*got, tc.want) {
			t.Errorf("%s: %+v, want %+v", name, *got, tc.want)
		}
	}
}

// What is shown is what is in force.
func TestSettings(t *testing.T) {
	n := &state.Network{Guards: state.Guards{Allow: []string{"dhcp"}}, Limits: state.Limits{Rate: 8, MSS: state.AutoMSS}}
	e := &state.Endpoint{ID: "e", VLAN: "10", Guards: state.Guards{Level: MAC, Allow: []string{"ra"}}, Limits: state.Limits{Storm: state.NoLimit, AllowTo: []netip.Prefix{{}}}}
	for _, tc := range []struct {
		name string
		got  view.Settings
		want view.Settings
	}{
		{"network", Settings(n, &state.Endpoint{}), view.Settings{Guard: Full, Allow: []string{"dhcp"}, Rate: 8, Storm: vswitch.DefaultStorm, MSS: state.AutoMSS}},
		{"its own", Settings(n, e), view.Settings{Guard: MAC, Allow: []string{"ra", "dhcp"}, Rate: 8, MSS: state.AutoMSS, VLAN: "10"}},
		{"remote", SettingsOfRemote(n), view.Settings{Guard: Full}},
		{"remote, off", SettingsOfRemote(&state.Network{Guards: state.Guards{Level: Off}}), view.Settings{Guard: Off}},
		{"host", Settings(&state.Network{HostPort: e, Limits: n.Limits}, &state.Endpoint{ID: "e"}), view.Settings{Guard: MAC, MSS: state.AutoMSS}},
	} {
		if !reflect.DeepEqual(tc.got, tc.want) {
			t.Errorf("%s: %+v, want %+v", tc.name, tc.got, tc.want)
		}
	}
}

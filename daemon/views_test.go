package daemon

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/fabric"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// The API calls the host's own ports as fabric does.
func TestHostPortName(t *testing.T) {
	if got, want := api.HostPortName("x"), fabric.HostPortID("x"); got != want {
		t.Errorf("the API calls it %q, the fabric %q", got, want)
	}
}

// Settings are shown in the words of their options; lists are never null.
func TestSettings(t *testing.T) {
	if api.DefaultStorm != vswitch.DefaultStorm {
		t.Errorf("the API's default is %d, the switch's %d", api.DefaultStorm, vswitch.DefaultStorm)
	}
	for _, tc := range []struct {
		s    fabric.Settings
		want api.Settings
	}{
		{fabric.Settings{Guard: "full"}, api.Settings{Guard: "full", Allow: []string{}, AllowTo: []string{}, MSS: "off"}},
		{fabric.Settings{Guard: "mac", Allow: []string{"ra", "bpdu"}, Rate: 1e8, Storm: 7, Isolated: true, AllowTo: []netip.Prefix{netip.MustParsePrefix("10.77.0.2/32")}, MSS: 1360},
			api.Settings{Guard: "mac", Allow: []string{"ra", "bpdu"}, Rate: 1e8, Storm: 7, Isolated: true, AllowTo: []string{"10.77.0.2/32"}, MSS: "1360"}},
		{fabric.Settings{MSS: -2}, api.Settings{Allow: []string{}, AllowTo: []string{}, MSS: "auto"}},
	} {
		if got := toSettings(tc.s); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%+v: %+v, want %+v", tc.s, got, tc.want)
		}
	}
	n := toNetwork(fabric.NetworkView{Network: fabric.Network{Snooping: true}, Settings: fabric.Settings{Guard: "off"}})
	p := toPort(fabric.PortView{Settings: fabric.Settings{Guard: "mac", VLAN: "trunk:10+20"}})
	if !n.Snooping || n.Guard != "off" || p.Guard != "mac" || p.VLAN != "trunk:10+20" {
		t.Errorf("%+v, %+v", n, p)
	}
}

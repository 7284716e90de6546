package fabric

import (
	"reflect"
	"testing"
)

// Views of networks and ports show what is in force, and policies do it, also after a restart.
func TestSettings(t *testing.T) {
	h := newHost(t)
	n := wide(1, 80, "127.0.0.2")
	n.Snooping, n.Limits = true, Limits{MSS: -2, Rate: 8_000_000}
	h.mustNetwork(n)
	own := ep(1)
	own.VLAN, own.Level, own.MSS = "10", "off", 1300
	h.mustEndpoint(n.ID, own)
	h.mustEndpoint(n.ID, ep(2))
	for range 2 {
		if v := h.Networks()[0]; !v.Snooping || !reflect.DeepEqual(v.Settings, Settings{Guard: "full", Rate: 8_000_000, Storm: 50_000, MSS: -2}) {
			t.Errorf("the network shows %+v", v.Settings)
		}
		ports := h.Ports(n.ID)
		for i, want := range []Settings{{Guard: "off", Rate: 8_000_000, Storm: 50_000, MSS: 1300, VLAN: "10"}, {Guard: "full", Rate: 8_000_000, Storm: 50_000, MSS: -2}, {Guard: "full"}} {
			if !reflect.DeepEqual(ports[i].Settings, want) {
				t.Errorf("%s %s shows %+v, want %+v", ports[i].Kind, ports[i].Name, ports[i].Settings, want)
			}
		}
		for i, want := range []int{1300, -1} {
			if got := h.networks[n.ID].endpoints[epID(1+i)].port.Policy().MSS; got != want {
				t.Errorf("endpoint %d has the MSS %d, want %d", 1+i, got, want)
			}
		}
		h.restart()
	}
}

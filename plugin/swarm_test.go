package plugin

import (
	"reflect"
	"slices"
	"testing"
)

func TestScope(t *testing.T) {
	for _, scope := range []string{Local, Global} {
		status, got := post(t, newHandler(&Driver{backend: &fakeBackend{}, scope: scope}, testIPAM(t), nil, deadline), "/NetworkDriver.GetCapabilities", "")
		mustWork(t, status, got)
		if got["Scope"] != scope || got["ConnectivityScope"] != Global {
			t.Errorf("with scope %s: %v", scope, got)
		}
	}
}

// A manager's reply has the options for every node: all that were given, and a VNI.
func TestAllocate(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		options    map[string]any
		vni        uint32 // that the fabric was asked for
	}{
		{"none", `"Options":null`, map[string]any{optVNI: "4711"}, 0},
		{"as Docker sends it", `"Options":{},"IPv4Data":[{"AddressSpace":"","Gateway":"10.60.0.1/16","Pool":"10.60.0.0/16"}],"IPv6Data":null`, map[string]any{optVNI: "4711"}, 0},
		{"no gateway", `"Options":{},"IPv4Data":[{"AddressSpace":"","Gateway":"<nil>","Pool":"10.60.0.0/16"}]`, map[string]any{optVNI: "4711"}, 0},
		{"all come back", `"Options":{"com.docker.network.driver.mtu":"1400","org.example.color":"blue","tapestry.ageing":"60s"}`,
			map[string]any{optVNI: "4711", optMTU: "1400", "org.example.color": "blue", "tapestry.ageing": "60s"}, 0},
		{"a VNI is asked for", `"Options":{"tapestry.vni":"80"}`, map[string]any{optVNI: "80"}, 80},
		{"as overlay does", `"Options":{"com.docker.network.driver.overlay.vxlanid_list":"81"}`, map[string]any{optVNIList: "81"}, 81},
		{"peers without a VNI", `"Options":{"tapestry.peers":"192.0.2.2"}`, map[string]any{optVNI: "4711", optPeers: "192.0.2.2"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &fakeBackend{}
			h := serving(t, r)
			status, got := post(t, h, "/NetworkDriver.AllocateNetwork", `{"NetworkID":"`+nodeNet+`",`+tc.body+`}`)
			mustWork(t, status, got)
			tc.options[optAllocated] = "true"
			if !reflect.DeepEqual(got["Options"], tc.options) {
				t.Errorf("options %v, want %v", got["Options"], tc.options)
			}
			if n := r.networks[0]; n.VNI != tc.vni || !n.Swarm {
				t.Errorf("allocated %+v, want VNI %d", n, tc.vni)
			}
			// A manager that becomes the leader is asked again, and replies the same.
			status, repeated := post(t, h, "/NetworkDriver.AllocateNetwork", `{"NetworkID":"`+nodeNet+`","Options":`+object(t, tc.options)+`}`)
			mustWork(t, status, repeated)
			if !reflect.DeepEqual(repeated, got) || r.calls[0] != "Allocate "+nodeNet+" false" || r.calls[1] != "Allocate "+nodeNet+" true" {
				t.Errorf("asked again it answers %v; calls %q", repeated, r.calls)
			}
			r.networks = r.networks[:1]
			// A node is given the reply, and makes the same network of it.
			status, got = post(t, h, "/NetworkDriver.CreateNetwork", `{"NetworkID":"`+nodeNet+`","Options":{"com.docker.network.generic":`+object(t, tc.options)+`}}`)
			mustWork(t, status, got)
			n := r.networks[1]
			if n.VNI == 0 || !n.Swarm || !slices.Equal(n.Peers, r.networks[0].Peers) {
				t.Errorf("a node makes %+v", n)
			}
		})
	}
}

func TestAllocateRefused(t *testing.T) {
	for _, tc := range []struct{ options, want string }{
		{`{"tapestry.vni":"0"}`, "tapestry.vni=0: want a number"},
		{`{"tapestry.vnl":"80"}`, "did you mean tapestry.vni?"},
		{`{"com.docker.network.driver.mtu":"9"}`, "want a number from 68"},
		{`{"encrypted":""}`, "not encrypted"},
		{`{"tapestry.host":"10.60.0.9"}`, "every node"},
		{`{"tapestry.peers":"192.0.2.300"}`, "no peer"},
	} {
		r := &fakeBackend{}
		status, got := post(t, serving(t, r), "/NetworkDriver.AllocateNetwork",
			`{"NetworkID":"`+nodeNet+`","Options":`+tc.options+`,"IPv4Data":[{"Gateway":"10.60.0.1/16","Pool":"10.60.0.0/16"}]}`)
		mustRefuse(t, status, 200, got, tc.want)
		if r.calls != nil {
			t.Errorf("%s: fabric was called: %v", tc.options, r.calls)
		}
	}
}

func TestDiscovery(t *testing.T) {
	const to = "/NetworkDriver.Discover"
	for _, tc := range []struct {
		method, body string
		want         []string
	}{
		{"New", `{"DiscoveryType":1,"DiscoveryData":{"Address":"192.0.2.1","BindAddress":"0.0.0.0","Self":true}}`, []string{"NodeJoined 192.0.2.1 true"}},
		{"New", `{"DiscoveryType":1,"DiscoveryData":{"Address":"192.0.2.2","BindAddress":"192.0.2.2","Self":false}}`, []string{"NodeJoined 192.0.2.2 false"}},
		{"New", `{"DiscoveryType":1,"DiscoveryData":{"Address":"::ffff:192.0.2.2"}}`, []string{"NodeJoined 192.0.2.2 false"}},
		{"New", `{"DiscoveryType":1,"DiscoveryData":{"Address":"2001:db8::2"}}`, []string{"NodeJoined 2001:db8::2 false"}},
		{"Delete", `{"DiscoveryType":1,"DiscoveryData":{"Address":"192.0.2.2"}}`, []string{"NodeLeft 192.0.2.2"}},
		{"Delete", `{"DiscoveryType":1,"DiscoveryData":{"Address":"192.0.2.1","Self":true}}`, nil}, // this host is here
		{"New", `{"DiscoveryType":2,"DiscoveryData":{"Keys":[],"Tags":[]}}`, nil},
	} {
		r := &fakeBackend{}
		status, got := post(t, serving(t, r), to+tc.method, tc.body)
		mustWork(t, status, got)
		if !slices.Equal(r.calls, tc.want) {
			t.Errorf("%s %s: fabric was told %q, want %q", tc.method, tc.body, r.calls, tc.want)
		}
	}
	for _, address := range []string{"", "node-2", "fe80::1%eth0", "192.0.2.0/24"} {
		status, got := post(t, serving(t, &fakeBackend{}), to+"New", `{"DiscoveryType":1,"DiscoveryData":{"Address":"`+address+`"}}`)
		mustRefuse(t, status, 200, got, "DiscoveryData.Address", "want an IP address")
	}
}

// The ids of local networks and of a Swarm's networks differ in their form.
func TestSwarmID(t *testing.T) {
	for _, id := range []string{netID, nodeNet} {
		r := &fakeBackend{}
		status, got := post(t, serving(t, r), "/NetworkDriver.CreateNetwork", `{"NetworkID":"`+id+`"}`)
		mustWork(t, status, got)
		if n := r.networks[0]; n.Swarm != (id == nodeNet) {
			t.Errorf("%s makes %+v", id, n)
		}
	}
}

package plugin

import (
	"strings"
	"testing"
)

// Options that would have no effect here are refused, with what to write instead; options that ask for what is the case anyway pass.
func TestForeignOptions(t *testing.T) {
	const bridge = "com.docker.network.bridge."
	for _, tc := range []struct {
		key, value string
		want       string // part of the error; "": it passes
	}{
		// Docker's bridge
		{bridge + "host_binding_ipv4", "127.0.0.1", "docker run -p 127.0.0.1:8080:80"},
		{bridge + "host_binding_ipv4", "", "docker run -p"},
		{bridge + "host_binding_ipv4", "0.0.0.0", ""},
		{bridge + "enable_icc", "false", "a network of their own"},
		{bridge + "enable_icc", "no", "a network of their own"},
		{bridge + "enable_icc", "true", ""},
		{bridge + "enable_ip_masquerade", "false", "docker_gwbridge"},
		{bridge + "enable_ip_masquerade", "1", ""},
		{bridge + "gateway_mode_ipv4", "isolated", "tapestry.external=off"},
		{bridge + "gateway_mode_ipv6", "routed", "tapestry.external=off"},
		{bridge + "gateway_mode_ipv4", "nat", ""},
		{bridge + "trusted_host_interfaces", "eth1:eth2", "docker_gwbridge"},
		{bridge + "trusted_host_interfaces", "", ""},
		{bridge + "name", "br-app", "has no bridge"},
		{bridge + "inhibit_ipv4", "true", ""},
		{bridge + "default_bridge", "true", ""},
		{bridge + "mtu", "1400", "did you mean com.docker.network.driver.mtu?"},
		{"com.docker.network.host_ipv4", "192.0.2.7", "docker_gwbridge"},
		{"com.docker.network.host_ipv6", "2001:db8::7", "docker_gwbridge"},
		{"icc", "false", "a network of their own"},

		// Docker itself
		{"com.docker.network.internal", "true", "--internal"},
		{"com.docker.network.internal", "false", ""},
		{"com.docker.network.enable_ipv6", "true", "--ipv6=true"},
		{"com.docker.network.enable_ipv6", "false", ""},
		{"com.docker.network.enable_ipv4", "false", "--ipv4=false"},
		{"com.docker.network.enable_ipv4", "true", ""},
		{"com.docker.network.gateway", "10.77.0.1", "--gateway"},
		{"com.docker.network.advertise_addr_nmsgs", "3", ""},
		{"com.docker.network.advertise_addr_ms", "100", ""},
		{"com.docker.network.something", "1", ""},
		{"com.docker.compose.network", "default", ""},
		{"com.docker.stack.namespace", "app", ""},
		{"internal", "true", "--internal"},
		{"subnet", "10.77.0.0/24", "--subnet"},
		{"ip-range", "10.77.0.0/25", "--ip-range"},
		{"ipv6", "true", "--ipv6"},

		// overlay
		{"Encrypted", "true", "not encrypted"},
		{"encrypt", "", "not encrypted"},
		{"encryption", "false", ""},
		{"com.docker.network.driver.overlay.vxlanid", "80", "did you mean tapestry.vni?"},
		{"com.docker.network.driver.overlay.vxlanidlist", "80", "did you mean tapestry.vni?"},

		// macvlan, ipvlan
		{"parent", "eth0.10", "tied to no link of this host"},
		{"macvlan_mode", "private", "all reach each other"},
		{"macvlan_mode", "bridge", ""},
		{"ipvlan_mode", "l3", "layer 2"},
		{"ipvlan_mode", "l2", ""},
		{"ipvlan_flag", "vepa", "all reach each other"},
		{"ipvlan_flag", "bridge", ""},
		{"vlan", "10", "no VLAN"},

		// Weave, Podman, others
		{"works.weave.multicast", "true", ""},
		{"works.weave.multicast", "false", ""},
		{"isolate", "true", ""},
		{"no_default_route", "1", "tapestry.external=off"},
		{"foreign", "", ""},
		{"org.example.mtu", "1400", ""},

		// near misses of tapestry's own
		{"vni", "80", "did you mean tapestry.vni?"},
		{"VNI", "80", "did you mean tapestry.vni?"},
		{"vxlan-id", "80", "did you mean tapestry.vni?"},
		{"com.docker.network.driver.vni", "80", "did you mean tapestry.vni?"},
		{"MTU", "1400", "did you mean com.docker.network.driver.mtu?"},
		{"com.docker.network.mtu", "1400", "did you mean com.docker.network.driver.mtu?"},
		{"com.docker.network.driver.MTU", "1400", "did you mean com.docker.network.driver.mtu?"},
		{"com.docker.network.driver.mut", "1400", "did you mean com.docker.network.driver.mtu?"},
		{"com.docker.network.container_iface_prefx", "lan", "did you mean com.docker.network.container_iface_prefix?"},
		{"peers", "192.0.2.2", "did you mean tapestry.peers?"},
		{"peer", "192.0.2.2", "did you mean tapestry.peers?"},
		{"aging", "60s", "did you mean tapestry.ageing?"},
		{"external", "off", "did you mean tapestry.external?"},
		{"tapesty.vni", "80", "did you mean tapestry.vni?"},
		{"tapestry_vni", "80", "did you mean tapestry.vni?"},
		{"com.tapestry.peers", "192.0.2.2", "did you mean tapestry.peers?"},
		{"io.tapestry.attach", "tap", "did you mean tapestry.attach?"},
		{"tapestry", "x", "Known are tapestry.ageing"},
		{strings.Repeat("x", 1<<16), "x", ""},
	} {
		t.Run(tc.key[:min(60, len(tc.key))]+"="+tc.value, func(t *testing.T) {
			req := creating(map[string]any{tc.key: tc.value})
			req.Options["com.docker.network.enable_ipv6"] = false // as 20.10
			_, err := parseNetwork(req)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), tc.key)):
				t.Errorf("got %v, want %s: … %s", err, tc.key, tc.want)
			}
		})
	}
}

// Options that Docker itself adds to the user's pass; an option of tapestry's among them is not overlooked.
func TestOptionsBeside(t *testing.T) {
	for _, tc := range []struct {
		name string
		all  map[string]any
		want string
	}{
		{"Docker's", map[string]any{"com.docker.network.enable_ipv4": true, "com.docker.network.enable_ipv6": true, "com.docker.network.internal": true,
			"com.docker.network.gateway": "x", "com.docker.network.driver.mtu": 7.0}, ""},
		{"obeyed by a new daemon", map[string]any{"com.docker.network.enable_ipv4": false, "com.docker.network.enable_ipv6": true,
			generic: map[string]any{"com.docker.network.enable_ipv6": "true", "com.docker.network.enable_ipv4": "false"}}, ""},
		{"not obeyed", map[string]any{"com.docker.network.enable_ipv4": true,
			generic: map[string]any{"com.docker.network.enable_ipv4": "false"}}, "--ipv4=false"},
		{"ours", map[string]any{"tapestry.vni": "80"}, "tapestry.vni stands beside com.docker.network.generic"},
		{"nearly ours", map[string]any{"vni": "80"}, "did you mean tapestry.vni?"},
		{"bare encryption", map[string]any{"encrypted": "true"}, "encrypted stands beside"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := creating(nil)
			req.Options = tc.all
			_, err := parseNetwork(req)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

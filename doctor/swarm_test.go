package doctor

import (
	"net/netip"
	"testing"

	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/test/fake"
)

func TestCheckSwarm(t *testing.T) {
	vtep := netip.MustParseAddr("192.0.2.1")
	managed := docker.Supervisor{Plugin: docker.Plugin{ID: fake.PluginID, Name: "tapestry:latest", Enabled: true}}
	const set = "docker plugin disable -f tapestry:latest && docker plugin set tapestry:latest args="
	info := func(version, state string, dataPath uint16) (i docker.Info) {
		i.ServerVersion, i.Swarm.LocalNodeState, i.Swarm.NodeAddr = version, state, "192.0.2.1"
		if dataPath != 1 { // a worker
			i.Swarm.Cluster = &struct{ DataPathPort uint16 }{dataPath}
		}
		return i
	}
	moved := info("29.7.2", "active", 0)
	moved.Swarm.NodeAddr = "198.51.100.1"
	check := func(i docker.Info, by docker.Supervisor, scope string, port uint16, tunnel string) Finding {
		d := &Doctor{info: i, supervisor: by, scope: scope, Port: port, VTEP: vtep}
		all := d.checkSwarm(tunnel)
		if len(all) == 0 {
			return Finding{}
		}
		return all[0]
	}
	checkFindings(t, []findingTest{
		{"a node", check(info("29.7.2", "active", 0), managed, "global", 8472, "open"), OK, "a node at 192.0.2.1, scope global, UDP 8472 beside Swarm's 4789", ""},
		{"a worker", check(info("29.7.2", "active", 1), managed, "global", 8472, "open"), OK, "scope global, UDP 8472", ""},
		{"Swarm's own port", check(info("29.7.2", "active", 0), managed, "global", 4789, "open"), Fail, "UDP 4789 is the port of Swarm's own", set + `"--vxlan-port 8472"`},
		{"Swarm's own port, at a unit", check(info("29.7.2", "active", 1), docker.Supervisor{}, "local", 4789, "down"), Warn, "which a worker is not told", "tapestry run --vxlan-port 8472, on every host"},
		{"Swarm's own port, not wanted yet", check(info("29.7.2", "active", 0), managed, "global", 4789, "closed"), Warn, "UDP 4789", "--vxlan-port 8472"},
		{"Swarm's port is another", check(info("29.7.2", "active", 8472), managed, "global", 8472, "open"), Fail, "UDP 8472 is the port of Swarm's own", "--vxlan-port"},
		{"scope local", check(info("29.7.2", "active", 0), managed, "local", 8472, "open"), Warn, "scope local", set + `"--scope global"`},
		{"a unit", check(info("29.7.2", "active", 0), docker.Supervisor{}, "local", 8472, "open"), OK, "to managed plugins only", ""},
		{"two addresses", check(moved, managed, "global", 8472, "open"), Warn, "in the Swarm is 198.51.100.1, and its VTEP is 192.0.2.1", set + `"--vtep 198.51.100.1" && docker plugin enable tapestry:latest, and so on each node`},
		{"an old Docker off a Swarm", check(info("20.10.24+dfsg1", "inactive", 1), managed, "global", 8472, "closed"), Warn, "Docker 20.10.24+dfsg1 makes no network", set + `"--scope local"`},
	})
	for name, f := range map[string]Finding{
		"off a Swarm":                      check(info("29.7.2", "inactive", 1), managed, "global", 4789, "open"),
		"an old Docker with scope local":   check(info("20.10.24", "inactive", 1), managed, "local", 4789, "open"),
		"an old Docker and a unit":         check(info("20.10.24", "inactive", 1), docker.Supervisor{}, "local", 4789, "open"),
		"a Docker that tells nothing":      check(docker.Info{}, managed, "global", 4789, "open"),
		"a Docker of a version of no kind": check(info("dev", "", 1), managed, "global", 4789, "open"),
	} {
		if f.Check != "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

package daemon_test

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/test/fake"
)

// swarmFabric is a node's of a Swarm with one network; Docker says that the first other node has left.
type swarmFabric struct{ *fake.Fabric }

func (swarmFabric) Networks() []fabric.NetworkView {
	swarm := fabric.Network{ID: "abcdefghijklmnopqrstuvwxy", VNI: 8388700, Swarm: true, Pools: []netip.Prefix{netip.MustParsePrefix("10.60.0.0/16")}}
	return []fabric.NetworkView{{Network: swarm}, {Network: fabric.Network{ID: fake.LocalID}}}
}

func (f swarmFabric) Peers(string) []fabric.PeerView {
	return []fabric.PeerView{{Addr: netip.AddrPortFrom(f.Known[0], 4789), Node: true, Left: true}}
}

// What Docker has told of its Swarm is shown as a cluster; without a Swarm there is none.
func TestSwarmCluster(t *testing.T) {
	ask := func(f daemon.Fabric) (c api.Cluster) {
		t.Helper()
		w := httptest.NewRecorder()
		(&daemon.API{Fabric: f, Log: slog.New(slog.DiscardHandler)}).Handler().ServeHTTP(w, httptest.NewRequest("GET", api.ClusterPath, nil))
		if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != 200 {
			t.Fatalf("HTTP %d: %s", w.Code, w.Body)
		}
		return c
	}
	if c := ask(fake.NewFabric()); c.Kind != "" || len(c.Hosts) > 0 {
		t.Errorf("without a Swarm: %+v", c)
	}
	f := swarmFabric{fake.NewFabric()}
	f.Known = []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")}
	c := ask(f)
	if c.Kind != "swarm" || !c.Reachable || len(c.Hosts) != 3 || len(c.Networks) != 1 {
		t.Fatalf("%+v", c)
	}
	if h := c.Hosts; h[0].State != "this" || len(h[0].Networks) != 1 || h[1].Name != "192.0.2.2" || h[1].State != "suspect" || h[2].State != "alive" {
		t.Errorf("hosts %+v", h)
	}
	if n := c.Networks[0]; n.Key != "abcdefghijklmnopqrstuvwxy" || n.VNI != 8388700 || len(n.Subnets) != 1 || !n.Here {
		t.Errorf("network %+v", n)
	}
}

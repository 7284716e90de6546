package daemon_test

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cluster/swarm"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// swarmFabric is a node's of a Swarm with one network.
type swarmFabric struct{ *fake.Fabric }

func (swarmFabric) Networks() []fabric.NetworkView {
	swarm := fabric.Network{ID: "abcdefghijklmnopqrstuvwxy", VNI: 8388700, Swarm: true, Pools: []netip.Prefix{netip.MustParsePrefix("10.60.0.0/16")}}
	return []fabric.NetworkView{{Network: swarm}, {Network: fabric.Network{ID: fake.LocalID}}}
}

// What Docker has told of its Swarm is shown as a cluster; without a Swarm there is none.
func TestSwarmCluster(t *testing.T) {
	ask := func(f daemon.Fabric, left map[netip.Addr]bool) (a *daemon.API, c api.Cluster) {
		t.Helper()
		e := swarm.New(4789)
		e.Tell(left)
		node, err := daemon.NewSwarmNode(e, f)
		testhost.Must(t, err)
		w := httptest.NewRecorder()
		a = &daemon.API{Fabric: f, Swarm: node, Log: slog.New(slog.DiscardHandler)}
		a.Handler().ServeHTTP(w, httptest.NewRequest("GET", api.ClusterPath, nil))
		if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != 200 {
			t.Fatalf("HTTP %d: %s", w.Code, w.Body)
		}
		return a, c
	}
	if _, c := ask(fake.NewFabric(), nil); c.Kind != "" || len(c.Hosts) > 0 {
		t.Errorf("without a Swarm: %+v", c)
	}
	if _, c := ask(swarmFabric{fake.NewFabric()}, nil); c.Kind != "swarm" || len(c.Hosts) != 1 {
		t.Errorf("a network of the Swarm, and no other node: %+v", c)
	}
	own, two, three := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	a, c := ask(swarmFabric{fake.NewFabric()}, map[netip.Addr]bool{own: false, two: true, three: false})
	if c.Kind != "swarm" || c.Consistency != "strong" || !c.Reachable || c.Since.IsZero() || len(c.Hosts) != 3 || len(c.Networks) != 1 || len(c.Blocks)+len(c.Problems) != 0 {
		t.Fatalf("%+v", c)
	}
	h := c.Hosts
	if h[0].State != "this" || h[0].ID != string(swarm.ID(own)) || h[0].ID != c.Host || h[0].VTEP != "192.0.2.1:4789" || len(h[0].Networks) != 1 {
		t.Errorf("this host: %+v", h[0])
	}
	if h[1].Name != "192.0.2.2" || h[1].State != "suspect" || h[1].ID != string(swarm.ID(two)) || h[1].VTEP != "192.0.2.2:4789" || h[2].State != "alive" {
		t.Errorf("others: %+v", h[1:])
	}
	if n := c.Networks[0]; n.Key != "abcdefghijklmnopqrstuvwxy" || n.VNI != 8388700 || len(n.Subnets) != 1 || !n.Here {
		t.Errorf("network %+v", n)
	}
	for id, code := range map[string]int{h[1].ID: 409, "0000000000000000": 404} {
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, httptest.NewRequest("POST", api.ClusterForgetPath, strings.NewReader(`{"host":"`+id+`"}`)))
		if w.Code != code {
			t.Errorf("forget %s: HTTP %d: %s", id, w.Code, w.Body)
		}
	}
}

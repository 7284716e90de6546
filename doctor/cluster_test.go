package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestCheckCluster(t *testing.T) {
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	check := func(change func(c *api.Cluster), peers ...api.Peer) Finding {
		c := &api.Cluster{Kind: "etcd", Name: "lab", Reachable: true, Hosts: []api.ClusterHost{{Name: "a", State: "this"}, {Name: "b", State: "alive"}}}
		change(c)
		tests := []api.PeerTest{{Addr: "192.0.2.2:4789", Answers: true}, {Addr: "192.0.2.3:4789"}}
		all := checkCluster(c, peers, tests, now)
		if len(all) != 1 {
			return Finding{Seen: "several"}
		}
		return all[0]
	}
	away := func(kind, why string) func(*api.Cluster) {
		return func(c *api.Cluster) {
			c.Kind, c.Reachable, c.Why, c.Since = kind, false, why, now.Add(-3*time.Minute)
		}
	}
	used := func(reachable bool, counts ...int) func(*api.Cluster) {
		return func(c *api.Cluster) {
			for i := range counts {
				c.Blocks = append(c.Blocks, api.ClusterBlock{Network: "blue", Block: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 26).String(), Host: "a", Used: &counts[i]})
			}
			c.Blocks = append(c.Blocks, api.ClusterBlock{Network: "blue", Block: "10.50.9.0/26", Host: "b"})
			c.Reachable = c.Reachable && reachable
		}
	}
	problem := func(text string) func(*api.Cluster) { return func(c *api.Cluster) { c.Problems = []string{text} } }
	seat := func(addr, state string) api.Peer { return api.Peer{Addr: addr, Host: "b", HostState: state} }
	same := func(*api.Cluster) {}
	checkFindings(t, []findingTest{
		{"all there", check(same, seat("192.0.2.2:4789", "alive")), OK, "lab by etcd: 2 hosts, all there", ""},
		{"one gone", check(func(c *api.Cluster) { c.Hosts[1].State = "gone" }, seat("192.0.2.3:4789", "gone")), OK, "2 hosts, gone: b", ""},
		{"two away", check(func(c *api.Cluster) {
			c.Hosts[1].State = "gone"
			c.Hosts = append(c.Hosts, api.ClusterHost{Name: "c", State: "suspect"}, api.ClusterHost{Name: "d", State: "suspect"})
		}), OK, "4 hosts, gone: b; suspect: c, d", ""},
		{"a Swarm", check(func(c *api.Cluster) { c.Kind, c.Name = "swarm", "" }), OK, "Docker's Swarm, as Docker has told of it: 2 hosts, all there", ""},
		{"etcd away", check(away("etcd", "etcd at https://192.0.2.5:2379: connection refused")), Warn,
			"etcd cannot be reached, for 3m 0s: etcd at https://192.0.2.5:2379: connection refused. Traffic goes on, also to containers that start while this host's blocks", "tapestry cluster status"},
		{"clocks", check(away("etcd", "x509: certificate has expired or is not yet valid: current time 2026-03-01T08:00:00Z is before 2026-03-02")), Warn, "not yet valid", "compare the clocks: date -u"},
		{"gossip alone", check(away("gossip", "no other host answers")), Warn, "gossip cannot be reached, for 3m 0s: no other host answers. Traffic goes on to the hosts", "port 7948"},
		{"one name", check(problem("hosts b (192.0.2.2) and b (192.0.2.3) have one name")), Warn, "have one name", "hostnamectl"},
		{"one VTEP", check(problem("hosts a (192.0.2.2) and b (192.0.2.2) have one address")), Warn, "have one address", "--vtep ADDR"},
		{"two specs", check(problem("network blue has subnet 10.50.0.0/16 at host a (192.0.2.1), and subnet 10.51.0.0/16 at host b (192.0.2.2)")), Warn, "network blue has", "the other one's options"},
		{"one block", check(problem("network blue: host a (192.0.2.1) gives out 10.50.0.0/26, and host b (192.0.2.2) 10.50.0.0/26")), Warn, "gives out", "--ip-range of its own"},
		{"the tunnel does not answer", check(same, seat("192.0.2.3:4789", "alive"), seat("192.0.2.3:4789", "alive")), Warn, "host b is alive in the cluster, and its tunnel at 192.0.2.3:4789 does not answer", "let UDP port 4789 pass"},
		{"only the tunnel answers", check(same, seat("192.0.2.2:4789", "gone")), Warn, "host b is gone, as the cluster says, and answers over the tunnel", "does it reach etcd?"},
		{"a peer of a user's", check(same, api.Peer{Addr: "192.0.2.3:4789"}), OK, "all there", ""},
		{"a peer without a route", check(same, api.Peer{Addr: "192.0.2.3:4789", Host: "b", HostState: "alive", Why: "no route"}), OK, "all there", ""},
		{"room in the blocks", check(used(true, 64, 50)), OK, "all there", ""},
		{"full blocks", check(used(true, 64, 63)), Warn, "network blue: 127 of 128 addresses of this host's blocks are in use, and no new one was claimed", "tapestry cluster forget"},
	})
	c := &api.Cluster{Kind: "etcd"}
	used(false, 60)(c)
	if all := checkCluster(c, nil, nil, now); len(all) != 2 {
		t.Errorf("%+v", all)
	} else {
		checkFindings(t, []findingTest{{"full blocks, etcd away", all[1], Warn, "60 of 64 addresses of this host's blocks are in use, and no new one can be claimed: when they", "have the cluster back"}})
	}
}

// Whether Docker asks tapestry resolver is found by a name that only that one knows.
func TestCheckResolver(t *testing.T) {
	h := fake.NewFabric()
	d := fake.NewClusterDaemon(t, h)
	h.Keys = map[string]string{fake.WideID: "blue"}
	e := fake.NewLiveDocker(t)
	shared := []api.Network{{ID: fake.LocalID}, {ID: fake.WideID, Key: "blue"}}
	names, err := docker.Load(t.Context(), &client.Client{Socket: d.Socket, DockerHost: e.At})
	testhost.Must(t, err)
	resolver, other, silent := netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("192.0.2.54")
	check := func(file, knows string) Finding {
		root := t.TempDir()
		if file != "" {
			testhost.Must(t, os.MkdirAll(filepath.Join(root, "etc/docker"), 0o700))
			testhost.Must(t, os.WriteFile(filepath.Join(root, "etc/docker/daemon.json"), []byte(file), 0o600))
		}
		dr := &Doctor{Client: &client.Client{Socket: d.Socket}, Machine: Machine{Root: root,
			Link: func(string) (*net.Interface, error) { return nil, errors.New("no such link") },
			Lookup: func(_ context.Context, at netip.Addr, name string) ([]netip.Addr, error) {
				switch {
				case at == resolver && name == knows:
					return []netip.Addr{netip.MustParseAddr("::ffff:10.80.2.3")}, nil
				case at == other:
					return nil, &net.DNSError{IsNotFound: true}
				}
				return nil, &net.DNSError{IsTimeout: true}
			}}}
		return dr.checkResolver(t.Context(), shared, names)
	}
	nobody := check(`{"dns":["172.17.0.1"]}`, "")
	e.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.2.3/16")
	own := check(`{"dns":["172.17.0.1"]}`, "web.blue")
	d.Set(api.Name{Key: "blue", Name: "db", Host: "b", Addrs: []netip.Addr{netip.MustParseAddr("10.80.2.3")}})
	checkFindings(t, []findingTest{
		{"no container", nobody, OK, "not tried: no container is on a network that hosts share", ""},
		{"a container here", own, OK, "Docker asks tapestry resolver at 172.17.0.1, which knows web.blue", ""},
		{"one elsewhere", check(`{"dns":["192.0.2.53","172.17.0.1"]}`, "db.blue"), OK, "at 172.17.0.1, which knows db.blue", ""},
		{"no file", check("", "db.blue"), Warn, "daemon.json has no dns", `{"dns": ["172.17.0.1", "ADDR"]} in `},
		{"no dns", check(`{"log-level":"info"}`, "db.blue"), Warn, "daemon.json has no dns", "systemctl enable --now tapestry-resolver"},
		{"another server", check(`{"dns":["192.0.2.53"]}`, "db.blue"), Warn, "no server of dns in ", `{"dns": ["172.17.0.1", "ADDR"]}`},
		{"a resolver that does not run", check(`{"dns":["`+silent.String()+`","192.0.2.53"]}`, "db.blue"), Warn, "192.0.2.54 first or later, where nothing answers", "systemctl enable --now tapestry-resolver"},
		{"no JSON", check(`{"dns":["x"]}`, "db.blue"), Warn, "which DNS servers Docker asks is not known", "mend that file"},
	})
}

package test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// sharing are hosts on one bridge, whose daemons are in one cluster.
type sharing struct {
	hosts   []*Host
	outside *Host // 192.0.2.254
}

// newSharing makes hosts, called NAME1, NAME2, …; flags are those of their daemons that name the cluster.
func newSharing(t *testing.T, name string, size int, before func(outside *Host), flags ...string) *sharing {
	t.Helper()
	s := &sharing{outside: newHost(t, name+"-outside")}
	lan := []string{"lan", s.outside.name}
	for i := range size {
		h := newHost(t, fmt.Sprintf("%s%d", name, i+1))
		h.flags = flags
		s.hosts = append(s.hosts, h)
		lan = append(lan, h.name)
	}
	script(t, lan...)
	before(s.outside)
	for _, h := range s.hosts {
		h.startDockerd(t)
		script(t, "image", h.name)
		h.startDaemon(t)
	}
	return s
}

// shared makes a network, with the same line on every host.
func (s *sharing) shared(t *testing.T, key, subnet string) {
	t.Helper()
	for _, h := range s.hosts {
		h.network(t, key, "-o", "tapestry.network="+key, "--ipam-driver", h.driver(), "--ipam-opt", "tapestry.network="+key, "--subnet", subnet)
	}
}

// clusterView is what `tapestry cluster … --json` says.
type clusterView struct {
	Kind, Host, Why string
	Reachable       bool
	Hosts           []struct {
		ID, Name, VTEP, State string
		Epoch                 uint64
	}
	Networks []struct {
		Key   string
		VNI   uint32
		Hosts []string
	}
	Blocks   []struct{ Network, Block, Host string }
	Problems []string
}

func (h *Host) tryClusterView() (v clusterView, err error) {
	said, err := h.try("tapestry", "cluster", "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(said), &v)
	}
	return v, err
}

func (h *Host) clusterView(t *testing.T) clusterView {
	t.Helper()
	v, err := h.tryClusterView()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestClusterEtcd: hosts that share a network by its name, with a real etcd: addresses, frames, and what goes on without etcd.
func TestClusterEtcd(t *testing.T) {
	testhost.Tools(t, "etcd")
	server := &etcdServer{}
	s := newSharing(t, "share", 3, func(outside *Host) {
		server.on = outside
		server.start(t)
		t.Cleanup(func() { server.stop(t) })
	}, "--cluster", "etcd", "--etcd", etcdEndpoint)
	s.shared(t, "blue", "10.50.0.0/16")
	s.hosts[0].network(t, "green", "-o", "tapestry.network=green", "--subnet", "10.60.0.0/16")
	for i, h := range s.hosts {
		for j := range 3 {
			h.run(t, fmt.Sprintf("c%d%d", i+1, j), "blue")
		}
	}

	t.Run("addresses are unique, and found without a flood", func(t *testing.T) {
		for _, h := range s.hosts {
			h.quiet(t)
		}
		seen := make(map[string]string)
		blocks := make(map[netip.Prefix]bool)
		for i, h := range s.hosts {
			for j := range 3 {
				name := fmt.Sprintf("c%d%d", i+1, j)
				a := h.address(t, name, "blue")
				if other, taken := seen[a]; taken {
					t.Errorf("%s and %s have the address %s", name, other, a)
				}
				seen[a] = name
				blocks[netip.PrefixFrom(netip.MustParseAddr(a), 26).Masked()] = true
			}
		}
		if len(blocks) != len(s.hosts) {
			t.Errorf("the containers of %d hosts are in the blocks %v", len(s.hosts), blocks)
		}
		s.settle(t, 3)
		for a := range seen {
			s.hosts[0].ping(t, "c10", a)
			s.hosts[2].ping(t, "c30", a)
		}
	})

	t.Run("what hosts do not agree on is refused", func(t *testing.T) {
		h := s.hosts[1]
		h.quiet(t, "Handler for POST /.*/networks/create returned error")
		for sentence, args := range map[string][]string{
			"network green has subnet 10.60.0.0/16 at host share1": {"-o", "tapestry.network=green", "--subnet", "10.61.0.0/16"},
			"network blue of the cluster is network":               {"-o", "tapestry.network=blue", "--subnet", "10.50.0.0/16", "--ip-range", "10.50.99.0/24"},
		} {
			said := h.dockerRefuses(t, append(append([]string{"network", "create", "-d", h.driver()}, args...), "bad")...)
			if !strings.Contains(said, sentence) {
				t.Errorf("want %q, got %s", sentence, said)
			}
		}
	})

	t.Run("an address of one's own choice", func(t *testing.T) {
		s.hosts[0].run(t, "own", "name=blue,ip=10.50.200.9,driver-opt=tapestry.mac=02:aa:bb:cc:dd:08")
		s.hosts[2].ping(t, "c30", "10.50.200.9")
		s.questionsAnswered(t, s.hosts[0], "10.50.200.9")
		if said := s.hosts[1].dockerRefuses(t, "run", "--rm", "--network", "blue", "--ip", "10.50.200.9", "tp/net", "true"); !strings.Contains(said, "belongs to host share1") {
			t.Errorf("the same address elsewhere: %s", said)
		}
		s.hosts[0].docker(t, "rm", "-f", "own")
		s.hosts[1].docker(t, "run", "--rm", "--network", "blue", "--ip", "10.50.200.9", "tp/net", "true")
	})

	t.Run("a container moves", s.moves)

	t.Run("etcd is away", func(t *testing.T) {
		a, b := s.hosts[0], s.hosts[1]
		ping := a.background(t, "c10", "ping", "-n", "-q", "-i", "0.1", "-W20", b.address(t, "c20", "blue"))
		server.stop(t)
		testhost.Eventually(t, patience, func() error {
			if a.clusterView(t).Reachable {
				return fmt.Errorf("the cluster is reached")
			}
			return nil
		})
		a.run(t, "alone", "blue") // out of its block
		b.ping(t, "c20", a.address(t, "alone", "blue"))
		if said := a.dockerRefuses(t, "network", "create", "-d", a.driver(), "-o", "tapestry.network=red", "--subnet", "10.70.0.0/16", "red"); !strings.Contains(said, "network red: the cluster cannot be asked") {
			t.Errorf("a new network: %s", said)
		}
		b.stopDaemon(t, "TERM")
		b.startDaemon(t) // it knows the others from its disk
		b.ping(t, "c20", a.address(t, "c10", "blue"))
		server.start(t)
		s.settle(t, 3)
		ping.signal(syscall.SIGINT)
		if said, _ := ping.wait(t); lost(t, said) > 50 { // b's daemon was stopped for a moment
			t.Errorf("%s", said)
		}
	})

	t.Run("a host dies and comes back", func(t *testing.T) {
		s.dies(t, "c10", "c30")
	})
}

// settle waits until all hosts see each other on their networks, without a problem.
func (s *sharing) settle(t *testing.T, size int) {
	t.Helper()
	for _, h := range s.hosts {
		testhost.Eventually(t, patience, func() error {
			v := h.clusterView(t)
			if !v.Reachable || len(v.Hosts) != size || len(v.Problems) > 0 {
				return fmt.Errorf("%s: %+v", h.name, v)
			}
			for _, n := range v.Networks {
				if n.Key == "blue" && len(n.Hosts) != size {
					return fmt.Errorf("%s: network %+v", h.name, n)
				}
			}
			return nil
		})
	}
}

// dies kills the third host's daemon and starts it again: the first host sees it gone, and back, and its container reaches that one's.
func (s *sharing) dies(t *testing.T, from, to string) {
	t.Helper()
	a, c := s.hosts[0], s.hosts[2]
	c.stopDaemon(t, "KILL")
	testhost.Eventually(t, patience, func() error { return stateIs(a.clusterView(t), c.name, "gone") })
	c.startDaemon(t)
	testhost.Eventually(t, patience, func() error { return stateIs(a.clusterView(t), c.name, "alive") })
	a.ping(t, from, c.address(t, to, "blue"))
}

func stateIs(v clusterView, host, state string) error {
	for _, h := range v.Hosts {
		if h.Name == host && h.State == state {
			return nil
		}
	}
	return fmt.Errorf("hosts %+v, want %s %s", v.Hosts, host, state)
}

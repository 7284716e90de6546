package test

import (
	"fmt"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestClusterAddress: a host of a cluster gets another address, as by DHCP. The others follow, and all containers reach each other again.
func TestClusterAddress(t *testing.T) {
	t.Run("etcd", func(t *testing.T) {
		testhost.Tools(t, "etcd")
		server := &etcdServer{}
		renumber(t, "dhcp-e", false, func(outside *Host) {
			server.on = outside
			server.start(t)
			t.Cleanup(func() { server.stop(t) })
		}, "--cluster", "etcd", "--etcd", etcdEndpoint)
	})
	t.Run("gossip", func(t *testing.T) {
		key := t.TempDir() + "/key"
		renumber(t, "dhcp-g", true, func(outside *Host) {
			outside.newKey(t, key)
		}, "--cluster", "gossip", "--join", "192.0.2.1", "--cluster-key-file", key)
	})
}

func renumber(t *testing.T, name string, own bool, before func(outside *Host), flags ...string) {
	hosts, _ := newBareHosts(t, name, 3, before, flags...)
	var containers []*bareContainer
	for i, h := range hosts {
		h.quiet(t, "peer unreachable", "peer is gone", "this host's address has changed", "tunnel lost its address", "the cluster is away", "another host has this host's address")
		addr := ""
		if own {
			addr = fmt.Sprintf("10.50.%d.2", i+1)
		}
		testhost.Must(t, h.create("blue", blueSubnet, own))
		c, err := h.start("blue", blueSubnet, addr)
		testhost.Must(t, err)
		containers = append(containers, c)
	}
	moved := hosts[1]
	follow := func(at string) {
		t.Helper()
		for i, h := range hosts {
			testhost.Eventually(t, patience, func() error {
				v, err := h.tryClusterView()
				if err != nil {
					return err
				}
				for _, o := range v.Hosts {
					if o.Name == moved.name && o.VTEP == at+":4789" && o.State != "gone" && v.Reachable && len(v.Hosts) == len(hosts) && len(v.Problems) == 0 {
						return nil
					}
				}
				return fmt.Errorf("%s knows %+v", h.name, v)
			})
			for j, c := range containers {
				if i != j {
					containers[i].ping(t, c.addr)
				}
			}
		}
	}
	follow(moved.addr())
	moved.in(t, "sh", "-ec", "ip addr del 192.0.2.2/24 dev underlay; ip addr add 192.0.2.22/24 dev underlay; ip route replace default via 192.0.2.254")
	follow("192.0.2.22")
}

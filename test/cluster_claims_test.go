package test

import (
	"strings"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestClusterClaims: eight hosts that open a network and ask for more addresses than a block has, all at once, get each one once.
func TestClusterClaims(t *testing.T) {
	testhost.Tools(t, "etcd")
	const each = 70
	hosts, _ := newBareHosts(t, "claims", 8, func(outside *Host) {
		server := &etcdServer{on: outside}
		server.start(t)
		t.Cleanup(func() { server.stop(t) })
	}, "--cluster", "etcd", "--etcd", etcdEndpoint)
	var mu sync.Mutex
	owner := make(map[string]string)
	var all sync.WaitGroup
	for _, h := range hosts {
		h.quiet(t)
		all.Go(func() {
			if err := h.create("blue", blueSubnet, false); err != nil {
				t.Error(err)
				return
			}
			for range each {
				var given struct{ Address string }
				err := h.ask("IpamDriver.RequestAddress", map[string]any{"PoolID": "local|blue|" + blueSubnet}, &given)
				mu.Lock()
				switch other := owner[given.Address]; {
				case err != nil:
					t.Errorf("%s: %v", h.name, err)
				case other != "":
					t.Errorf("%s has %s, and so has %s", other, given.Address, h.name)
				case !strings.HasPrefix(given.Address, "10.50.") || given.Address == "10.50.0.0/16" || given.Address == "10.50.0.1/16":
					t.Errorf("%s is given %q", h.name, given.Address)
				}
				owner[given.Address] = h.name
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(owner) != each*len(hosts) {
		t.Errorf("%d addresses were given out, want %d", len(owner), each*len(hosts))
	}
}

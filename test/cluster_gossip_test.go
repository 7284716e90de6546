package test

import (
	"fmt"
	"testing"
)

// TestClusterGossip: hosts that find each other without a server, by a key and one address to join.
func TestClusterGossip(t *testing.T) {
	key := t.TempDir() + "/key"
	s := newSharing(t, "talk", 3, func(outside *Host) {
		outside.newKey(t, key)
	}, "--cluster", "gossip", "--join", "192.0.2.1", "--cluster-key-file", key)
	for i, h := range s.hosts {
		h.quiet(t)
		h.network(t, "blue", "-o", "tapestry.network=blue", "--subnet", "10.50.0.0/16", "--ip-range", fmt.Sprintf("10.50.%d.0/24", i+1), "--gateway", "10.50.0.1")
		h.run(t, "cc", "blue")
	}
	s.settle(t, 3)
	for _, h := range s.hosts {
		for _, other := range s.hosts {
			h.ping(t, "cc", other.address(t, "cc", "blue"))
		}
	}

	t.Run("a host dies and comes back", func(t *testing.T) {
		s.dies(t, "cc", "cc")
	})
}

package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestClusterStatic: hosts that are listed by hand share a network by its name, without a server and without a message.
func TestClusterStatic(t *testing.T) {
	hosts, _ := newBareHosts(t, "listed", 2, func(*Host) {}, "--cluster", "static", "--peer", "192.0.2.1", "--peer", "192.0.2.2")
	var containers []*bareContainer
	vnis := make(map[uint32]bool)
	for i, h := range hosts {
		h.quiet(t, "peer unreachable") // while a daemon starts again
		testhost.Must(t, h.create("blue", blueSubnet, true))
		c, err := h.start("blue", blueSubnet, fmt.Sprintf("10.50.%d.2", i+1))
		testhost.Must(t, err)
		containers = append(containers, c)
		v := h.clusterView(t)
		if !v.Reachable || len(v.Hosts) != 1 || len(v.Networks) != 1 || len(v.Problems) > 0 {
			t.Fatalf("%s: %+v", h.name, v)
		}
		vnis[v.Networks[0].VNI] = true
	}
	if len(vnis) != 1 {
		t.Errorf("the hosts have chosen the VNIs %v", vnis)
	}
	containers[0].ping(t, containers[1].addr)
	if err := hosts[0].ask("IpamDriver.RequestPool", pool("blue", blueSubnet), nil); err == nil || !strings.Contains(err.Error(), "give it with --ip-range") {
		t.Errorf("a part of the subnet: %v", err)
	}
	hosts[1].stopDaemon(t, "TERM")
	hosts[1].startDaemon(t)
	containers[1].ping(t, containers[0].addr)
}

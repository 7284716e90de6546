package test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// snooping: on a network with tapestry.snooping, multicast reaches the container that has joined the group, on the other host too, and no other one.
func (p *pair) snooping(t *testing.T) {
	a, b := p.a, p.b
	for i, h := range []*Host{a, b} {
		h.network(t, "snoops", "--subnet", "10.85.0.0/16", "--ip-range", fmt.Sprintf("10.85.%d.0/24", i+1), "--gateway", fmt.Sprintf("10.85.%d.1", i+1),
			"-o", "tapestry.vni=85", "-o", "tapestry.peers="+[]string{p.peerA, p.underlayA}[i], "-o", "tapestry.snooping=on", "-o", "tapestry.external=off")
		h.run(t, fmt.Sprintf("idle%d", i+1), "snoops")
	}
	a.run(t, "speaks", "snoops")
	b.run(t, "hears", "snoops")
	self, err := os.Executable()
	testhost.Must(t, err)
	b.in(t, "nsenter", "-n", "-t", b.init(t, "hears"), "ip", "addr", "add", "239.1.1.1/32", "dev", "eth0", "autojoin")

	groups := func(h *Host) (at []string) {
		var all []api.Entry
		testhost.Must(t, json.Unmarshal([]byte(h.tapestry(t, "fdb", "snoops", "--json")), &all))
		for _, e := range all {
			if e.Kind == "group" && e.MAC.String() == "01:00:5e:01:01:01" {
				at = append(at, cmp.Or(e.Container, e.Port))
			}
		}
		return at
	}
	for h, want := range map[*Host]string{a: p.peerA, b: "hears"} {
		testhost.Eventually(t, patience, func() error {
			if got := strings.Join(groups(h), " "); got != want {
				return fmt.Errorf("%s knows the group at %q, want %q", h.name, got, want)
			}
			return nil
		})
		testhost.Eventually(t, patience, func() error { // until the stations had time to say what they want, all is flooded
			if said := h.tapestry(t, "trace", map[*Host]string{a: "speaks", b: "idle2"}[h], "239.1.1.1"); !strings.Contains(said, "to those that want this group") || strings.Contains(said, "idle1") {
				return fmt.Errorf("trace says: %s", said)
			}
			return nil
		})
	}
	offered := func(h *Host, container string) uint64 {
		var all []api.Port
		testhost.Must(t, json.Unmarshal([]byte(h.tapestry(t, "ports", "snoops", "--json")), &all))
		i := slices.IndexFunc(all, func(q api.Port) bool { return q.Container == container })
		if i < 0 {
			t.Fatalf("no port of %s", container)
		}
		return all[i].Offered
	}
	const many = 50 // of each: to the group, and to all
	heard, idle1, idle2 := offered(b, "hears"), offered(a, "idle1"), offered(b, "idle2")
	speaks := a.init(t, "speaks")
	for range many {
		a.in(t, "nsenter", "-n", "-t", speaks, self, groupsHelper, "send")
	}
	testhost.Eventually(t, patience, func() error {
		if got := offered(b, "hears") - heard; got < 2*many {
			return fmt.Errorf("who has joined was sent %d frames, want %d", got, 2*many)
		}
		return nil
	})
	for container, got := range map[string]uint64{"idle1": offered(a, "idle1") - idle1, "idle2": offered(b, "idle2") - idle2} {
		if got < many || got >= 2*many {
			t.Errorf("%s was sent %d frames, want the %d to all, and hardly more", container, got, many)
		}
	}
}

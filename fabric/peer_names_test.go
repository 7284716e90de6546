package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// resolves makes the host ask DNS, which has these names.
func (h *host) resolves(names map[string]string) {
	f := h.Fabric
	f.names.Find = func(_ context.Context, _, name string) (all []netip.Addr, err error) {
		for _, a := range strings.Fields(names[name]) {
			all = append(all, netip.MustParseAddr(a))
		}
		if all == nil {
			err = errors.New("no answer")
		}
		return all, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.names.Run(ctx, func() { f.namesChanged(ctx) }) })
	h.t.Cleanup(func() { cancel(); running.Wait() })
}

// named is what Peers says: address, name, and why it is down.
func (h *host) named(i int) (all []string) {
	for _, p := range h.Peers(netID(i)) {
		addr := "-"
		if p.Addr.IsValid() {
			addr = p.Addr.String()
		}
		all = append(all, strings.TrimSpace(addr+" "+p.Name+" "+p.Down))
	}
	return all
}

func TestPeerNames(t *testing.T) {
	h := newHost(t)
	h.resolves(map[string]string{"host-b": "127.0.0.3 127.0.0.2 127.0.0.1", "wrong": "239.1.1.1"})
	n := wide(1, 1, "127.0.0.9")
	n.PeerNames = []PeerName{{Host: "host-b", Port: 8472}, {Host: "gone"}}
	h.mustNetwork(n) // although one name is not found
	port := h.Status().Port
	is := func(when string, i int, want ...string) {
		t.Helper()
		if got := h.named(i); !slices.Equal(got, want) {
			t.Errorf("%s: the peers are %q, want %q", when, got, want)
		}
	}
	nine := fmt.Sprintf("127.0.0.9:%d", port)
	is("created", 1, nine, "127.0.0.2:8472 host-b", "127.0.0.3:8472 host-b", "- gone no answer")
	if got := len(h.networks[netID(1)].remotes); got != 3 {
		t.Errorf("%d ports of other hosts", got)
	}
	if n := h.log.Count("a peer's name is not found in DNS"); n != 1 {
		t.Errorf("%d warnings of a name that is not found", n)
	}
	again := n
	again.Peers, again.PeerNames = slices.Clone(n.Peers), slices.Clone(n.PeerNames)
	h.mustNetwork(again) // Docker may repeat itself

	// By hand, by name.
	if err := h.RemovePeer(t.Context(), netID(1), addrPort("127.0.0.2:0")); err == nil || !strings.Contains(err.Error(), "127.0.0.2 is an address of host-b") {
		t.Errorf("an address of a name is removed: %v", err)
	}
	if err := h.AddPeerName(t.Context(), netID(1), PeerName{Host: "host-b"}); !errors.Is(err, ErrInUse) {
		t.Errorf("a name with another port: %v", err)
	}
	if err := h.RemovePeerName(t.Context(), netID(1), PeerName{Host: "host-c"}); !errors.Is(err, ErrNoPeer) {
		t.Errorf("a name that is no peer: %v", err)
	}
	testhost.Must(t, h.RemovePeerName(t.Context(), netID(1), PeerName{Host: "gone"}))
	testhost.Must(t, h.AddPeerName(t.Context(), netID(1), PeerName{Host: "wrong"}))
	testhost.Until(t, "the new name is looked up", func() bool { return len(h.names.Answer("wrong").Addrs) == 1 })
	is("changed", 1, nine, "127.0.0.2:8472 host-b", "127.0.0.3:8472 host-b",
		fmt.Sprintf("239.1.1.1:%d wrong peer 239.1.1.1 is a multicast group; tapestry sends to each peer by itself: name the hosts, or give it as tapestry.group in place of a list", port))
	testhost.Must(t, h.RemovePeerName(t.Context(), netID(1), PeerName{Host: "wrong"}))

	// A restart while DNS is away.
	testhost.Until(t, "the addresses are on the disk", func() bool {
		last, err := h.dir.LoadNames()
		return err == nil && len(last["host-b"]) == 3
	})
	h.restart()
	is("after a restart without DNS", 1, nine, "127.0.0.2:8472 host-b", "127.0.0.3:8472 host-b")
	if got := len(h.networks[netID(1)].remotes); got != 3 {
		t.Errorf("%d ports of other hosts after a restart", got)
	}

	// DNS is back: what has left the answer is no peer any more. The daemon's own list has names too.
	h.close()
	h.cfg.PeerNames = []PeerName{{Host: "host-d"}}
	h.start()
	h.resolves(map[string]string{"host-b": "127.0.0.4", "host-d": "127.0.0.5"})
	h.mustNetwork(wide(2, 2))
	testhost.Until(t, "the peers are others", func() bool {
		return slices.Equal(h.named(1), []string{nine, "127.0.0.4:8472 host-b"}) && slices.Equal(h.named(2), []string{fmt.Sprintf("127.0.0.5:%d host-d", port)})
	})
	if p := h.Peers(netID(2))[0]; !p.Default {
		t.Error("a name of the daemon's list is none of its")
	}
	testhost.Until(t, "the ports follow", func() bool {
		_ = h.acquire(t.Context())
		defer h.release()
		all := h.networks[netID(1)].remotes
		return len(all) == 2 && all[netip.MustParseAddr("127.0.0.4")] != nil && len(h.networks[netID(2)].remotes) == 1
	})
}

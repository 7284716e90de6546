package fabric

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// told are the events so far of these kinds, with what they are about.
func (f *Fabric) told(kinds ...events.Kind) (all []string) {
	for _, e := range f.events.Since(time.Time{}) {
		if slices.Contains(kinds, e.Kind) {
			all = append(all, fmt.Sprintf("%s %.12s", e.Kind, e.Port))
		}
	}
	return all
}

// A port is told to be up when its link is, and down when that goes or the endpoint does: once each, whatever is found out in between.
func TestPortEvents(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	up, down := fmt.Sprintf("port_up %.12s", epID(1)), fmt.Sprintf("port_down %.12s", epID(1))
	check := func(when string, want ...string) {
		t.Helper()
		if got := h.told(events.PortUp, events.PortDown); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	h.at(first)
	h.at(first + time.Second)
	check("up", up)
	link := h.m.dev(t, epID(1))
	link.setCarrier(tap.ErrDown)
	h.at(first + 2*time.Second)
	link.setCarrier(tap.ErrGone)
	h.at(first + 3*time.Second)
	check("down", up, down)
	link.setCarrier(nil)
	h.at(first + 4*time.Second)
	check("up again", up, down, up)
	testhost.Must(t, h.DeleteEndpoint(t.Context(), netID(1), epID(1)))
	check("deleted", up, down, up, down)
}

// A peer that can be reached again is told, and the tunnel when it is opened and closed.
func TestPeerEvents(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
	h.as("127.0.0.2", 1500, errors.New("no route"))
	h.linksChanged(t.Context())
	if got, want := h.told(events.PeerUp, events.PeerDown, events.TunnelUp, events.TunnelDown), []string{"tunnel_up ", "peer_up 127.0.0.2"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	testhost.Must(t, h.DeleteNetwork(t.Context(), netID(1)))
	if got := h.told(events.TunnelDown); len(got) != 1 {
		t.Errorf("without a network: %v", got)
	}
}

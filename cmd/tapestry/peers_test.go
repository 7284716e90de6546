package main

import (
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/docker"
)

// Where a peer comes from.
func TestPeerFrom(t *testing.T) {
	for want, p := range map[string]api.Peer{
		"network":      {},
		"default":      {Default: true},
		"swarm":        {Swarm: true},
		"swarm (left)": {Swarm: true, Left: true},
	} {
		if got := peerRow(p, &docker.Engine{})[3]; got != want {
			t.Errorf("%+v is from %q, want %q", p, got, want)
		}
	}
}

package main

import "testing"

// Where a peer comes from.
func TestPeerFrom(t *testing.T) {
	for want, p := range map[string]peerReply{
		"network":      {},
		"default":      {Default: true},
		"swarm":        {Swarm: true},
		"swarm (left)": {Swarm: true, Left: true},
	} {
		if got := peerRow(p, &docker{})[3]; got != want {
			t.Errorf("%+v is from %q, want %q", p, got, want)
		}
	}
}

package main

import (
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/client"
)

// TestManagedFlags: a managed plugin refuses the flags by which Docker would lose it, and no others.
func TestManagedFlags(t *testing.T) {
	for _, tt := range []struct{ flag, value, why string }{
		{"name", "other", "tapestry.sock"},
		{"plugin-dir", "/x", "/run/docker/plugins"},
		{"state-dir", "/x", "upgrades"},
		{"peer", "192.0.2.2", ""},
		{"vxlan-port", "8472", ""},
	} {
		run := newRun(&cli{Client: new(client.Client)})
		if err := run.ParseFlags([]string{"--" + tt.flag, tt.value}); err != nil {
			t.Fatal(err)
		}
		err := checkManaged(run.Flags())
		if refused := err != nil && strings.Contains(err.Error(), "--"+tt.flag+" cannot be set in a managed plugin") && strings.Contains(err.Error(), tt.why); refused != (tt.why != "") {
			t.Errorf("--%s: %v", tt.flag, err)
		}
	}
}

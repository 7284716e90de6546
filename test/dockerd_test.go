package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestDockerdCrash: dockerd ends in every way, with tapestry or without it.
func TestDockerdCrash(t *testing.T) {
	h, _ := newNodeWithOutside(t, "dockerdcrash", "--sweep-after", "10s")
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	always := []string{"--restart", "always", "--init"}
	h.run(t, "c1", "X", append(always, "--ip", "10.77.0.11")...)
	h.run(t, "c2", "X", append(always, "--ip", "10.77.0.12")...)
	before := h.snapshot(t)
	// both waits until both containers reach each other, with nothing more on the host than before.
	both := func(t *testing.T) {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			_, err := h.tryExec("c1", "ping", "-n", "-c1", "-W5", "10.77.0.12")
			return err
		})
		testhost.Eventually(t, patience, func() error {
			if now := h.snapshot(t); len(now) != len(before) { // names of links have changed
				return fmt.Errorf("%d objects, were %d: %w", len(now), len(before), now.diff(before))
			}
			return nil
		})
	}

	t.Run("row42 dockerd restarts", func(t *testing.T) {
		h.quiet(t)
		from := h.mark()
		h.stopDockerd(t, "TERM")
		began := time.Now()
		h.startDockerd(t)
		if took := time.Since(began); took > patience { // it waits 15 s for a driver that does not answer, each time, and logs that
			t.Errorf("dockerd took %v to start", took)
		}
		both(t)
		got := h.methods(t, from)
		if strings.Contains(got, "CreateNetwork") || strings.Count(got, "CreateEndpoint") != 2 || strings.Count(got, "Join") != 2 {
			t.Errorf("requests %q", got)
		}
	})

	t.Run("row43 dockerd is killed", func(t *testing.T) {
		h.quiet(t, "(?i)sweep|swept|forgot|orphan", "failed revoking external connectivity .*not found") // 29 has forgotten its endpoints
		h.run(t, "mortal", "X")
		from := h.mark()
		h.stopDockerd(t, "KILL")
		h.startDockerd(t)
		// When it undoes what was there, it already knows a managed plugin, but no other driver.
		if got := h.methods(t, from); strings.Contains(got, "Leave") != h.managed {
			t.Errorf("what dockerd says of those that are gone: %q", got)
		}
		both(t)
		if ports := objects[port](t, h, "ports", "X"); len(ports) != 2 {
			t.Errorf("ports: %+v, want those of c1 and c2", ports)
		}
	})

	t.Run("row44 live-restore", func(t *testing.T) {
		h.quiet(t, "failed revoking external connectivity .*not found") // 29 has forgotten its endpoints
		h.stopDockerd(t, "TERM")
		h.startDockerd(t, "--live-restore")
		both(t)
		h.run(t, "c3", "X", "--ip", "10.77.0.13")
		for _, signal := range []string{"TERM", "KILL"} {
			from := h.mark()
			ping := h.background(t, "c1", "ping", "-n", "-q", "-c", "30", "-i", "0.1", "-W20", "10.77.0.12")
			h.stopDockerd(t, signal)
			h.startDockerd(t, "--live-restore")
			if said, _ := ping.wait(t); lost(t, said) != 0 {
				t.Errorf("after %s: %s", signal, said)
			}
			if got := h.methods(t, from); got != "" && got != "Activate GetCapabilities" && !(h.managed && got == "GetCapabilities") { // from 28 on it asks who we are
				t.Errorf("after %s: requests %q", signal, got)
			}
		}
		h.docker(t, "network", "disconnect", "X", "c3")
		h.docker(t, "network", "connect", "X", "c3")
		h.ping(t, "c1", h.address(t, "c3", "X"))
		h.stop(t, "c3")
		both(t)
		h.stopDockerd(t, "TERM")
		h.startDockerd(t)
		both(t)
	})

	for _, first := range []string{"tapestry", "dockerd"} {
		if !h.has("row45") {
			break
		}
		t.Run("row45 both restart, "+first+" first", func(t *testing.T) {
			h.quiet(t, "(?i)unable to (locate|connect to) plugin", "(?i)sweep|swept|forgot|orphan")
			h.stopDockerd(t, "TERM")
			h.stopDaemon(t, "TERM")
			if first == "tapestry" {
				h.startDaemon(t)
				h.startDockerd(t)
			} else {
				started := make(chan error, 1)
				go func() { started <- try("dockerd", h.name, "start") }()
				testhost.Eventually(t, patience, func() error { // it is looking for the driver by now
					_, err := h.try("grep", "-q", "Loading containers: start", h.dir+"/dockerd.log")
					return err
				})
				h.startDaemon(t)
				if err := <-started; err != nil {
					t.Fatal(err)
				}
			}
			both(t)
		})
	}

	t.Run("row46 network rm frees all", func(t *testing.T) {
		h.quiet(t)
		before := h.snapshot(t)
		for range 3 {
			h.docker(t, "network", "create", "-d", h.driver(), "--subnet", "10.90.0.0/24", "-o", "tapestry.vni=90", "again")
			if got := h.in(t, "ss", "-Hlun", "sport = :4789"); got == "" {
				t.Error("nobody listens on UDP 4789")
			}
			h.docker(t, "run", "-d", "--name", "again1", "--network", "again", "tp/net")
			h.docker(t, "rm", "-f", "again1")
			h.docker(t, "network", "rm", "again")
			if got := h.in(t, "ss", "-Hlun", "sport = :4789"); got != "" {
				t.Errorf("UDP 4789 is still open: %s", got)
			}
		}
		h.audit(t, before)
	})
}

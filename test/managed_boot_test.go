package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestManagedBoot: dockerd starts, and the managed plugin starts or does not; the plugin is removed while it has networks. What
// happens is what docs/plugin.md says. (A dockerd that starts with the plugin is tested by TestDockerdCrash, with TAPESTRY_AS=plugin.)
func TestManagedBoot(t *testing.T) {
	h := newManaged(t, "managedboot", "--sweep-after", "10s")
	h.startDaemon(t)
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	for i, c := range []string{"c1", "c2"} {
		h.run(t, c, "X", "--restart", "always", "--init", "--ip", fmt.Sprintf("10.77.0.1%d", i+1))
	}
	both := func(t *testing.T) {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			_, err := h.tryExec("c1", "ping", "-n", "-c1", "-W5", "10.77.0.12")
			return err
		})
	}
	both(t)
	// absent checks the containers after a boot without the plugin: Docker leaves them stopped, and does not start them when the
	// plugin is enabled.
	absent := func(t *testing.T) {
		t.Helper()
		if got := h.docker(t, "plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"); got != "tapestry:latest false" {
			t.Errorf("docker plugin ls shows %s", got)
		}
		h.startDaemon(t)
		if got := h.docker(t, "ps", "-q"); got != "" {
			t.Errorf("running are %s", got)
		}
		h.docker(t, "start", "c1", "c2")
		both(t)
	}

	t.Run("the plugin is disabled", func(t *testing.T) {
		h.quiet(t, "(?i)sweep|swept|forgot|orphan", "failed to start container", "dial unix .*tapestry.sock", "stale sandbox", "Failed deleting endpoint")
		h.docker(t, "plugin", "disable", "-f", "tapestry")
		from := h.mark()
		h.stopDockerd(t, "TERM")
		h.startDockerd(t)
		if log := strings.Join(h.since(t, "dockerd.log", from.dockerd), "\n"); !strings.Contains(log, "plugin tapestry:latest found but disabled") {
			t.Error("dockerd's log does not say why the containers did not start")
		}
		absent(t)
	})

	t.Run("the plugin cannot start", func(t *testing.T) {
		unit := *h
		unit.managed = false
		h.stopDockerd(t, "TERM")
		unit.startDaemon(t)
		h.startDockerd(t)
		h.gaveUp(t)
		unit.stopDaemon(t, "TERM")
		if text, err := os.ReadFile(h.stateDir(t) + "/error"); err != nil || !strings.Contains(string(text), "runs on this host already") {
			t.Errorf("the file says %s, %v", text, err)
		}
		absent(t)
	})

	t.Run("no /dev/net/tun", func(t *testing.T) {
		h.stopDockerd(t, "TERM")
		h.in(t, "mount", "-t", "tmpfs", "none", "/dev/net")
		if err := try("dockerd", h.name, "start"); err == nil {
			t.Log("this dockerd starts without")
			h.stopDockerd(t, "TERM")
		} else if log := strings.Join(h.since(t, "dockerd.log", 0), "\n"); !strings.Contains(log, "\npanic: ") {
			t.Errorf("dockerd did not start, nor panic: %v", err)
		}
		// What docs/plugin.md says to do where the device is missing.
		h.in(t, "sed", "-i", `s/"Enabled":true/"Enabled":false/`, h.pluginDir(t)+"/config.json")
		h.startDockerd(t)
		h.in(t, "umount", "/dev/net")
		absent(t)
	})

	t.Run("the host boots", func(t *testing.T) {
		h.quiet(t, "(?i)sweep|swept|forgot|orphan", "stale sandbox", "failed revoking external connectivity .*not found")
		const boot = `kill -9 -1 || true
			grep -o ' /[^ ]*/docker/[^ ]* ' /proc/mounts | sort -r | xargs -r umount -l
			rm -rf /run/docker /run/docker.* /run/containerd
			for link in $(ls /sys/class/net | grep -v '^lo$'); do ip link del $link 2>/dev/null || true; done`
		h.in(t, "sh", "-ec", boot)
		testhost.Eventually(t, patience, func() error { // a process that was killed takes a while to end
			if left := h.remains(t); len(left) != 0 {
				return fmt.Errorf("that was no boot, left are %q", left)
			}
			return nil
		})
		h.startDockerd(t)
		both(t)
		testhost.Eventually(t, patience, func() error { // what was there before is swept
			if ports := objects[port](t, h, "ports", "X"); len(ports) != 2 {
				return fmt.Errorf("%d ports, want 2: %+v", len(ports), ports)
			}
			return nil
		})
	})

	t.Run("live-restore", func(t *testing.T) {
		h.stopDockerd(t, "TERM")
		h.startDockerd(t, "--live-restore")
		both(t)
		pid := h.plugin(t, "pid")
		for _, signal := range []string{"TERM", "KILL"} {
			h.stopDockerd(t, signal)
			// Nobody reads the plugin's log now. It logs more than a pipe holds, and keeps working.
			for range 100 {
				h.answers(t, "CreateNetwork", `{"NetworkID":"`+strings.Repeat("f", 64)+`","Options":{"com.docker.network.generic":{"other":"`+strings.Repeat("x", 6000)+`"}}}`)
				h.answers(t, "DeleteNetwork", `{"NetworkID":"`+strings.Repeat("f", 64)+`"}`)
			}
			h.tapestry(t, "status")
			from := h.mark()
			h.startDockerd(t, "--live-restore")
			if now := h.plugin(t, "pid"); now != pid {
				t.Errorf("after %s the plugin is another process: %s, was %s", signal, now, pid)
			}
			testhost.Eventually(t, patience, func() error {
				h.tapestry(t, "status")
				if log := strings.Join(h.pluginLog(t, from.dockerd), "\n"); !strings.Contains(log, "lines of this log are lost") {
					return fmt.Errorf("after %s the log does not say that a part is missing", signal)
				}
				return nil
			})
			both(t)
		}
		h.stopDockerd(t, "TERM")
		h.startDockerd(t)
		both(t)
	})

	t.Run("docker plugin rm -f under networks", func(t *testing.T) {
		keep := h.dir + "/keep"
		if said := h.dockerRefuses(t, "plugin", "rm", "tapestry"); !strings.Contains(said, "in use") && !strings.Contains(said, "enabled") {
			t.Errorf("without -f: %s", said)
		}
		h.docker(t, "plugin", "disable", "-f", "tapestry")
		h.in(t, "cp", "-a", h.stateDir(t), keep)
		h.docker(t, "plugin", "rm", "-f", "tapestry")
		if got := h.docker(t, "network", "ls", "--filter", "driver=tapestry:latest", "--format", "{{.Name}}"); got != "X" {
			t.Errorf("Docker's networks are %s", got)
		}
		if left := h.remains(t); len(left) == 0 {
			t.Error("the containers have lost their links")
		}
		h.startDaemon(t) // a new plugin, without a state
		if said := h.dockerRefuses(t, "run", "--rm", "--network", "X", "tp/net", "true"); !strings.Contains(said, "tapestry's state directory does not") {
			t.Errorf("the user reads: %s", said)
		}
		h.docker(t, "plugin", "rm", "-f", "tapestry")
		root, binary := tree()
		h.in(t, "env", "TAPESTRY="+binary, root+"/packaging/plugin.sh", "create", "tapestry")
		h.in(t, "sh", "-ec", `mkdir -p "$2" && cp -a "$1/." "$2"`, "sh", keep, h.stateDir(t)) // with the old one's state
		h.startDaemon(t)
		both(t)
		h.docker(t, "plugin", "disable", "-f", "tapestry")
		h.docker(t, "plugin", "rm", "-f", "tapestry")
		h.startDaemon(t) // without it: network by network
		h.docker(t, "rm", "-f", "c1", "c2")
		h.docker(t, "network", "rm", "X")
		h.network(t, "X", "--subnet", "10.77.0.0/24")
		h.run(t, "c1", "X", "--ip", "10.77.0.11")
		h.run(t, "c2", "X", "--ip", "10.77.0.12")
		both(t)
		h.docker(t, "rm", "-f", "c1", "c2")
		testhost.Eventually(t, patience, func() error {
			for _, left := range h.remains(t) {
				if strings.HasPrefix(left, "link ") {
					return fmt.Errorf("left is %s", left)
				}
			}
			return nil
		})
		if records, err := filepath.Glob(h.stateDir(t) + "/networks/*.json"); err != nil || len(records) != 1 {
			t.Errorf("records %q, %v", records, err)
		}
	})
}

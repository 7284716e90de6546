package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestManagedFind: every command finds the daemon of a managed plugin by itself.
func TestManagedFind(t *testing.T) {
	h := newManaged(t, "managedfind")
	h.startDaemon(t)
	h.docker(t, "network", "create", "-d", h.driver(), "--subnet", "10.77.0.0/24", "mynet")
	h.docker(t, "run", "-d", "--name", "c1", "--network", "mynet", "tp/net")
	id := h.plugin(t, "id")

	// says runs a command and looks for words in its output.
	says := func(t *testing.T, want string, args ...string) {
		t.Helper()
		if out := h.tapestry(t, args...); !strings.Contains(out, want) {
			t.Errorf("tapestry %s says %s, want %q", strings.Join(args, " "), out, want)
		}
	}
	all := func(t *testing.T) {
		t.Helper()
		says(t, "plugin tapestry:latest of Docker, id "+h.plugin(t, "id")[:12], "status")
		says(t, `"plugin": "tapestry:latest"`, "status", "--json")
		says(t, "mynet", "networks")
		says(t, "c1", "ports", "mynet")
		says(t, "c1", "__complete", "trace", "")
		says(t, "{value=tapestry-network:mynet}", "extcap", "--extcap-interfaces")
		says(t, "on, 32 MiB", "recorder", "status")
		h.tapestry(t, "capture", "c1", "-w", "/run/c1.pcapng", "--for", "1s", "--force")
	}
	t.Run("alone", all)

	t.Run("a daemon beside it at the usual path goes before", func(t *testing.T) {
		h.quiet(t, "returned error")
		h.in(t, "mkdir", "-m", "700", "/run/other")
		unit := h.background(t, "", "sh", "-c", `echo $$ >/run/other/pid; exec tapestry run "$@"`, "sh",
			"--name", "other", "--state-dir", "/run/other/state", "--plugin-dir", "/run/other")
		unit.await(t, "msg=ready")
		says(t, "driver     other, scope local\nruns as    a unit", "status")
		code, said := h.exit(t, "ports", "mynet")
		want := fmt.Sprintf("network mynet exists but its driver is tapestry:latest, and this daemon does not have it: the plugin tapestry:latest has it, say --api-socket /run/docker/plugins/%s/tapestry-api.sock", id)
		if code != 4 || !strings.Contains(said, want) {
			t.Errorf("exit %d, %s, want %s", code, said, want)
		}
		says(t, "c1", "ports", "mynet", "--api-socket", "/run/docker/plugins/"+id+"/tapestry-api.sock")
		h.in(t, "sh", "-c", "kill -9 $(cat /run/other/pid)")
		if said, err := unit.wait(t); err == nil {
			t.Errorf("it ended by itself: %s", said)
		}
		h.in(t, "test", "-S", "/run/tapestry/tapestry.sock") // what it has left is passed over
		all(t)
	})

	t.Run("Wireshark's script outlives the plugin", func(t *testing.T) {
		h.tapestry(t, "extcap", "install", "--dir", "/run/extcap")
		h.docker(t, "rm", "-f", "c1")
		h.docker(t, "network", "rm", "mynet")
		h.stopDaemon(t, "TERM")
		h.docker(t, "plugin", "rm", "-f", "tapestry")
		code, said := h.exit(t, "status")
		if code != 5 || !strings.Contains(said, "`docker plugin enable tapestry`") || !strings.Contains(said, "`systemctl start tapestry`") {
			t.Errorf("exit %d, %s", code, said)
		}
		h.startDaemon(t)
		if h.plugin(t, "id") == id {
			t.Fatal("the new plugin has the old one's id")
		}
		h.docker(t, "network", "create", "-d", h.driver(), "--subnet", "10.77.0.0/24", "again")
		if said := h.in(t, "/run/extcap/tapestry", "--extcap-interfaces"); !strings.Contains(said, "{value=tapestry-network:again}") {
			t.Errorf("it lists %s", said)
		}
		h.docker(t, "network", "rm", "again")
	})
}

// finds returns an error for each line that doctor should have printed and did not.
func (h *Host) finds(t *testing.T, code int, want ...line) error {
	t.Helper()
	got, text := h.exit(t, "doctor", "--json")
	lines, err := findings(text)
	if err != nil {
		return err
	}
	if got != code {
		err = fmt.Errorf("doctor exits %d, want %d: %s", got, code, text)
	}
	for _, w := range want {
		err = errors.Join(err, finds(lines, w.Check, w.State, w.Seen, w.Remedy))
	}
	return err
}

// TestManagedDoctor: what doctor says about a managed plugin, and that its remedies help.
func TestManagedDoctor(t *testing.T) {
	h := newManaged(t, "manageddoctor")
	h.startDaemon(t)
	good := h.docker(t, "plugin", "inspect", "-f", `{{join .Settings.Args " "}}`, "tapestry")
	who := "tapestry:latest (id " + h.plugin(t, "id")[:12] + ") "
	works := func(t *testing.T, networks string) {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			return h.finds(t, 0, line{"plugin", "ok", "is enabled and answers, args", ""}, line{"daemon", "ok", "tapestry:latest, version", ""},
				line{"state", "ok", "/propagated-mount, " + networks + ", all records whole", ""}, line{"networks", "ok", networks, ""})
		})
	}
	// enables sets the plugin's args, if any, and enables it. After a failed start Docker may still be trying, and then enable it
	// by itself.
	enables := func(t *testing.T, args ...string) {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			if h.docker(t, "plugin", "inspect", "-f", "{{.Enabled}}", "tapestry") == "true" {
				return nil
			}
			for _, a := range args {
				if _, err := h.try("docker", "plugin", "set", "tapestry", "args="+a); err != nil {
					return err
				}
			}
			_, err := h.try("docker", "plugin", "enable", "tapestry")
			return err
		})
	}

	t.Run("enabled", func(t *testing.T) { works(t, "0 networks") })

	if h.apiVersion(t) < 43 {
		t.Run("a scope that this Docker cannot do", func(t *testing.T) {
			h.stopDaemon(t, "TERM")
			enables(t, good+" --scope global")
			testhost.Eventually(t, patience, func() error {
				return h.finds(t, 0, line{"swarm", "warn", "makes no network of a driver with scope global", `--scope local" && docker plugin enable tapestry:latest`})
			})
			h.stopDaemon(t, "TERM")
			enables(t, good)
			works(t, "0 networks")
		})
	}

	t.Run("a start that fails", func(t *testing.T) { // TestManagedStart has other reasons
		h.stopDaemon(t, "TERM")
		h.docker(t, "plugin", "set", "tapestry", "args=--vxlan-prot 4790")
		h.dockerRefuses(t, "plugin", "enable", "tapestry")
		h.gaveUp(t)
		testhost.Eventually(t, patience, func() error {
			return h.finds(t, 1, line{"plugin", "fail", who + "is disabled: its start failed at 20", "then docker plugin enable tapestry:latest"},
				line{"plugin", "fail", "no flag --vxlan-prot, did you mean --vxlan-port?", "docker plugin set tapestry:latest args="},
				line{"daemon", "warn", "does not run", "docker plugin enable tapestry:latest"})
		})
		enables(t, good)
		works(t, "0 networks")
	})

	t.Run("disabled, with a network", func(t *testing.T) {
		h.docker(t, "network", "create", "-d", h.driver(), "--subnet", "10.77.0.0/24", "mynet")
		h.stopDaemon(t, "TERM")
		if err := h.finds(t, 1, line{"plugin", "fail", who + "is disabled: Docker finds no such driver", "docker plugin enable tapestry:latest"},
			line{"daemon", "fail", "does not run, and 1 network on record in " + h.stateDir(t), "docker plugin enable tapestry:latest"}); err != nil {
			t.Error(err)
		}
		enables(t)
		works(t, "1 network")
	})

	t.Run("removed, with a network", func(t *testing.T) {
		h.stopDaemon(t, "TERM")
		h.docker(t, "plugin", "rm", "-f", "tapestry")
		if err := h.finds(t, 1, line{"networks", "fail", "mynet: its driver is tapestry:latest, and Docker has no such plugin", "install the plugin again"}); err != nil {
			t.Error(err)
		}
		h.startDaemon(t)
		if err := h.finds(t, 1, line{"plugin", "ok", "is enabled and answers", ""}, line{"state", "ok", "0 networks", ""},
			line{"networks", "fail", "mynet: Docker has it with driver tapestry:latest, the daemon does not", "docker network rm mynet, and create it anew"}); err != nil {
			t.Error(err)
		}
		h.docker(t, "network", "rm", "mynet")
		h.network(t, "mynet", "--subnet", "10.77.0.0/24")
		works(t, "1 network")
	})
}

// TestManagedLearn: a plugin that is enabled on a node of a Swarm learns of the nodes that were there before it.
func TestManagedLearn(t *testing.T) {
	a, b := newHost(t, "managedlearn-a"), newHost(t, "managedlearn-b")
	wire(t, a, b)
	for _, h := range []*Host{a, b} {
		h.managed, h.flags = true, []string{"--scope", "global"}
		h.startDockerd(t)
	}
	a.docker(t, "swarm", "init", "--advertise-addr", "192.0.2.1")
	b.join(t, "--advertise-addr", "192.0.2.2", "--token", a.docker(t, "swarm", "join-token", "-q", "worker"), "192.0.2.1:2377")
	for i, h := range []*Host{a, b} {
		other := fmt.Sprintf("192.0.2.%d", 2-i)
		h.startDaemon(t) // with the tests' port, 4789
		if err := h.finds(t, 0, line{"swarm", "warn", "UDP 4789 is the port of Swarm's own overlay networks too", "--vxlan-port 8472"},
			line{"nodes", "warn", "has not told the daemon of 1 node of the Swarm, so its networks do not reach it: " + other, "tapestry peers learn"}); err != nil {
			t.Error(err)
		}
		h.flags = append(h.flags, "--vxlan-port", "8472")
		h.startDaemon(t)
		if said, want := h.tapestry(t, "peers", "learn"), "Docker knows 1 other node of the Swarm: "+other+"\nnew to the daemon: "+other; said != want {
			t.Errorf("it says %q, want %q", said, want)
		}
		h.stopDaemon(t, "KILL") // what it has learned it remembers
		testhost.Eventually(t, patience, func() error {
			return h.finds(t, 0, line{"swarm", "ok", fmt.Sprintf("this host is a node at 192.0.2.%d, scope global, UDP 8472", i+1), ""},
				line{"nodes", "ok", "knows the Swarm's other nodes that Docker knows (1)", ""})
		})
	}
}

package test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// newManaged makes a host with dockerd and the image, for tapestry as a managed plugin, which is not installed yet.
func newManaged(t *testing.T, name string, flags ...string) *Host {
	t.Helper()
	h := newHost(t, name)
	h.managed, h.flags = true, flags
	h.startDockerd(t)
	script(t, "image", name)
	return h
}

// TestManagedPlugin: what users do with tapestry as a managed plugin, from the registry to the upgrade.
func TestManagedPlugin(t *testing.T) {
	h := newManaged(t, "managed", "--sweep-after", "10s")
	const repo = "127.0.0.1:5000/tapestry"
	h.registry(t, "5000")
	h.push(t, repo+":v1")
	h.push(t, repo+":v2")

	t.Run("docker plugin install", func(t *testing.T) {
		h.docker(t, "plugin", "install", "--alias", "tapestry", "--grant-all-permissions", repo+":v1",
			"args="+strings.Join(append(append([]string{"--log-level", "debug", "--log-format", "json"}, h.pluginFlags(t)...), h.flags...), " "))
		h.startDaemon(t) // it is: this waits
		if got := h.docker(t, "plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"); got != "tapestry:latest true" {
			t.Errorf("docker plugin ls shows %s", got)
		}
	})
	if t.Failed() {
		return
	}
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	h.run(t, "c1", "X", "--ip", "10.77.0.11")
	h.run(t, "c2", "X", "--ip", "10.77.0.12")

	t.Run("kill -9", func(t *testing.T) {
		h.survives(t, func() {
			h.stopDaemon(t, "KILL")
			h.startDaemon(t)
		})
	})
	t.Run("disable -f and enable", func(t *testing.T) {
		h.survives(t, func() {
			if said := h.dockerRefuses(t, "plugin", "disable", "tapestry"); !strings.Contains(said, "in use") {
				t.Errorf("without -f: %s", said)
			}
			h.docker(t, "plugin", "disable", "-f", "tapestry")
			h.docker(t, "plugin", "enable", "tapestry")
			h.startDaemon(t)
		})
	})
	t.Run("upgrade", func(t *testing.T) {
		before := h.state(t)
		h.survives(t, func() {
			h.docker(t, "plugin", "disable", "-f", "tapestry")
			h.docker(t, "plugin", "upgrade", "--skip-remote-check", "--grant-all-permissions", "tapestry", repo+":v2")
			h.docker(t, "plugin", "enable", "tapestry")
			h.startDaemon(t)
		})
		if got := h.docker(t, "plugin", "inspect", "-f", "{{.PluginReference}}", "tapestry"); got != repo+":v2" {
			t.Errorf("the plugin is %s now", got)
		}
		if len(before) == 0 {
			t.Error("there was no state before")
		}
		if err := h.state(t).diff(before); err != nil {
			t.Errorf("the state is %v", err)
		}
	})
}

// registry starts a registry on a port of the host's loopback address.
func (h *Host) registry(t *testing.T, port string) {
	t.Helper()
	binary, err := exec.Command("./registry/build.sh").Output()
	if err != nil {
		testhost.Cannot(t, "needs a registry, which test/registry/build.sh could not build: ", err)
	}
	h.background(t, "", strings.TrimSpace(string(binary)), "-port", port)
	testhost.Eventually(t, patience, func() error {
		_, err := h.try("bash", "-c", "</dev/tcp/127.0.0.1/"+port)
		return err
	})
}

// push makes a plugin of this tree's binary and pushes it. Each plugin has different files: the plugin's name is appended to the binary.
func (h *Host) push(t *testing.T, repo string) {
	t.Helper()
	root, binary := tree()
	other := h.dir + "/tapestry"
	h.in(t, "sh", "-ec", `cp "$1" "$2"; echo "$3" >>"$2"`, "sh", binary, other, repo)
	h.in(t, "env", "TAPESTRY="+other, "make", "-C", root, "-o", "build", "plugin-push", "REPO="+repo)
}

// tree is this tree's root, and the path of the binary under test.
func tree() (root, binary string) {
	root, err := filepath.Abs("..")
	if err == nil {
		binary, err = filepath.Abs(cmp.Or(os.Getenv("TAPESTRY"), root+"/bin/tapestry"))
	}
	if err != nil {
		panic(err) // there is no current directory
	}
	return root, binary
}

// survives calls what, which does something to tapestry, while c1 pings c2, 10.77.0.12, and sends it a stream. Both must go on, with a
// gap that is no longer than tapestry was away, and the containers must keep their links and addresses.
func (h *Host) survives(t *testing.T, what func()) {
	t.Helper()
	h.quiet(t)
	inside := func() (all string) {
		for _, c := range []string{"c1", "c2"} {
			all += h.exec(t, c, "ip", "address") + "\n"
		}
		return all
	}
	before, host := inside(), h.snapshot(t)
	server := h.background(t, "c2", "iperf3", "--server", "--one-off")
	h.listening(t, "c2", "5201")
	client := h.background(t, "c1", "iperf3", "--client", "10.77.0.12", "--time", "600", "--forceflush", "--bitrate", "100M")
	client.moves(t)
	const every = 100 * time.Millisecond
	ping := h.background(t, "c1", "ping", "-n", "-i", "0.1", "-W20", "10.77.0.12")
	ping.await(t, "icmp_seq=5 ")
	began := time.Now()
	what()
	down := time.Since(began)
	client.moves(t)
	client.moves(t)
	ping.signal(syscall.SIGINT)
	said, _ := ping.wait(t)
	if gap := time.Duration(lost(t, said)) * every; gap > down+time.Second {
		t.Errorf("a gap of %v for %v without tapestry", gap, down)
	}
	client.signal(syscall.SIGINT)
	if said, _ := client.wait(t); strings.Contains(said, "unable") {
		t.Errorf("the stream did not live on: %s", said)
	}
	server.wait(t)
	if after := inside(); after != before {
		t.Errorf("the containers had\n%s\nand have\n%s", before, after)
	}
	h.audit(t, host)
	h.ping(t, "c2", "c1")
}

var moved = regexp.MustCompile(` sec +[\d.]*[1-9][\d.]* [MG]Bytes`)

// moves waits until an iperf3 reports more than it has by now.
func (b *background) moves(t *testing.T) {
	t.Helper()
	b.saysMore(t, moved, "no traffic")
}

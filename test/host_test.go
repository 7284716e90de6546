// Package test runs tapestry as its users do: real dockerds, real containers, real traffic, on hosts made by host.sh.
// Names of subtests begin with the rows of the checklist in docs/driver.md that they prove.
package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestMain gives host.sh its directory. Hosts end with this process, even if it is killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == groupsHelper {
		if err := groups(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "tapestry-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("HOSTS", dir)
	os.Setenv("OWNER", strconv.Itoa(os.Getpid()))
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// need skips the test if the machine lacks what it needs: root, Docker and these tools.
func need(t *testing.T, tools ...string) {
	t.Helper()
	testhost.Root(t, "to make hosts")
	testhost.Tools(t, append([]string{"dockerd", "docker", "busybox", "ip", "nsenter", "iptables", "ping", "iperf3", "tcpdump"}, tools...)...)
}

// A Host is one machine as host.sh makes it.
type Host struct {
	name    string
	dir     string // of its files, with the same path inside and outside
	pid     int    // its first process
	flags   []string
	managed bool       // tapestry runs as a managed plugin of its dockerd (managed_test.go)
	owner   *testing.T // it ends with this test
}

// newHost makes a host with nothing running on it. It is removed when the test ends.
func newHost(t *testing.T, name string) *Host {
	t.Helper()
	need(t)
	script(t, "up", name)
	h := &Host{name: name, dir: filepath.Join(os.Getenv("HOSTS"), name), managed: os.Getenv("TAPESTRY_AS") == "plugin", owner: t}
	t.Cleanup(func() {
		if t.Failed() {
			h.tail(t, "dockerd.log")
			h.tail(t, "tapestry.log")
		}
		script(t, "down", name)
	})
	text, err := os.ReadFile(filepath.Join(h.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if h.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		t.Fatal(err)
	}
	return h
}

// newNode makes a host with dockerd, the image and tapestry on it. Flags are for `tapestry run`.
func newNode(t *testing.T, name string, flags ...string) *Host {
	t.Helper()
	h := newHost(t, name)
	h.startDockerd(t)
	script(t, "image", name)
	h.flags = flags
	h.startDaemon(t)
	return h
}

// newNodeWithOutside makes a node, and a plain host on its underlay that stands for the outside world: 192.0.2.2.
func newNodeWithOutside(t *testing.T, name string, flags ...string) (node, outside *Host) {
	t.Helper()
	outside = newHost(t, name+"-outside")
	node = newHost(t, name)
	wire(t, node, outside)
	node.startDockerd(t)
	script(t, "image", name)
	node.flags = flags
	node.startDaemon(t)
	return node, outside
}

// wire connects two hosts by an underlay: a is 192.0.2.1 and 2001:db8::1, b is 192.0.2.2 and 2001:db8::2.
func wire(t *testing.T, a, b *Host) {
	t.Helper()
	script(t, "wire", a.name, b.name)
}

// script runs host.sh.
func script(t *testing.T, args ...string) {
	t.Helper()
	if err := try(args...); err != nil {
		t.Fatal(err)
	}
}

func try(args ...string) error {
	out, err := exec.Command("./host.sh", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("host.sh %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// command is a command to run on the host: what host.sh in NAME does, with a third of its processor time.
func (h *Host) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(h.pid), "--mount", "--net", "--pid", "--uts", "--"}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix:///run/docker.sock", "DOCKER_CONFIG=/run/docker-cli", "PATH="+hostPath)
	return cmd
}

// hostPath is the PATH on the hosts.
var hostPath = func() string {
	_, binary := tree()
	path := []string{filepath.Dir(binary), os.Getenv("PATH"), "/usr/sbin", "/sbin"}
	if docker := os.Getenv("DOCKER_BIN"); docker != "" {
		path = slices.Insert(path, 1, docker)
	}
	return strings.Join(path, ":")
}()

// try runs a command on the host and returns its standard output; the error has its standard error.
func (h *Host) try(args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := h.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s%s", h.name, strings.Join(args, " "), err, stderr.String(), stdout.String())
	}
	return strings.TrimSpace(stdout.String()), err
}

func (h *Host) in(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (h *Host) docker(t *testing.T, args ...string) string {
	t.Helper()
	return h.in(t, append([]string{"docker"}, args...)...)
}

// dockerRefuses runs a docker command that must fail, and returns its message.
func (h *Host) dockerRefuses(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.try(append([]string{"docker"}, args...)...)
	if err == nil {
		t.Fatalf("docker %s: succeeded: %s", strings.Join(args, " "), out)
	}
	return err.Error()
}

func (h *Host) tapestry(t *testing.T, args ...string) string {
	t.Helper()
	return h.in(t, append([]string{"tapestry"}, args...)...)
}

// exit runs a tapestry command and returns its exit code and all output.
func (h *Host) exit(t *testing.T, args ...string) (int, string) {
	t.Helper()
	out, err := h.command(append([]string{"tapestry"}, args...)...).CombinedOutput()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		t.Fatal(err)
	}
	if status == nil {
		return 0, string(out)
	}
	return status.ExitCode(), string(out)
}

func (h *Host) startDaemon(t *testing.T) {
	t.Helper()
	flags := []string{"--log-level", "debug", "--log-format", "json"}
	if h.managed {
		flags = append(flags, h.pluginFlags(t)...)
	}
	script(t, append(append([]string{h.verb(), h.name, "start"}, flags...), h.flags...)...)
}

// stopDaemon sends tapestry a signal (TERM, INT, KILL) and waits for its end. A managed plugin is disabled by TERM, and after KILL
// it comes back by itself.
func (h *Host) stopDaemon(t *testing.T, signal string) {
	t.Helper()
	script(t, h.verb(), h.name, signal)
}

func (h *Host) startDockerd(t *testing.T, flags ...string) {
	t.Helper()
	script(t, append([]string{"dockerd", h.name, "start"}, flags...)...)
}

func (h *Host) stopDockerd(t *testing.T, signal string) {
	t.Helper()
	script(t, "dockerd", h.name, signal)
}

// network makes a tapestry network, which is removed when the test ends, unless that is the host's own: then all of it ends.
func (h *Host) network(t *testing.T, name string, args ...string) {
	t.Helper()
	h.docker(t, append(append([]string{"network", "create", "-d", h.driver()}, args...), name)...)
	h.cleanup(t, func() { h.engine("DELETE", "/networks/"+name, nil) })
}

// cleanup is t.Cleanup for what ends with the host.
func (h *Host) cleanup(t *testing.T, f func()) {
	if t != h.owner {
		t.Cleanup(f)
	}
}

// run starts a container on a network; it is removed as the network is. Args are options of docker run.
func (h *Host) run(t *testing.T, name, network string, args ...string) {
	t.Helper()
	h.cleanup(t, func() { h.remove(name) })
	addresses := map[string]string{"--ip": "", "--ip6": ""}
	plain := len(args)%2 == 0 && !strings.Contains(network, "=") // there are no options in the network's place either
	for pair := range slices.Chunk(args, 2) {
		if _, ok := addresses[pair[0]]; ok && plain {
			addresses[pair[0]] = pair[1]
		} else {
			plain = false
		}
	}
	if plain {
		if err := h.start(name, network, addresses["--ip"], addresses["--ip6"]); err != nil {
			t.Fatal(err)
		}
		return
	}
	h.docker(t, append(append([]string{"run", "-d", "--name", name, "--network", network}, args...), "tp/net")...)
}

// ping sends one ping from a container, and fails the test if no reply ever comes. Args are options of ping.
func (h *Host) ping(t *testing.T, container, to string, args ...string) {
	t.Helper()
	h.exec(t, container, append(append([]string{"ping", "-n", "-c1", "-W20"}, args...), to)...)
}

// pingGroup pings a group or broadcast address from a container ("": the host), until a reply comes from the address from. The
// sender itself may reply too, so ping listens for a second each time.
func (h *Host) pingGroup(t *testing.T, container, from string, args ...string) {
	t.Helper()
	command, try := append([]string{"ping", "-n", "-w1"}, args...), h.try
	if container != "" {
		try = func(args ...string) (string, error) { return h.tryExec(container, args...) }
	}
	testhost.Eventually(t, patience, func() error {
		if got, err := try(command...); !strings.Contains(got, "from "+from) {
			return fmt.Errorf("%v: no answer from %s: %s, %v", command, from, got, err)
		}
		return nil
	})
}

// hostEnd is the name of the host's end of a container's link.
func (h *Host) hostEnd(t *testing.T, container, link string) string {
	t.Helper()
	index := h.exec(t, container, "cat", "/sys/class/net/"+link+"/iflink")
	return h.in(t, "sh", "-c", `grep -lx "$1" /sys/class/net/*/ifindex | cut -d/ -f5`, "sh", index)
}

// links are the names of a container's links, sorted.
func (h *Host) links(t *testing.T, container string) []string {
	t.Helper()
	return strings.Fields(h.exec(t, container, "ls", "/sys/class/net"))
}

// patience is the limit of every wait; only what hangs reaches it.
const patience = testhost.Patience

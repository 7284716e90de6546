// Package bed makes test beds, and measures on them: hosts and containers out of namespaces, connected by tapestry or by what it
// is compared with; traffic between them; tapestry's parts, each alone; and a daemon that grows. All that it makes is
// removed when the bench ends, even if it is killed. Package bench decides what is measured, how often and with which bounds.
package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A Bed is a test bed: two containers, 10.77.0.1 and 10.77.0.2 (fd77::1 and fd77::2), with a network between them. An
// agent in container 2 serves; an agent in container 1 is started for each job.
//
//	one host:    container 1 ── host 1 ── container 2
//	two hosts:   container 1 ── host 1 ══ underlay ══ host 2 ── container 2
type Bed struct {
	Setup      Setup
	agent      string // path of this program, which is also the agent
	hosts      []Host
	containers []*Node

	nested       bool // there is a tunnel between the containers, see makeNested
	iperfStarted bool // iperf3 listens in container 2, see serveIperf
}

// A Host runs containers, alone or as one of two.
type Host struct {
	*Node
	number    int    // 1 or 2
	twoHosts  bool   // this one is 192.0.2.number on the link underlay (MTU 1500), the other one 192.0.2.(3-number)
	pluginDir string // directory of tapestry's plugin socket, as the bench sees it
}

// Build makes a bed whose containers reach each other, or returns an error and leaves nothing. The caller's thread has to
// be locked: what the bed starts ends with the thread that started it, PR_SET_PDEATHSIG(2const).
func Build(ctx context.Context, s Setup, twoHosts bool) (*Bed, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	b := &Bed{Setup: s, agent: self}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return b.makeHosts(ctx, twoHosts) }, b.makeNetwork, b.startAgent, b.awaitReachable,
	} {
		if err := step(ctx); err != nil {
			b.Close()
			return nil, err
		}
	}
	return b, nil
}

// makeHosts makes the hosts and their underlay.
func (b *Bed) makeHosts(ctx context.Context, twoHosts bool) error {
	count := 1
	if twoHosts {
		count = 2
	}
	for n := 1; n <= count; n++ {
		node, err := newNode(ctx)
		if err != nil {
			return err
		}
		b.hosts = append(b.hosts, Host{Node: node, number: n, twoHosts: twoHosts, pluginDir: node.path(pluginDir)})
	}
	if !twoHosts {
		return nil
	}
	if err := b.hosts[0].sh(ctx, "ip link add underlay mtu 1500 type veth peer name underlay mtu 1500 netns %s", b.hosts[1].pid()); err != nil {
		return err
	}
	for _, h := range b.hosts {
		if err := h.sh(ctx, "ip address add 192.0.2.%d/24 dev underlay; ip link set underlay up", h.number); err != nil {
			return err
		}
	}
	return nil
}

// makeNetwork makes the network and the containers on it.
func (b *Bed) makeNetwork(ctx context.Context) error {
	for _, h := range b.hosts {
		if err := b.Setup.Create(ctx, h); err != nil {
			return fmt.Errorf("make the network: %w", err)
		}
	}
	for n := 1; n <= 2; n++ {
		c, err := b.Setup.AddContainer(ctx, b.hosts[(n-1)%len(b.hosts)], n)
		if c != nil {
			b.containers = append(b.containers, c)
		}
		if err != nil {
			return fmt.Errorf("make container %d: %w", n, err)
		}
	}
	return nil
}

// addContainer makes container n. Its eth0 is a link that is already on the host. It may return a container together with
// an error.
func (h Host) addContainer(ctx context.Context, n int, link string) (*Node, error) {
	c, err := newNode(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.sh(ctx, "ip link set %s netns %s", link, c.pid()); err != nil {
		return c, err
	}
	return c, c.sh(ctx, `ip link set %[1]s name eth0
		ip address add 10.77.0.%[2]d/24 dev eth0
		ip address add fd77::%[2]d/64 dev eth0 nodad
		ip link set eth0 up`, link, n)
}

// startAgent starts the agent that serves in container 2.
func (b *Bed) startAgent(ctx context.Context) error {
	return b.containers[1].start(ctx, "ready", b.agent, "agent", "serve")
}

// address is that of container 2.
func (b *Bed) address(v6 bool) string {
	if v6 {
		return "fd77::2"
	}
	return "10.77.0.2"
}

// awaitReachable waits until container 2 has answered pings of container 1 over IPv4 and IPv6.
func (b *Bed) awaitReachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, v6 := range []bool{false, true} {
		if _, err := output(b.containers[0].command(ctx, b.agent, "agent", "ping", b.address(v6))); err != nil {
			return fmt.Errorf("reach %s from container 1: %w", b.address(v6), err)
		}
	}
	return nil
}

// Close ends the bed. It only ends processes: the kernel removes a namespace, with its links, when no process is left in it.
func (b *Bed) Close() {
	for _, h := range b.hosts { // daemons first: they need not react to the end of containers or of each other
		h.kill()
	}
	for _, h := range b.hosts {
		h.close()
	}
	for _, c := range b.containers {
		c.close()
	}
}

// RSS is the memory that tapestry's daemons hold, in MB of 10⁶ bytes: the mean of the hosts.
func (b *Bed) RSS() (float64, error) {
	sum := 0.0
	for _, h := range b.hosts {
		mb, err := h.rss()
		if err != nil {
			return 0, err
		}
		sum += mb
	}
	return sum / float64(len(b.hosts)), nil
}

// rss is the memory that the host's tapestry holds: VmRSS of proc_pid_status(5), in MB of 10⁶ bytes.
func (h Host) rss() (float64, error) {
	if len(h.processes) < 2 {
		return 0, errors.New("no daemon runs on this host")
	}
	pid := h.processes[1].Process.Pid // the first holds the namespaces
	if child, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid)); err == nil && len(child) > 0 {
		pid, _ = strconv.Atoi(strings.Fields(string(child))[0]) // nsenter waits for it, see commandOwnPIDs
	}
	text := fieldOf(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	kib, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %q: %w", pid, text, err)
	}
	return kib * 1024 / 1e6, nil
}

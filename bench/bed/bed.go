// Package bed makes test beds, and measures on them: hosts and containers out of namespaces, connected by tapestry or by what it
// is compared with; traffic between them; tapestry's parts, each alone; and a daemon that grows. All that it makes is gone
// when the bench ends, also if that is killed. What is measured, how often and against which bounds is bench's affair.
package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Bed is two containers, 10.77.0.1 and 10.77.0.2 (fd77::1 and fd77::2), with a network between them; the second
// serves what `tapestry-bench agent` in the first asks for.
//
//	one host:            container 1 ── site 1 ── container 2
//	two hosts, across:   container 1 ── site 1 ══ underlay ══ site 2 ── container 2
type Bed struct {
	Setup      Setup
	agent      string // this program, which is also what sends and receives
	hosts      []Host
	containers []*Node

	nested      bool // there is a tunnel between the containers, see nest
	iperfServed bool // iperf3 listens in container 2, see serveIperf
}

// A Host is a host that has containers, alone or one of two.
type Host struct {
	*Node
	number    int    // 1 or 2
	twoHosts  bool   // there is another, 192.0.2.(3-n), and this one is 192.0.2.n on the link underlay (MTU 1500)
	pluginDir string // of tapestry's plugin socket, as the bench sees it
}

// Build makes a bed whose containers reach each other, or nothing.
func Build(ctx context.Context, w Setup, across bool) (*Bed, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	b := &Bed{Setup: w, agent: self}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return b.makeHosts(ctx, across) }, b.makeNetwork, b.startAgent, b.awaitReachable,
	} {
		if err := step(ctx); err != nil {
			b.Close()
			return nil, err
		}
	}
	return b, nil
}

// makeHosts makes the sites and their underlay.
func (b *Bed) makeHosts(ctx context.Context, across bool) error {
	sites := 1
	if across {
		sites = 2
	}
	for n := 1; n <= sites; n++ {
		h, err := newNode(ctx)
		if err != nil {
			return err
		}
		b.hosts = append(b.hosts, Host{Node: h, number: n, twoHosts: across, pluginDir: h.path(pluginDir)})
	}
	if !across {
		return nil
	}
	if err := b.hosts[0].sh(ctx, "ip link add underlay mtu 1500 type veth peer name underlay mtu 1500 netns %s", b.hosts[1].pid()); err != nil {
		return err
	}
	for _, s := range b.hosts {
		if err := s.sh(ctx, "ip address add 192.0.2.%d/24 dev underlay; ip link set underlay up", s.number); err != nil {
			return err
		}
	}
	return nil
}

// makeNetwork makes the network, and the containers on it.
func (b *Bed) makeNetwork(ctx context.Context) error {
	for _, s := range b.hosts {
		if err := b.Setup.Create(ctx, s); err != nil {
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

// addContainer makes container n, whose eth0 is a link that waits in the site. It may give a container and an error.
func (s Host) addContainer(ctx context.Context, n int, link string) (*Node, error) {
	c, err := newNode(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.sh(ctx, "ip link set %s netns %s", link, c.pid()); err != nil {
		return c, err
	}
	return c, c.sh(ctx, `ip link set %[1]s name eth0
		ip address add 10.77.0.%[2]d/24 dev eth0
		ip address add fd77::%[2]d/64 dev eth0 nodad
		ip link set eth0 up`, link, n)
}

// startAgent starts the agent that answers container 1.
func (b *Bed) startAgent(ctx context.Context) error {
	return b.containers[1].start(ctx, "ready", b.agent, "agent", "serve")
}

// address is the address that serves.
func (b *Bed) address(v6 bool) string {
	if v6 {
		return "fd77::2"
	}
	return "10.77.0.2"
}

// awaitReachable waits until container 1 has had an answer over IPv4 and IPv6.
func (b *Bed) awaitReachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, v6 := range []bool{false, true} {
		if _, err := output(b.containers[0].command(ctx, b.agent, "agent", "arrive", b.address(v6))); err != nil {
			return fmt.Errorf("reach %s from container 1: %w", b.address(v6), err)
		}
	}
	return nil
}

// Close ends the bed; there is nothing to take apart, the kernel does that when nobody is left in a namespace.
func (b *Bed) Close() {
	for _, s := range b.hosts { // daemons first, they need not see the containers go, nor each other
		s.kill()
	}
	for _, s := range b.hosts {
		s.close()
	}
	for _, c := range b.containers {
		c.close()
	}
}

// RSS is the memory that tapestry's daemons hold, in MB of 10⁶ bytes: the mean of the sites.
func (b *Bed) RSS() (float64, error) {
	sum := 0.0
	for _, s := range b.hosts {
		mb, err := s.rss()
		if err != nil {
			return 0, err
		}
		sum += mb
	}
	return sum / float64(len(b.hosts)), nil
}

// rss is the memory that the site's tapestry holds: VmRSS of proc_pid_status(5), in MB of 10⁶ bytes.
func (s Host) rss() (float64, error) {
	if len(s.processes) < 2 {
		return 0, errors.New("no daemon runs on this site")
	}
	pid := s.processes[1].Process.Pid // the first is the site itself
	if child, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid)); err == nil && len(child) > 0 {
		pid, _ = strconv.Atoi(strings.Fields(string(child))[0]) // nsenter waits for it, see inside
	}
	text := fieldOf(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	kib, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %q: %w", pid, text, err)
	}
	return kib * 1024 / 1e6, nil
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A bed is two containers, 10.77.0.1 and 10.77.0.2 (fd77::1 and fd77::2), with a network between them; the second
// serves what `tapestry-bench agent` in the first asks for.
//
//	one host:            container 1 ── site 1 ── container 2
//	two hosts, across:   container 1 ── site 1 ══ underlay ══ site 2 ── container 2
type bed struct {
	way        way
	agent      string // this program, which is also what sends and receives
	sites      []site
	containers []*host

	nested      bool // there is a tunnel between the containers, see nest
	iperfServed bool // iperf3 listens in container 2, see serveIperf
}

// A site is a host that has containers, alone or one of two.
type site struct {
	*host
	n      int    // 1 or 2
	across bool   // there is another, 192.0.2.(3-n), and this one is 192.0.2.n on the link underlay (MTU 1500)
	dir    string // of tapestry's plugin socket, as the bench sees it
}

// build makes a bed whose containers reach each other, or nothing.
func build(ctx context.Context, w way, across bool) (*bed, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	b := &bed{way: w, agent: self}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return b.settle(ctx, across) }, b.connect, b.serve, b.meet,
	} {
		if err := step(ctx); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

// settle makes the sites and their underlay.
func (b *bed) settle(ctx context.Context, across bool) error {
	sites := 1
	if across {
		sites = 2
	}
	for n := 1; n <= sites; n++ {
		h, err := newHost(ctx)
		if err != nil {
			return err
		}
		b.sites = append(b.sites, site{host: h, n: n, across: across, dir: h.path(pluginDir)})
	}
	if !across {
		return nil
	}
	if err := b.sites[0].sh(ctx, "ip link add underlay mtu 1500 type veth peer name underlay mtu 1500 netns %s", b.sites[1].pid()); err != nil {
		return err
	}
	for _, s := range b.sites {
		if err := s.sh(ctx, "ip address add 192.0.2.%d/24 dev underlay; ip link set underlay up", s.n); err != nil {
			return err
		}
	}
	return nil
}

// connect makes the network, and the containers on it.
func (b *bed) connect(ctx context.Context) error {
	for _, s := range b.sites {
		if err := b.way.open(ctx, s); err != nil {
			return fmt.Errorf("make the network: %w", err)
		}
	}
	for n := 1; n <= 2; n++ {
		c, err := b.way.container(ctx, b.sites[(n-1)%len(b.sites)], n)
		if c != nil {
			b.containers = append(b.containers, c)
		}
		if err != nil {
			return fmt.Errorf("make container %d: %w", n, err)
		}
	}
	return nil
}

// container makes container n, whose eth0 is a link that waits in the site. It may give a container and an error.
func (s site) container(ctx context.Context, n int, link string) (*host, error) {
	c, err := newHost(ctx)
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

// serve starts the agent that answers container 1.
func (b *bed) serve(ctx context.Context) error {
	return b.containers[1].start(ctx, "ready", b.agent, "agent", "serve")
}

// target is the address that serves.
func (b *bed) target(v6 bool) string {
	if v6 {
		return "fd77::2"
	}
	return "10.77.0.2"
}

// meet waits until container 1 has had an answer over IPv4 and IPv6.
func (b *bed) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, v6 := range []bool{false, true} {
		if _, err := said(b.containers[0].command(ctx, b.agent, "agent", "arrive", b.target(v6))); err != nil {
			return fmt.Errorf("reach %s from container 1: %w", b.target(v6), err)
		}
	}
	return nil
}

// close ends the bed; there is nothing to take apart, the kernel does that when nobody is left in a namespace.
func (b *bed) close() {
	for _, s := range b.sites { // daemons first, they need not see the containers go, nor each other
		s.kill()
	}
	for _, s := range b.sites {
		s.close()
	}
	for _, c := range b.containers {
		c.close()
	}
}

// rss is the memory that the site's tapestry holds: VmRSS of proc_pid_status(5), in MB of 10⁶ bytes.
func (s site) rss() (float64, error) {
	if len(s.running) < 2 {
		return 0, errors.New("no daemon runs on this site")
	}
	pid := s.running[1].Process.Pid // the first is the site itself
	if child, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid)); err == nil && len(child) > 0 {
		pid, _ = strconv.Atoi(strings.Fields(string(child))[0]) // nsenter waits for it, see inside
	}
	text := field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	kib, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %q: %w", pid, text, err)
	}
	return kib * 1024 / 1e6, nil
}

package bed

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
)

// A daemon is a tapestry on a host of its own, with any number of endpoints. The first two are in containers of their own,
// the pair; the container ends of all others are in one node.
type daemon struct {
	Host
	binary   string
	cmd      *exec.Cmd
	others   *Node
	pair     [2]*Node
	networks int
	created  int // endpoints so far
}

func newDaemon(ctx context.Context, binary string) (d *daemon, err error) {
	d = &daemon{binary: binary, Host: Host{number: 1}}
	for _, h := range []**Node{&d.Node, &d.others, &d.pair[0], &d.pair[1]} {
		*h, err = newNode(ctx)
		if err == nil { // as Docker does: otherwise each link would send IPv6 multicasts to all others
			err = (*h).sh(ctx, "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
		}
		if err != nil {
			d.close()
			return nil, err
		}
	}
	d.pluginDir = d.path(pluginDir)
	return d, nil
}

// start starts the daemon and returns the time until it is ready.
func (d *daemon) start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := d.Node.start(ctx, "msg=ready", d.binary, "run", "--plugin-dir", pluginDir, "--state-dir", "/run/tapestry-state",
		"--api-socket", "/run/tapestry.sock", "--log-level", "info")
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	d.cmd = d.processes[len(d.processes)-1]
	return took, nil
}

// kill kills the daemon: as after a crash, the links of its endpoints stay.
func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Kill()
	d.cmd.Wait() // its error is that it was killed
	d.processes = slices.DeleteFunc(d.processes, func(c *exec.Cmd) bool { return c == d.cmd })
	d.cmd = nil
}

// restart kills the daemon, and returns the time that the next one takes until it has restored everything.
func (d *daemon) restart(ctx context.Context) (time.Duration, error) {
	d.kill()
	return d.start(ctx)
}

func (d *daemon) close() {
	for _, node := range []*Node{d.Node, d.others, d.pair[0], d.pair[1]} { // the daemon first: it need not react to the end of containers
		if node != nil {
			node.close()
		}
	}
}

// network makes one more network, with a subnet of its own.
func (d *daemon) network(ctx context.Context) error {
	n := d.networks
	_, err := call(ctx, d.Host, "CreateNetwork", object{
		"NetworkID": d.networkID(n), "Options": object{"com.docker.network.generic": map[string]string{}},
		"IPv4Data": []object{{"AddressSpace": "LocalDefault", "Pool": subnet(n) + ".0.0/16", "Gateway": subnet(n) + ".255.254/16"}},
	})
	if err == nil {
		d.networks++
	}
	return err
}

func (d *daemon) networkID(n int) string { return fmt.Sprintf("net%d", n) }

func subnet(n int) string { return fmt.Sprintf("%d.%d", 20+n/256, n%256) }

// endpoints makes n more endpoints on a network, with dockerd's requests, and moves their links into containers. It returns
// the time that the daemon took for each.
func (d *daemon) endpoints(ctx context.Context, network, n int) (each time.Duration, err error) {
	var asked time.Duration
	var moves, ups bytes.Buffer
	for range n {
		began := time.Now()
		link, err := d.endpoint(ctx, network)
		if err != nil {
			return 0, err
		}
		asked += time.Since(began)
		if d.created < len(d.pair) {
			if err := d.moveLink(ctx, link, d.pair[d.created], d.address(network, d.created)); err != nil {
				return 0, err
			}
		} else {
			fmt.Fprintf(&moves, "link set %s netns %s\n", link, d.others.pid())
			fmt.Fprintf(&ups, "link set %s up\n", link)
		}
		d.created++
	}
	for _, batch := range []struct {
		at    *Node
		lines *bytes.Buffer
	}{{d.Node, &moves}, {d.others, &ups}} {
		cmd := batch.at.command(ctx, "ip", "-batch", "-")
		cmd.Stdin = batch.lines
		if _, err := output(cmd); err != nil {
			return 0, fmt.Errorf("move links into containers: %w", err)
		}
	}
	return asked / time.Duration(n), nil
}

// endpoint creates one and joins it; link is the container's end.
func (d *daemon) endpoint(ctx context.Context, network int) (link string, err error) {
	id := fmt.Sprintf("%012d", d.created)
	_, err = call(ctx, d.Host, "CreateEndpoint", object{
		"NetworkID": d.networkID(network), "EndpointID": id, "Interface": object{"Address": d.address(network, d.created) + "/16"},
	})
	if err != nil {
		return "", err
	}
	joined, err := call(ctx, d.Host, "Join", object{
		"NetworkID": d.networkID(network), "EndpointID": id, "SandboxKey": "/run/docker/netns/" + id,
	})
	return joined.InterfaceName.SrcName, err
}

// moveLink makes a link the eth0 of a container.
func (d *daemon) moveLink(ctx context.Context, link string, to *Node, address string) error {
	if err := d.sh(ctx, "ip link set %s netns %s", link, to.pid()); err != nil {
		return err
	}
	return to.sh(ctx, "ip link set %s name eth0; ip address add %s/16 dev eth0; ip link set eth0 up", link, address)
}

func (d *daemon) address(network, n int) string {
	return fmt.Sprintf("%s.%d.%d", subnet(network), 1+n/250, 1+n%250)
}

// A footprint is what the daemon uses of the machine.
type footprint struct {
	rss     float64 // MB
	threads int
	files   int
}

func (d *daemon) footprint() (f footprint, err error) {
	proc := fmt.Sprintf("/proc/%d/", d.cmd.Process.Pid)
	status, err := os.Open(proc + "status")
	if err != nil {
		return f, err
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); { // proc(5)
		switch key, value, _ := strings.Cut(lines.Text(), ":"); key {
		case "VmRSS":
			kb, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			f.rss = float64(kb) * 1024 / 1e6
		case "Threads":
			f.threads, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	files, err := os.ReadDir(proc + "fd")
	f.files = len(files)
	return f, err
}

// kernelMemory is what the kernel has allocated for its own objects (links, sockets, queues), in MB: Slab and Percpu of
// proc_meminfo(5).
func kernelMemory() (float64, error) {
	table, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	kb := 0
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); fields[0] == "Slab:" || fields[0] == "Percpu:" {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				return 0, fmt.Errorf("read /proc/meminfo: %w", err)
			}
			kb += n
		}
	}
	return float64(kb) * 1024 / 1e6, nil
}

// idle is the footprint without requests and traffic: the largest of what is seen within a time.
func (d *daemon) idle(ctx context.Context, long time.Duration) (most footprint, err error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(long); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return most, ctx.Err()
		case <-tick.C:
		}
		f, err := d.footprint()
		if err != nil {
			return most, err
		}
		most = footprint{max(most.rss, f.rss), max(most.threads, f.threads), max(most.files, f.files)}
	}
	return most, nil
}

// roundTrip is the median time of a datagram there and back between the two containers, in µs.
func (d *daemon) roundTrip(ctx context.Context, network, times int) (float64, error) {
	const port = 5201
	var ends [2]int
	for i, c := range d.pair {
		err := traffic.InNamespaceOf(c.pid(), func() (err error) {
			ends[i], err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("open a socket in a container: %w", err)
		}
		defer unix.Close(ends[i])
		late := unix.NsecToTimeval(int64(time.Second))
		if err := unix.SetsockoptTimeval(ends[i], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &late); err != nil {
			return 0, err
		}
	}
	at := netip.MustParseAddr(d.address(network, 1)).As4()
	err := unix.Bind(ends[1], &unix.SockaddrInet4{Port: port})
	if err == nil {
		err = unix.Connect(ends[0], &unix.SockaddrInet4{Port: port, Addr: at})
	}
	if err != nil {
		return 0, fmt.Errorf("connect two containers: %w", err)
	}
	echoing := make(chan struct{})
	go func() { // until no datagram arrives for a second
		defer close(echoing)
		b := make([]byte, 64)
		for {
			n, from, err := unix.Recvfrom(ends[1], b, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil || unix.Sendto(ends[1], b[:n], 0, from) != nil {
				return
			}
		}
	}()
	defer func() { <-echoing }()
	var all []float64
	b := make([]byte, 22) // a frame of 64 bytes
	for len(all) < times && ctx.Err() == nil {
		began := time.Now()
		if _, err := unix.Write(ends[0], b); err != nil {
			return 0, fmt.Errorf("send from a container: %w", err)
		}
		_, err := unix.Read(ends[0], b)
		for err == unix.EINTR {
			_, err = unix.Read(ends[0], b)
		}
		if err != nil {
			return 0, fmt.Errorf("wait for an answer from the other container: %w", err)
		}
		all = append(all, float64(time.Since(began).Nanoseconds())/1e3)
	}
	return results.Median(all), ctx.Err()
}

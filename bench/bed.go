package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A bed is two containers, 10.77.0.1 and 10.77.0.2, with a network between them; the second serves iperf3.
//
//	one host:            container 1 ── site 1 ── container 2
//	two hosts, across:   container 1 ── site 1 ══ underlay ══ site 2 ── container 2
type bed struct {
	dir        string
	sites      []site
	containers []*host
}

// build makes a bed, or nothing.
func build(ctx context.Context, w way, across bool) (*bed, error) {
	dir, err := os.MkdirTemp("", "tapestry-bench-")
	if err != nil {
		return nil, err
	}
	b := &bed{dir: dir}
	err = b.settle(ctx, across)
	if err == nil {
		err = b.connect(ctx, w)
	}
	if err == nil {
		err = b.containers[1].start(ctx, "Server listening", "iperf3", "--server", "--forceflush")
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// settle makes the sites, their underlay and the containers.
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
		s := site{host: h, n: n, across: across, dir: filepath.Join(b.dir, fmt.Sprintf("site%d", n))}
		b.sites = append(b.sites, s)
	}
	for range 2 {
		h, err := newHost(ctx)
		if err != nil {
			return err
		}
		b.containers = append(b.containers, h)
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

// connect makes the network and gives each container its link.
func (b *bed) connect(ctx context.Context, w way) error {
	for _, s := range b.sites {
		if err := w.open(ctx, s); err != nil {
			return fmt.Errorf("make the network: %w", err)
		}
	}
	for i, c := range b.containers {
		s, n := b.sites[i%len(b.sites)], i+1
		link, err := w.port(ctx, s, n)
		if err == nil {
			err = s.sh(ctx, "ip link set %s netns %s", link, c.pid())
		}
		if err == nil {
			err = c.sh(ctx, "ip link set %s name eth0; ip address add 10.77.0.%d/24 dev eth0; ip link set eth0 up", link, n)
		}
		if err != nil {
			return fmt.Errorf("make the link of container %d: %w", n, err)
		}
	}
	return nil
}

// close ends the bed; there is nothing to take apart, the kernel does that when nobody is left in a namespace.
func (b *bed) close() {
	for _, s := range b.sites { // daemons first, they need not see the containers go
		s.close()
	}
	for _, c := range b.containers {
		c.close()
	}
	os.RemoveAll(b.dir) // only sockets and records, in the system's own directory for such
}

// flow sends one TCP flow from container 1 to container 2 and gives what arrived, in Gb/s.
func (b *bed) flow(ctx context.Context, seconds int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+20*time.Second) // iperf3 may wait for ever
	defer cancel()
	out, err := b.containers[0].command(ctx, "iperf3", "--client", "10.77.0.2", "--connect-timeout", "5000",
		"--time", fmt.Sprint(seconds), "--json").Output()
	if len(out) == 0 && err != nil {
		return 0, fmt.Errorf("run iperf3: %w", err)
	}
	return parseFlow(out) // it tells its errors in its JSON
}

// parseFlow reads the report of an iperf3 client: Gb/s as the server counted them.
func parseFlow(report []byte) (float64, error) {
	var r struct {
		Error string
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return 0, fmt.Errorf("read the report of iperf3: %w", err)
	}
	if r.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", r.Error)
	}
	if r.End.Received.BitsPerSecond <= 0 {
		return 0, errors.New("iperf3: nothing arrived")
	}
	return r.End.Received.BitsPerSecond / 1e9, nil
}

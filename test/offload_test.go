package test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

type offload struct {
	Name, State, Why string
	Users, Off       int
	Refused          uint64
}

func (h *Host) offloads(t *testing.T) (all []offload) {
	t.Helper()
	var s struct{ Offloads []offload }
	if err := json.Unmarshal([]byte(h.tapestry(t, "status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return s.Offloads
}

type tested struct {
	State, Test string
	GSO         bool     `json:"gso"`
	Group       bool     // nobody, so it has no test
	RTT         *float64 `json:"rtt_seconds"`
	Health      *struct{ Probes, Echoes int }
	HealthWhy   string `json:"health_why"`
}

// tests waits until every peer is shown with the same verdict.
func (h *Host) tests(t *testing.T, verdict string, gso bool) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		peers := objects[tested](t, h, "peers")
		for _, p := range peers {
			if !p.Group && (p.Test != verdict || p.GSO != gso) {
				return fmt.Errorf("%s: want %s: %+v", h.name, verdict, p)
			}
		}
		if len(peers) == 0 {
			return fmt.Errorf("%s has no peers", h.name)
		}
		return nil
	})
}

// TestOffloads: two hosts find out by themselves whether trains reach the other one intact.
func TestOffloads(t *testing.T) {
	p := newPair(t, "offload", "192.0.2.1", "192.0.2.2", 50)
	a, b := p.a, p.b

	t.Run("peers show that trains were tested, and every offload is on", func(t *testing.T) {
		for _, h := range []*Host{a, b} {
			h.tests(t, "ok", true)
			for _, peer := range objects[tested](t, h, "peers") {
				if peer.RTT == nil || *peer.RTT <= 0 || *peer.RTT > patience.Seconds() {
					t.Errorf("round trip: %v s", peer.RTT)
				}
			}
			testhost.Eventually(t, patience, func() error { // the first burst takes some seconds
				for _, peer := range objects[tested](t, h, "peers") {
					if peer.Health == nil || peer.Health.Probes < 32 || peer.Health.Echoes == 0 || peer.HealthWhy != "" {
						return fmt.Errorf("%s: health: %+v, %s", h.name, peer.Health, peer.HealthWhy)
					}
				}
				return nil
			})
			for _, o := range h.offloads(t) {
				if o.Name == "udp_tunnel" && o.State == "unavailable" { // before Linux 6.17
					continue
				}
				if o.State != "on" || o.Users != 2 || o.Off+int(o.Refused) != 0 {
					t.Errorf("%s: %+v", h.name, o)
				}
			}
		}
		iperf(t, b, "blue", a, "red", "-c", "10.80.2.10", "--time", "1")
		if text := a.tapestry(t, "peers"); strings.Contains(text, "untested") || strings.Contains(text, "no (") {
			t.Error(text)
		}
	})

	t.Run("super-frames of many small segments cross", func(t *testing.T) {
		smallSegments(t, b, "blue", a, "red", "10.80.2.10", 88-12, "--set-mss", "88")
		for _, h := range []*Host{a, b} {
			h.noOffloadDrops(t)
		}
	})

	t.Run("a path that loses trains is found, and data still flows", func(t *testing.T) {
		// A train passes a veth as one packet, so this rule drops trains and nothing else.
		rule := []string{"INPUT", "-p", "udp", "--dport", "4789", "-m", "length", "--length", "1501:65535", "-j", "DROP"}
		b.in(t, append([]string{"iptables", "-A"}, rule...)...)
		a.stopDaemon(t, "TERM")
		a.startDaemon(t)
		a.tests(t, "mangled", false)
		if text := a.tapestry(t, "peers"); strings.Count(text, "no (mangled)") != 2 {
			t.Error(text)
		}
		if text := a.tapestry(t, "status"); !strings.Contains(text, "udp_gso off at 2 of 2 (") {
			t.Error(text)
		}
		b.tests(t, "ok", true) // the other direction works
		// Segments of TCP leave one by one, and the container's kernel does not join them.
		iperf(t, b, "blue", a, "red", "-c", "10.80.2.10", "--time", "1")
		b.in(t, append([]string{"iptables", "-D"}, rule...)...)
		a.exit(t, "doctor") // tests anew; what else it finds is not wanted here
		a.tests(t, "ok", true)
	})
}

// TestSmallSegments: a small MTU and a peer with a small MSS make super-frames of hundreds of segments, but of no more than the
// link takes: none is dropped as offload.
func TestSmallSegments(t *testing.T) {
	h := newNode(t, "segments")
	h.network(t, "narrow", "--subnet", "10.77.0.0/24", "-o", "com.docker.network.driver.mtu=200")
	h.network(t, "wide", "--subnet", "10.78.0.0/24", "-o", "tapestry.attach=tap")
	for _, c := range []struct {
		network string
		payload int // of a segment: there are timestamps
		args    []string
	}{{"narrow", 200 - 40 - 12, nil}, {"wide", 88 - 12, []string{"--set-mss", "88"}}} {
		client, server := c.network+"1", c.network+"2"
		h.run(t, client, c.network)
		h.run(t, server, c.network)
		smallSegments(t, h, server, h, client, h.address(t, server, c.network), c.payload, c.args...)
	}
	h.noOffloadDrops(t)
}

// smallSegments runs a TCP flow until one of its super-frames has had as many segments as the link takes.
func smallSegments(t *testing.T, serverHost *Host, server string, clientHost *Host, client, address string, payload int, args ...string) {
	t.Helper()
	const many, most = 200, ether.MaxSegments
	capturing := clientHost.nextCapture(t)
	watch := clientHost.background(t, "", "tapestry", "watch", client, "--json", "-n", "1", "-f", fmt.Sprint("tcp and greater ", 66+(many+1)*payload))
	capturing()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = watch.cmd.Wait()
	}()
	for range 20 {
		measure(t, serverHost, server, clientHost, client, append([]string{"-c", address, "-n", "20M"}, args...)...)
		select {
		case <-ended:
			m := segments.FindStringSubmatch(watch.said.String())
			if m == nil {
				t.Fatalf("watch shows no super-frame: %s", watch.said.String())
			}
			if n, _ := strconv.Atoi(m[1]); n <= many || n > most {
				t.Errorf("a super-frame of %d segments, want more than %d and at most %d: %s", n, many, most, watch.said.String())
			}
			return
		default:
		}
	}
	watch.cmd.Process.Kill()
	<-ended
	t.Errorf("%s: no super-frame had more than %d segments", client, many)
}

var segments = regexp.MustCompile(`"segments":(\d+)`)

// noOffloadDrops checks that no frame was dropped with the verdict offload.
func (h *Host) noOffloadDrops(t *testing.T) {
	t.Helper()
	for _, n := range objects[network](t, h, "networks") {
		if n.Drops["offload"] != 0 {
			t.Errorf("%s: %d super-frames of network %.12s were dropped as offload", h.name, n.Drops["offload"], n.ID)
		}
	}
}

package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
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
	RTT         *float64 `json:"rtt_seconds"`
}

// tests waits until every peer is shown with the same verdict.
func (h *Host) tests(t *testing.T, verdict string, gso bool) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		peers := objects[tested](t, h, "peers")
		for _, p := range peers {
			if p.Test != verdict || p.GSO != gso {
				return fmt.Errorf("%s: want %s: %+v", h.name, verdict, p)
			}
		}
		if len(peers) == 0 {
			return fmt.Errorf("%s has no peers", h.name)
		}
		return nil
	})
}

// TestOffloads: two hosts find out by themselves whether super-frames reach the other one whole.
func TestOffloads(t *testing.T) {
	p := newPair(t, "offload", "192.0.2.1", "192.0.2.2", 50)
	a, b := p.a, p.b

	t.Run("peers show that trains were tested, and every offload is on", func(t *testing.T) {
		for _, h := range []*Host{a, b} {
			h.tests(t, "ok", true)
			for _, peer := range objects[tested](t, h, "peers") {
				if peer.RTT == nil || *peer.RTT <= 0 || *peer.RTT > 1 {
					t.Errorf("round trip: %v s", peer.RTT)
				}
			}
			for _, o := range h.offloads(t) {
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

	t.Run("a path that loses trains is found, and data still flows", func(t *testing.T) {
		// A train passes a veth as one packet, and is dropped here as nothing else is.
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
		b.tests(t, "ok", true) // the way back is sound
		// Segments of TCP that are alike leave one by one. The container's own kernel makes no train of them.
		iperf(t, b, "blue", a, "red", "-c", "10.80.2.10", "--time", "1")
		b.in(t, append([]string{"iptables", "-D"}, rule...)...)
		a.exit(t, "doctor") // tests anew; what else it finds is not wanted here
		a.tests(t, "ok", true)
	})
}

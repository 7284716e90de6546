package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// An event, as tapestry events --json prints it.
type event struct {
	Kind, Text, Port, Container string
	NetworkName                 string `json:"network_name"`
	Fields                      map[string]string
}

// eventsOf are the events among lines of JSON.
func eventsOf(t *testing.T, text string) (all []event) {
	t.Helper()
	for line := range strings.Lines(text) {
		var e event
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

// TestMetrics: what Prometheus reads by TCP and on the API's socket is what the commands show, and events tell what has happened.
func TestMetrics(t *testing.T) {
	h, outside := newNodeWithOutside(t, "metrics", "--metrics", "9469", "--peer", "192.0.2.2", "--log-level", "debug")
	h.quiet(t, "peer unreachable")
	follower := h.background(t, "", "tapestry", "events", "--follow", "--json")
	awaits := func(what string, is func(event) bool) {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			if all := eventsOf(t, follower.said.String()); !slices.ContainsFunc(all, is) {
				return fmt.Errorf("no event %s among %v", what, all)
			}
			return nil
		})
	}
	h.network(t, "wide", "--subnet", "10.80.0.0/16", "-o", "tapestry.vni=80")
	h.run(t, "web", "wide", "--ip", "10.80.0.10")
	h.run(t, "db", "wide", "--ip", "10.80.0.11")
	of := func(kind, container string) func(event) bool {
		return func(e event) bool { return e.Kind == kind && e.Container == container && e.NetworkName == "wide" }
	}
	awaits("that web is up", of("port_up", "web"))
	awaits("that db is up", of("port_up", "db"))
	h.ping(t, "web", "10.80.0.11", "-c", "3")

	capturing := h.nextCapture(t)
	w := h.background(t, "", "tapestry", "watch", "web", "-n", "1", "-f", "icmp")
	capturing()
	h.pings(t, "web", "10.80.0.11", 1)
	if _, err := w.wait(t); err != nil {
		t.Error(err)
	}
	for _, kind := range []string{"capture_begun", "capture_ended"} {
		awaits("that somebody captures", func(e event) bool {
			return e.Kind == kind && e.Fields["uid"] == "0" && strings.HasPrefix(e.Fields["command"], "tapestry watch ") && e.Fields["pid"] > "0"
		})
	}

	outside.in(t, "ip", "link", "set", "underlay", "down") // as a host that is switched off
	awaits("that the peer is away", func(e event) bool { return e.Kind == "peer_down" && e.Port == "192.0.2.2" && e.Fields["err"] != "" })
	testhost.Eventually(t, patience, func() error {
		if up := h.metrics(t, "socket")[`tapestry_peer_up{peer="192.0.2.2"}`]; up != "0" {
			return fmt.Errorf("tapestry_peer_up is %s", up)
		}
		return nil
	})
	outside.in(t, "ip", "link", "set", "underlay", "up")
	awaits("that it is there again", func(e event) bool { return e.Kind == "peer_up" && e.Port == "192.0.2.2" })

	h.stop(t, "db")
	awaits("that db is down", of("port_down", "db"))
	if said := h.tapestry(t, "events", "--since", "1h"); !strings.Contains(said, "  port_down        wide: ") || !strings.Contains(said, "  peer_down        192.0.2.2: peer unreachable, err ") {
		t.Errorf("for people: %s", said)
	}

	for _, by := range []string{"TCP", "socket"} {
		testhost.Eventually(t, patience, func() error { return h.agree(t, by) })
	}
	if got := h.metrics(t, "TCP"); got[`tapestry_docker_call_duration_seconds_count{method="NetworkDriver.Join"}`] != "2" || got[`tapestry_events_total{kind="peer_up"}`] != "1" {
		t.Errorf("Docker's calls, or events: %v", got)
	}
	h.stopDaemon(t, "TERM")
	if _, err := follower.wait(t); err == nil {
		t.Error("who follows a daemon that has ended is not told")
	}
	h.startDaemon(t)
}

// metrics reads the host's metrics by TCP or on the API's socket: values by series.
func (h *Host) metrics(t *testing.T, by string) map[string]string {
	t.Helper()
	text := ""
	if by == "TCP" {
		text = h.in(t, "busybox", "wget", "-qO-", "http://127.0.0.1:9469/metrics")
	} else {
		answer := h.ask(t, http.MethodGet, "/metrics", "")
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		testhost.Must(t, err)
		text = string(b)
	}
	all := make(map[string]string)
	for line := range strings.Lines(text) {
		if i := strings.LastIndex(line, " "); i > 0 && line[0] != '#' {
			all[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return all
}

// agree compares the metrics with what the commands show.
func (h *Host) agree(t *testing.T, by string) error {
	t.Helper()
	got := h.metrics(t, by)
	check := func(series string, want uint64) error {
		if n, err := strconv.ParseFloat(got[series], 64); err != nil || n != float64(want) {
			return fmt.Errorf("by %s %s is %q, the command says %d", by, series, got[series], want)
		}
		return nil
	}
	for _, n := range objects[network](t, h, "networks") {
		label := fmt.Sprintf(`{network="%.12s"`, n.ID)
		for series, want := range map[string]uint64{"frames_total" + label + `,verdict="forwarded"}`: n.Forwarded, "frames_total" + label + `,verdict="flooded"}`: n.Flooded,
			"dropped_frames_total" + label + `,reason="down"}`: n.Drops["down"]} {
			if err := check("tapestry_network_"+series, want); err != nil {
				return err
			}
		}
	}
	ports := objects[port](t, h, "ports")
	if len(ports) < 2 {
		return fmt.Errorf("%d ports", len(ports))
	}
	for _, p := range ports {
		name := p.Name
		if p.Kind != "remote" {
			name = name[:12]
		}
		label := fmt.Sprintf(`{network="%.12s",port="%s"}`, p.Network, name)
		for series, want := range map[string]uint64{"received_frames": p.RxFrames, "received_bytes": p.RxBytes, "sent_frames": p.TxFrames, "sent_bytes": p.TxBytes, "refused_frames": p.Refused} {
			if err := check("tapestry_port_"+series+"_total"+label, want); err != nil {
				return err
			}
		}
	}
	return nil
}

package test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestEndpointOptions: the options of one container, given by --driver-opt.
func TestEndpointOptions(t *testing.T) {
	h := newNode(t, "endpointoptions")
	h.network(t, "net", "--subnet", "10.77.0.0/24")
	h.run(t, "web", "net", "--ip", "10.77.0.2")
	armed := func() (all []captureCounts) {
		for _, b := range h.captures(t) {
			if b.State == "armed" || b.State == "kept" {
				all = append(all, b)
			}
		}
		return all
	}

	t.Run("a capture from the first frame on, of a container that is there", func(t *testing.T) {
		h.quiet(t)
		h.run(t, "job", "none")
		h.docker(t, "network", "disconnect", "none", "job")
		h.docker(t, "network", "connect", "--driver-opt", "tapestry.capture=icmp or arp", "net", "job")
		h.ping(t, "job", "10.77.0.2")
		address := h.address(t, "job", "net") // from Docker 28 on no gateway has the first one
		status := h.tapestry(t, "status")
		if !strings.Contains(status, `of job, from its start on, "icmp or arp"`) {
			t.Errorf("status:\n%s", status)
		}
		k := h.startCapture(t, "job.pcapng", "--attach", "job")
		h.ping(t, "job", "10.77.0.2")
		h.docker(t, "network", "disconnect", "net", "job") // which ends it
		if code, said := k.exit(t); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		if n := len(rows(t, k.path, "icmp", "frame.number")); n != 4 {
			t.Errorf("%d echo requests and replies, want 4: %s", n, k.said.String())
		}
		first := rows(t, k.path, "frame.number == 1", "arp.src.proto_ipv4", "arp.isannouncement")
		if len(first) != 1 || !strings.HasPrefix(first[0], address+"|") {
			t.Errorf("the first frame is %q, want the announcement of the container's address", first)
		}
		if got := armed(); len(got) != 0 {
			t.Errorf("left: %+v", got)
		}
	})

	t.Run("a container that has gone leaves it", func(t *testing.T) {
		h.quiet(t)
		h.docker(t, "run", "--rm", "--network", "name=net,driver-opt=tapestry.capture=icmp", "tp/net", "ping", "-n", "-c2", "-i0.2", "-W20", "10.77.0.2")
		var kept captureCounts
		testhost.Eventually(t, patience, func() error {
			for _, kept = range armed() {
				if kept.State == "kept" {
					return nil
				}
			}
			return errors.New("no capture is kept")
		})
		k := h.startCapture(t, "gone.pcapng", "--attach", kept.ID)
		if code, said := k.exit(t); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		if n := packetsIn(t, k.path); n != 4 {
			t.Errorf("%d frames, want 4: %s", n, k.said.String())
		}
		if code, said := h.exit(t, "capture", "--attach", kept.ID, "-w", "-"); code == 0 || !strings.Contains(said, "waits for a reader") {
			t.Errorf("read twice: %d, %s", code, said)
		}
	})

	t.Run("it is armed again with the daemon", func(t *testing.T) {
		h.quiet(t)
		h.run(t, "long", "name=net,driver-opt=tapestry.capture=all")
		h.stopDaemon(t, "KILL")
		h.startDaemon(t)
		if got := armed(); len(got) != 1 || got[0].State != "armed" {
			t.Fatalf("captures: %+v", got)
		}
		h.ping(t, "long", "10.77.0.2")
		if got := armed(); got[0].Waiting < 2 {
			t.Errorf("captures: %+v", got)
		}
		h.docker(t, "rm", "-f", "long")
		h.ask(t, "DELETE", "/v1/captures/"+armed()[0].ID, "").Body.Close() // by hand
		if got := armed(); len(got) != 0 {
			t.Errorf("left: %+v", got)
		}
	})

	t.Run("a MAC", func(t *testing.T) {
		h.quiet(t)
		h.run(t, "mac", "none")
		h.docker(t, "network", "disconnect", "none", "mac")
		h.docker(t, "network", "connect", "--driver-opt", "tapestry.mac=02:aa:bb:cc:dd:07", "net", "mac")
		if got := h.exec(t, "mac", "cat", "/sys/class/net/eth0/address"); got != "02:aa:bb:cc:dd:07" {
			t.Errorf("its MAC is %s", got)
		}
		if got := h.docker(t, "network", "inspect", "-f", "{{range .Containers}}{{.MacAddress}} {{end}}", "net"); !strings.Contains(got, "02:aa:bb:cc:dd:07") {
			t.Errorf("Docker knows %s", got)
		}
		h.ping(t, "mac", "10.77.0.2")
		h.docker(t, "rm", "-f", "mac")
	})

	t.Run("what is refused changes nothing", func(t *testing.T) {
		h.quiet(t, "request refused", "returned error", "(?i)remote:")
		h.run(t, "bad", "none")
		h.docker(t, "network", "disconnect", "none", "bad")
		before := h.snapshot(t)
		for option, want := range map[string]string{
			"tapestry.capture=tcp prt 80":     "tapestry.capture=tcp prt 80: ",
			"tapestry.capture=host web":       "tapestry.capture=host web: ",
			"tapestry.capture=":               "want a filter",
			"tapestry.mac=01:00:5e:00:00:01":  "one station's Ethernet address",
			"tapestry.mac=mine":               "one station's Ethernet address",
			"tapestry.vni=80":                 "give it to docker network create",
			"tapestry.captur=all":             "did you mean tapestry.capture?",
			"com.docker.network.endpoint.x=y": "",
		} {
			if want == "" {
				h.docker(t, "network", "connect", "--driver-opt", option, "net", "bad")
				h.docker(t, "network", "disconnect", "net", "bad")
				continue
			}
			said := h.dockerRefuses(t, "network", "connect", "--driver-opt", option, "net", "bad")
			if !strings.Contains(said, want) {
				t.Errorf("%s: the user reads: %s", option, said)
			}
			t.Log(said)
		}
		h.audit(t, before)
		if got := armed(); len(got) != 0 {
			t.Errorf("captures: %+v", got)
		}
	})
}

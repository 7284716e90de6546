package test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestContainers: one network on one host, as a user sees it.
//
//	c1 ──┐
//	     ├─ X, 10.77.0.0/24
//	c2 ──┘
func TestContainers(t *testing.T) {
	h := newNode(t, "containers")

	t.Run("row01 the driver is activated at its first use, with local scope", func(t *testing.T) {
		h.quiet(t)
		before, first := "", "Activate GetCapabilities CreateNetwork"
		if h.managed { // Docker asks it when it is enabled, and knows by its config what it is
			before, first = "GetCapabilities", "CreateNetwork"
		}
		if got := h.methods(t, mark{}); got != before {
			t.Errorf("before the first use dockerd asked %q, want %q", got, before)
		}
		from := h.mark()
		h.docker(t, "network", "create", "-d", h.driver(), "--subnet", "10.77.0.0/24", "X")
		if got := h.methods(t, from); got != first {
			t.Errorf("requests %q, want %q", got, first)
		}
		if got := h.docker(t, "network", "inspect", "-f", "{{.Scope}} {{.Driver}}", "X"); got != h.scope(t)+" "+h.driver() {
			t.Errorf("scope and driver are %q", got)
		}
		if got := h.docker(t, "info", "-f", "{{.Plugins.Network}}"); !strings.Contains(got, "tapestry") {
			t.Errorf("docker info lists %s", got)
		}
	})
	if t.Failed() {
		return
	}

	t.Run("row02 requests without body and Content-Type are answered", func(t *testing.T) {
		h.quiet(t)
		for _, r := range h.requests(t, mark{}) {
			if name := methodName(r); r.Body != "" && (name == "Activate" || name == "GetCapabilities") {
				t.Errorf("%s came with a body: %s", r.Method, r.Body)
			}
		}
		for method, want := range map[string]string{
			"Plugin.Activate":               `"NetworkDriver"`,
			"NetworkDriver.GetCapabilities": `"` + h.scope(t) + `"`,
		} {
			status, reply := h.post(t, method, "")
			if status != 200 || !strings.Contains(reply, want) || !json.Valid([]byte(reply)) {
				t.Errorf("%s: %d %s", method, status, reply)
			}
		}
	})

	h.run(t, "c1", "X")
	h.run(t, "c2", "X", "--network-alias", "alias")

	t.Run("row03 two containers talk from the first packet on", func(t *testing.T) {
		h.quiet(t)
		h.exec(t, "c1", "ping", "-n", "-c3", "-i0.2", "-W20", h.address(t, "c2", "X"))
		h.exec(t, "c2", "ping", "-n", "-c3", "-i0.2", "-W20", h.address(t, "c1", "X"))
	})

	t.Run("row04 names and aliases", func(t *testing.T) {
		h.quiet(t)
		h.ping(t, "c1", "c2")
		h.ping(t, "c1", "alias")
		h.checkCounters(t)
		if got := h.exec(t, "c1", "cat", "/etc/resolv.conf"); !strings.Contains(got, "127.0.0.11") {
			t.Errorf("resolv.conf is %q", got)
		}
	})

	t.Run("row05 docker shows the link's MAC", func(t *testing.T) {
		link := h.exec(t, "c1", "cat", "/sys/class/net/eth0/address")
		shown := h.docker(t, "network", "inspect", "-f", `{{range .Containers}}{{if eq .Name "c1"}}{{.MacAddress}}{{end}}{{end}}`, "X")
		if link == "" || link != shown {
			t.Errorf("link has %q, docker shows %q", link, shown)
		}
		ip := netip.MustParseAddr(h.address(t, "c1", "X")).As4() // which one depends on whether Docker sets one aside
		if want := fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", ip[0], ip[1], ip[2], ip[3]); link != want {
			t.Errorf("MAC of %v is %s, want %s", ip, link, want)
		}
	})

	t.Run("row06 the MAC follows the address", func(t *testing.T) {
		h.quiet(t)
		h.run(t, "c6", "X", "--ip", "10.77.0.66")
		before := h.exec(t, "c6", "cat", "/sys/class/net/eth0/address")
		h.docker(t, "restart", "-t", "0", "c6")
		if after := h.exec(t, "c6", "cat", "/sys/class/net/eth0/address"); after != before {
			t.Errorf("MAC was %s, is %s", before, after)
		}
	})

	t.Run("row07 row08 --mac-address is obeyed, its base64 twin ignored", func(t *testing.T) {
		h.quiet(t)
		from := h.mark()
		const mac = "02:aa:bb:cc:dd:01"
		// Not by the docker command: newer ones refuse to send it to an older dockerd.
		t.Cleanup(func() { h.remove("c7") })
		h.dockerAPI(t, "/v1.41/containers/create?name=c7", `{"Image":"tp/net","MacAddress":"`+mac+`","HostConfig":{"NetworkMode":"X"}}`)
		h.docker(t, "start", "c7")
		if got := h.exec(t, "c7", "cat", "/sys/class/net/eth0/address"); got != mac {
			t.Errorf("link has %s", got)
		}
		if got := h.inspect(t, "c7").NetworkSettings.Networks["X"].MacAddress; got != mac {
			t.Errorf("docker shows %s", got)
		}
		if body := h.find(t, from, "CreateEndpoint").Body; !strings.Contains(body, `"com.docker.network.endpoint.macaddress":"Aqq7zN0B"`) {
			t.Errorf("CreateEndpoint had no base64 MAC: %s", body)
		}
		h.ping(t, "c1", "c7")
	})

	t.Run("row09 --ip is obeyed", func(t *testing.T) {
		h.quiet(t)
		h.run(t, "c9", "X", "--ip", "10.77.0.50")
		if got := h.exec(t, "c9", "ip", "-4", "addr", "show", "eth0"); !strings.Contains(got, "10.77.0.50/24") {
			t.Errorf("eth0 has %s", got)
		}
		h.ping(t, "c1", "10.77.0.50")
	})

	t.Run("tables for people and JSON for programs", func(t *testing.T) {
		h.quiet(t)
		ports := objects[port](t, h, "ports", "X")
		if len(ports) != 2 {
			t.Fatalf("ports: %+v", ports)
		}
		for _, p := range ports {
			if p.Kind != "container" || p.MAC == "" || len(p.Addresses) != 1 || p.RxFrames == 0 || p.TxFrames == 0 {
				t.Errorf("port %+v", p)
			}
		}
		for _, e := range objects[entry](t, h, "fdb", "X") {
			if e.Kind != "pinned" {
				t.Errorf("entry %+v, want only pinned ones", e)
			}
		}
		for _, args := range [][]string{{"status"}, {"networks"}, {"ports"}, {"ports", "X"}, {"fdb", "X"}, {"peers"}, {"version"}} {
			h.tapestry(t, args...)
		}
		if code, said := h.exit(t, "ports", "Y"); code != 4 || !strings.Contains(said, "X") {
			t.Errorf("ports of an unknown network: exit code %d, want 4; it said %s", code, said)
		}
		if code, said := h.exit(t, "ports", "--nonsense"); code != 2 {
			t.Errorf("wrong usage: exit code %d, want 2; it said %s", code, said)
		}
		h.checkCounters(t)
	})
}

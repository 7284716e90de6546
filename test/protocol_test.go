package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestProtocol: the driver's socket, with requests that dockerd seldom sends.
func TestProtocol(t *testing.T) {
	h, _ := newNodeWithOutside(t, "protocol")
	h.network(t, "X", "--subnet", "10.77.0.0/24", "-o", "tapestry.vni=80")
	created := h.find(t, mark{}, "CreateNetwork")
	h.run(t, "c1", "X")

	t.Run("row28 the link goes in DeleteEndpoint, not in Leave", func(t *testing.T) {
		h.quiet(t)
		before := h.snapshot(t)
		endpoint := strings.Repeat("ab", 32)
		ids := fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q`, created.Network, endpoint)
		h.answers(t, "CreateEndpoint", ids+`,"Interface":{"Address":"10.77.0.200/24","AddressIPv6":"","MacAddress":""},"Options":null}`)
		var join struct{ InterfaceName struct{ SrcName string } }
		if err := json.Unmarshal([]byte(h.answers(t, "Join", ids+`,"SandboxKey":"/var/run/docker/netns/0123456789ab","Options":null}`)), &join); err != nil {
			t.Fatal(err)
		}
		link := join.InterfaceName.SrcName
		h.in(t, "ip", "link", "show", link)
		h.answers(t, "Leave", ids+"}")
		h.in(t, "ip", "link", "show", link)
		h.answers(t, "DeleteEndpoint", ids+"}")
		h.audit(t, before)
	})

	t.Run("row34 the driver's sentence reaches the user", func(t *testing.T) {
		h.quiet(t, "request refused", "returned error")
		said := h.dockerRefuses(t, "network", "create", "-d", h.driver(), "-o", "tapestry.vni=80", "Y")
		if !strings.Contains(said, "80") || !strings.Contains(strings.ToLower(said), "vni") || strings.Contains(said, "EOF") {
			t.Errorf("the user reads: %s", said)
		}
	})

	t.Run("row35 CreateNetwork again", func(t *testing.T) {
		h.quiet(t, "request refused")
		before := h.snapshot(t)
		h.answers(t, "CreateNetwork", created.Body)
		if reply := h.refuses(t, "CreateNetwork", strings.Replace(created.Body, `"tapestry.vni":"80"`, `"tapestry.vni":"81"`, 1)); !strings.Contains(reply, "Err") {
			t.Errorf("other data: %s", reply)
		}
		h.audit(t, before)
	})

	t.Run("row36 deletes of what is not there", func(t *testing.T) {
		h.quiet(t)
		before := h.snapshot(t)
		for _, network := range []string{created.Network, strings.Repeat("0f", 32), "swarmnetworkid0123456789a"} {
			for _, method := range []string{"Leave", "DeleteEndpoint", "Leave", "DeleteEndpoint"} {
				h.answers(t, method, fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q}`, network, strings.Repeat("cd", 32)))
			}
		}
		h.answers(t, "DeleteNetwork", fmt.Sprintf(`{"NetworkID":%q}`, strings.Repeat("0f", 32)))
		h.audit(t, before)
	})

	t.Run("row37 what cannot be read is refused and changes nothing", func(t *testing.T) {
		h.quiet(t, "request refused")
		before := h.snapshot(t)
		for _, bad := range []struct{ name, method, body string }{
			{"no body", "CreateEndpoint", ""},
			{"no body", "CreateNetwork", ""},
			{"no object", "CreateNetwork", `[1]`},
			{"no JSON", "Join", `{"NetworkID":`},
			{"wrong type", "CreateEndpoint", `{"NetworkID":7}`},
			{"wrong type", "CreateNetwork", `{"NetworkID":"` + strings.Repeat("ef", 32) + `","Options":{"com.docker.network.generic":5}}`},
			{"no id", "CreateNetwork", `{}`},
			{"unknown endpoint", "Join", fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"SandboxKey":"/x"}`, created.Network, strings.Repeat("cd", 32))},
			{"900 KiB", "CreateNetwork", `{"NetworkID":"` + strings.Repeat("f", 900<<10) + `"}`}, // dockerd's log of a managed plugin goes on
			{"2 MiB", "CreateNetwork", `{"NetworkID":"` + strings.Repeat("f", 2<<20) + `"}`},
		} {
			t.Run(bad.name+" "+bad.method, func(t *testing.T) {
				if reply := h.refuses(t, bad.method, bad.body); len(reply) < 20 || len(reply) > 1000 {
					t.Errorf("the reply is no sentence: %.1000s", reply)
				}
			})
		}
		h.audit(t, before)
		h.tapestry(t, "status")
	})

	t.Run("row48 EndpointOperInfo never fails", func(t *testing.T) {
		h.quiet(t)
		reply := h.answers(t, "EndpointOperInfo", `{"NetworkID":"unknown","EndpointID":"unknown"}`)
		if !strings.Contains(reply, `"Value":{`) {
			t.Errorf("reply %s", reply)
		}
	})
}

// answers sends a request that must succeed, and returns the reply.
func (h *Host) answers(t *testing.T, method, body string) string {
	t.Helper()
	status, reply := h.post(t, "NetworkDriver."+method, body)
	if status != 200 || strings.Contains(reply, `"Err"`) || !json.Valid([]byte(reply)) {
		t.Fatalf("%s %s: %d %s", method, body, status, reply)
	}
	return reply
}

// refuses sends a request that must be refused with a reason, and returns the reply.
func (h *Host) refuses(t *testing.T, method, body string) string {
	t.Helper()
	status, reply := h.post(t, "NetworkDriver."+method, body)
	var refusal struct{ Err string }
	if err := json.Unmarshal([]byte(reply), &refusal); err != nil || refusal.Err == "" {
		t.Fatalf("%s %.200s: %d %s", method, body, status, reply)
	}
	return reply
}

package main

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

// Every key that a command prints is documented, and every documented key is printed.
func TestJSONKeys(t *testing.T) {
	socket, dockerHost := statusDaemon(t), fake.Docker(t)
	docs := fake.DocumentedKeys(t)
	delete(docs, "doctor") // TestDoctorWithDaemon
	for _, command := range []string{"status", "networks", "ports", "fdb", "peers", "version"} {
		args := []string{command, "--json"}
		if command != "version" {
			args = append(args, "--api-socket", socket, "--docker-host", dockerHost)
		}
		var v any
		if err := json.Unmarshal([]byte(tapestry(t, args...).out), &v); err != nil {
			t.Errorf("%s --json: %v", command, err)
			continue
		}
		want := slices.Sorted(slices.Values(docs[command]))
		if got := fake.JSONKeys(v, ""); !slices.Equal(got, want) {
			t.Errorf("%s --json has\n%v\ndocs/json.md says\n%v", command, got, want)
		}
		delete(docs, command)
	}
	delete(docs, "bench")        // TestBenchKeys
	delete(docs, "bench scale")  // TestScaleKeys
	delete(docs, "trace")        // TestTraceJSON
	delete(docs, "trace --live") // TestTraceLiveJSON
	delete(docs, "fault list")   // TestFaultList
	for _, command := range []string{"flows", "top", "recorder status"} {
		delete(docs, command) // TestViewKeys
	}
	delete(docs, "watch")       // TestWatchJSON
	delete(docs, "events")      // TestEvents
	delete(docs, "peers learn") // TestPeersLearn
	for _, command := range []string{"cluster status", "cluster hosts", "cluster networks", "cluster blocks"} {
		delete(docs, command) // TestClusterKeys
	}
	if len(docs) > 0 {
		t.Errorf("docs/json.md explains what is not there: %v", docs)
	}
}

func TestJSONValues(t *testing.T) {
	socket, dockerHost := fake.Daemon(t, fake.NewFabric()), fake.Docker(t)
	read := func(v any, args ...string) {
		t.Helper()
		r := tapestry(t, append(args, "--json", "--api-socket", socket, "--docker-host", dockerHost)...)
		if err := json.Unmarshal([]byte(r.out), v); err != nil || r.code != exit.OK {
			t.Fatalf("%v: exit %d, %v, %s", args, r.code, err, r.stderr)
		}
	}
	var ports []map[string]any
	read(&ports, "ports", "wide")
	if len(ports) != 2 {
		t.Fatalf("%d ports, want 2", len(ports))
	}
	want := map[string]any{"network": fake.WideID, "network_name": "wide", "vni": 80., "kind": "container", "name": fake.WebID, "container": "web",
		"link": "tp9b1d", "mac": "02:42:0a:50:01:02", "addresses": []any{"10.80.1.2/16"}, "mtu": 1450., "state": "up", "why": "",
		"rx_frames": 1036., "rx_bytes": 1234567., "tx_frames": 5., "tx_bytes": 999., "offered": 5., "refused": 0.,
		"drops": map[string]any{"spoofed": 3., "mtu": 30., "runt": 0.}, "missed": 0., "wire_tx": 0., "wire_rx": 0.,
		"guard": "full", "allow": []any{}, "rate": 0., "storm": 50000., "isolated": false, "allow_to": []any{}, "mss": "off", "vlan": ""}
	if !reflect.DeepEqual(ports[0], want) {
		t.Errorf("got  %v\nwant %v", ports[0], want)
	}
	if r := ports[1]; r["kind"] != "remote" || r["mac"] != "" || r["state"] != "down" || r["why"] != "no route" || r["wire_rx"] != 8. {
		t.Errorf("the remote is %v", r)
	}
	var status map[string]any
	read(&status, "status")
	if want := map[string]any{"no_peer": 12., "short": 0.}; !reflect.DeepEqual(status["rx_dropped"], want) || !reflect.DeepEqual(status["strangers"], want) {
		t.Errorf("rx_dropped is %v, strangers (its old name) %v, want both %v", status["rx_dropped"], status["strangers"], want)
	}
	var peers []map[string]any
	read(&peers, "peers")
	if p, q := peers[0], peers[1]; p["test"] != "ok" || p["test_seconds"] != 61. || p["rtt_seconds"] != 0.0015 || p["gso_why"] != "" ||
		q["test"] != "no answer" || q["test_seconds"] != nil || q["rtt_seconds"] != nil {
		t.Errorf("tests are shown as %v and %v", p, q)
	}
	if h, want := peers[0]["health"], map[string]any{"probes": 192., "echoes": 189., "lost": 3., "lost_back": 1., "reordered": 0., "reordered_back": 2., "duplicated": 4., "duplicated_back": 0.,
		"rtt_min_seconds": .0005, "rtt_max_seconds": .0025}; !reflect.DeepEqual(h, want) || peers[0]["health_why"] != "" || peers[0]["path_mtu"] != 1500. || peers[0]["path_mtu_why"] != "" {
		t.Errorf("health is %v, want %v; %v", h, want, peers[0])
	}
	if peers[1]["health"] != nil || peers[1]["health_why"] == "" {
		t.Errorf("health of a host without it: %v", peers[1])
	}
	if peers[0]["heard_seconds"] != 3. || peers[1]["heard_seconds"] != nil {
		t.Errorf("heard %v and %v, want 3 and null", peers[0]["heard_seconds"], peers[1]["heard_seconds"])
	}
	var entries []map[string]any
	read(&entries, "fdb", "80")
	if entries[0]["kind"] != "pinned" || entries[0]["age_seconds"] != 0. || entries[1]["kind"] != "learned" || entries[1]["age_seconds"] != 83. {
		t.Errorf("entries are %v", entries)
	}
	var networks []map[string]any
	read(&networks, "networks")
	if n := networks[1]; n["name"] != "wide" || n["ageing_seconds"] != 300. || n["addresses_known"] != 2. {
		t.Errorf("wide is %v", n)
	}
}

func TestJSONEmpty(t *testing.T) {
	socket := fake.Daemon(t, &fake.Fabric{Empty: true})
	for _, command := range []string{"networks", "ports", "fdb", "peers"} {
		if r := tapestry(t, command, "--json", "--api-socket", socket, "--docker-host", "unix:///nonexistent"); r.out != "[]\n" {
			t.Errorf("%s of nothing prints %q, want []", command, r.out)
		}
	}
	r := tapestry(t, "status", "--json", "--api-socket", socket, "--docker-host", "unix:///nonexistent")
	if strings.Count(r.out, "null") != 1 || !strings.Contains(r.out, `"since": null`) || !strings.Contains(r.out, `"captures": []`) || !strings.Contains(r.out, `"conflicts": []`) || !strings.Contains(r.out, `"rx_dropped": {}`) || !strings.Contains(r.out, `"strangers": {}`) {
		t.Errorf("status of nothing prints %s", r.out)
	}
}

package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// clusterDaemon is a daemon that is in a cluster; forgotten is the host that it was asked to forget.
func clusterDaemon(t *testing.T, c api.Cluster) (socket string, forgotten *string) {
	t.Helper()
	forgotten = new(string)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.ClusterPath, func(w http.ResponseWriter, _ *http.Request) { fake.WriteJSON(w, c) })
	mux.HandleFunc("POST "+api.ClusterForgetPath, func(w http.ResponseWriter, r *http.Request) {
		var asked api.ClusterForget
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		*forgotten = asked.Host
		fake.WriteJSON(w, struct{}{})
	})
	return fake.ServeUnix(t, "api.sock", mux), forgotten
}

func sampleCluster() api.Cluster {
	used := 7
	return api.Cluster{Kind: "gossip", Name: "lab", Consistency: "eventual", Host: "0000000000000001", Reachable: true, Since: time.Now().Add(-90 * time.Second),
		Hosts: []api.ClusterHost{
			{ID: "0000000000000001", Name: "n1", VTEP: "192.0.2.1:4789", State: "this", Epoch: 3, Networks: []string{"blue"}},
			{ID: "0000000000000002", Name: "n2", VTEP: "192.0.2.2:4789", State: "gone", Epoch: 1, Networks: []string{}},
		},
		Networks: []api.ClusterNetwork{{Key: "blue", VNI: 8388613, Subnets: []string{"10.50.0.0/16"}, Hosts: []string{"n1"}, Here: true}},
		Blocks:   []api.ClusterBlock{{Network: "blue", Block: "10.50.0.0/26", Host: "n1", State: "this", Used: &used}, {Network: "blue", Block: "10.50.0.64/26", Host: "n2", State: "gone"}},
		Problems: []string{"hosts n1 and n2 have one name"},
	}
}

// What people read of a cluster.
func TestCluster(t *testing.T) {
	socket, _ := clusterDaemon(t, sampleCluster())
	for command, words := range map[string][]string{
		"status":   {"cluster lab by gossip: reached, for 1m", "2 hosts, 1 of them there; 1 network, 2 address blocks", "problem: hosts n1 and n2 have one name"},
		"hosts":    {"n1 192.0.2.1:4789 this blue 3 0000000000000001", "n2 192.0.2.2:4789 gone none 1 0000000000000002"},
		"networks": {"blue 8388613 10.50.0.0/16 yes n1"},
		"blocks":   {"blue 10.50.0.0/26 n1 this 7", "blue 10.50.0.64/26 n2 gone"},
	} {
		r := tapestry(t, "cluster", command, "--api-socket", socket)
		said := strings.Join(strings.Fields(r.out), " ")
		for _, w := range words {
			if !strings.Contains(said, w) || r.code != exit.OK {
				t.Errorf("cluster %s: want %q, got %d %s%s", command, w, r.code, r.out, r.stderr)
			}
		}
	}
	away := sampleCluster()
	away.Reachable, away.Why = false, "connection refused"
	socket, _ = clusterDaemon(t, away)
	if r := tapestry(t, "cluster", "status", "--api-socket", socket); !strings.Contains(r.out, "not reached: connection refused") {
		t.Errorf("%s", r.out)
	}
	swarm := sampleCluster()
	swarm.Kind = "swarm"
	for i := range swarm.Hosts {
		swarm.Hosts[i].Epoch = 0
	}
	socket, _ = clusterDaemon(t, swarm)
	if r := tapestry(t, "cluster", "hosts", "--api-socket", socket); !strings.Contains(strings.Join(strings.Fields(r.out), " "), "n1 192.0.2.1:4789 this blue - 0000000000000001 n2 192.0.2.2:4789 gone - - 0000000000000002") {
		t.Errorf("hosts of a Swarm: %s", r.out)
	}
	if r := tapestry(t, "cluster", "status", "--api-socket", socket); r.code != exit.OK || !strings.Contains(r.out, "Docker's Swarm, as Docker has told of it\n2 hosts, 1 of them there; 1 network\n") {
		t.Errorf("%d %s", r.code, r.out)
	}
	socket, _ = clusterDaemon(t, api.Cluster{})
	if r := tapestry(t, "cluster", "hosts", "--api-socket", socket); r.code != exit.Failure || !strings.Contains(r.stderr, "in no cluster") {
		t.Errorf("in no cluster: %d %s", r.code, r.stderr)
	}
}

// Every key that a command prints is documented, and every documented key is printed.
func TestClusterKeys(t *testing.T) {
	socket, _ := clusterDaemon(t, sampleCluster())
	docs := fake.DocumentedKeys(t)
	for _, command := range []string{"status", "hosts", "networks", "blocks"} {
		var v any
		if err := json.Unmarshal([]byte(tapestry(t, "cluster", command, "--json", "--api-socket", socket).out), &v); err != nil {
			t.Fatal(err)
		}
		want := slices.Sorted(slices.Values(docs["cluster "+command]))
		if got := fake.JSONKeys(v, ""); !slices.Equal(got, want) {
			t.Errorf("cluster %s --json has\n%v\ndocs/json.md says\n%v", command, got, want)
		}
	}
}

func TestClusterForget(t *testing.T) {
	c := sampleCluster()
	socket, forgotten := clusterDaemon(t, c)
	for _, name := range []string{"n2", "0000000000000002"} {
		*forgotten = ""
		if r := tapestry(t, "cluster", "forget", name, "--api-socket", socket); r.code != exit.OK || *forgotten != "0000000000000002" || !strings.Contains(r.out, "host n2 (192.0.2.2:4789) is forgotten") {
			t.Errorf("%s: %d %s%s, forgotten %q", name, r.code, r.out, r.stderr, *forgotten)
		}
	}
	if r := tapestry(t, "cluster", "forget", "n22", "--api-socket", socket); r.code != exit.NoTarget || !strings.Contains(r.stderr, "did you mean n2?") {
		t.Errorf("a slip: %d %s", r.code, r.stderr)
	}
	c.Hosts[1].Name = "n1"
	socket, forgotten = clusterDaemon(t, c)
	if r := tapestry(t, "cluster", "forget", "n1", "--api-socket", socket); r.code != exit.Usage || *forgotten != "" || !strings.Contains(r.stderr, "2 hosts are called n1") {
		t.Errorf("two of one name: %d %s", r.code, r.stderr)
	}
}

func TestClusterKey(t *testing.T) {
	seen := make(map[string]bool)
	for range 3 {
		r := tapestry(t, "cluster", "key", "new")
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.out))
		testhost.Must(t, err)
		if len(b) != 32 || seen[r.out] {
			t.Errorf("key %q", r.out)
		}
		seen[r.out] = true
	}
}

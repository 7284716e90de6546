package metrics

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// everything is a snapshot in which each metric occurs.
func everything() *Snapshot {
	return &Snapshot{
		Networks: []Network{{ID: "0123456789ab", VNI: "80", Key: "blue", Endpoints: 1, Learned: 3, Pinned: 1, Forwarded: 5, Flooded: 1, Answered: 2, TooBig: 1, Moves: 4,
			Drops: map[string]uint64{"spoofed": 7, "mtu": 1}}},
		Ports: []Port{
			{Network: "0123456789ab", Port: "ba9876543210", Kind: "container", Name: "web", Up: true, MTU: 1450, RxFrames: 9, RxBytes: 900, TxFrames: 4, TxBytes: 400, Refused: 2,
				Drops: map[string]uint64{"spoofed": 7}},
			{Network: "0123456789ab", Port: "192.0.2.2", Kind: "remote", Name: "192.0.2.2", MTU: 1450},
		},
		Links:       []Link{{Network: "0123456789ab", Peer: "192.0.2.2", Tx: 6, Rx: 5, Lost: map[string]uint64{"full": 1, "long": 0, "failed": 0}}},
		Peers:       []Peer{{Addr: "192.0.2.2", Up: true, Answers: true, Test: "ok", RoundTrip: 250 * time.Microsecond, PathMTU: 1500, Ways: []Way{{"there", 0.25, 0, 0}, {"back", 0, 0, 0.5}}}},
		Hosts:       []Host{{Name: "b", Addr: "192.0.2.2", State: "alive"}},
		Offloads:    []Offload{{Name: "udp_gso", Users: 1, Off: 1, Refused: 2, Resent: 8}},
		Calls:       []Calls{{Method: "NetworkDriver.Join", Count: 3, Errors: 1, Seconds: 0.5, Buckets: map[float64]uint64{0.1: 1, 1: 3}}},
		LeftOut:     map[string]int{"ports": 0},
		TunnelDrops: map[string]uint64{"no_peer": 1}, HostDrops: map[string]uint64{"no_memory": 1},
		Recorder: Recorder{Bytes: 32 << 20, Kept: 100, Drops: 7},
		Captures: map[string]int{"running": 1, "waiting": 0}, CaptureFrames: map[string]uint64{"read": 10, "lost": 0},
		Events:  map[string]uint64{"port_up": 2},
		Workers: 2,
	}
}

func scrape(t *testing.T, read func() *Snapshot) string {
	t.Helper()
	w := httptest.NewRecorder()
	log := new(testhost.Log)
	Handler("v1", read, slog.New(slog.NewTextHandler(log, nil))).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || log.String() != "" {
		t.Fatalf("status %d, log %s", w.Code, log)
	}
	return w.Body.String()
}

// Values come out as they went in, by names and labels that promtool finds nothing wrong with.
func TestScrape(t *testing.T) {
	got := scrape(t, everything)
	for _, want := range []string{
		`tapestry_network_info{key="blue",network="0123456789ab",vni="80"} 1`,
		`tapestry_network_dropped_frames_total{network="0123456789ab",reason="spoofed"} 7`,
		`tapestry_network_frames_total{network="0123456789ab",verdict="answered"} 2`,
		`tapestry_fdb_entries{kind="learned",network="0123456789ab"} 3`,
		`tapestry_fdb_moves_total{network="0123456789ab"} 4`,
		`tapestry_port_info{kind="container",name="web",network="0123456789ab",port="ba9876543210"} 1`,
		`tapestry_port_up{network="0123456789ab",port="192.0.2.2"} 0`,
		`tapestry_port_received_bytes_total{network="0123456789ab",port="ba9876543210"} 900`,
		`tapestry_link_unsent_datagrams_total{network="0123456789ab",peer="192.0.2.2",reason="full"} 1`,
		`tapestry_peer_round_trip_seconds{peer="192.0.2.2"} 0.00025`,
		`tapestry_peer_path_mtu_bytes{peer="192.0.2.2"} 1500`,
		`tapestry_peer_loss_ratio{peer="192.0.2.2",way="there"} 0.25`,
		`tapestry_peer_duplicated_ratio{peer="192.0.2.2",way="back"} 0.5`,
		`tapestry_cluster_host_state{host="b",peer="192.0.2.2",state="alive"} 1`,
		`tapestry_docker_call_duration_seconds_bucket{method="NetworkDriver.Join",le="0.1"} 1`,
		`tapestry_docker_call_duration_seconds_sum{method="NetworkDriver.Join"} 0.5`,
		`tapestry_docker_call_errors_total{method="NetworkDriver.Join"} 1`,
		`tapestry_offload_resent_total{offload="udp_gso"} 8`,
		`go_goroutines `, `process_start_time_seconds `,
	} {
		if !strings.Contains(got, "\n"+want) {
			t.Errorf("the scrape does not have %s", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	for _, m := range All() {
		if !strings.Contains(got, "\n# TYPE "+m.Name+" "+m.Kind+"\n") {
			t.Errorf("no series of %s", m.Name)
		}
	}
	testhost.Tools(t, "promtool")
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(got)
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// docs/metrics.md has a row for each metric, and for none that is not there.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `tapestry_") {
			rows++
		}
	}
	if rows != len(All()) {
		t.Errorf("docs/metrics.md has %d rows, there are %d metrics", rows, len(All()))
	}
	for _, m := range All() {
		labels := ""
		for i, l := range m.Labels {
			labels += [2]string{", ", ""}[min(i, 1)^1] + "`" + l + "`"
		}
		if row := "\n| `" + m.Name + "` | " + m.Kind + " | " + labels + " | " + m.Help + " |\n"; !strings.Contains(string(b), row) {
			t.Errorf("docs/metrics.md does not have the row%s", row)
		}
	}
}

// Many scrapes at a time share what is read, and a scraper that does not read on does not keep others from it.
func TestManyScrapes(t *testing.T) {
	reads, mu := 0, sync.Mutex{}
	begun, goOn := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(Handler("v1", func() *Snapshot {
		mu.Lock()
		reads++
		first := reads == 1
		mu.Unlock()
		if first {
			close(begun)
			<-goOn
		}
		return everything()
	}, slog.New(slog.DiscardHandler)))
	defer srv.Close()
	var all sync.WaitGroup
	get := func() {
		resp, err := srv.Client().Get(srv.URL)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d, %v: %.100s", resp.StatusCode, err, b)
		}
	}
	all.Go(get)
	<-begun
	for range 100 {
		all.Go(get)
	}
	close(goOn)
	all.Wait()
	srv.Client().CloseIdleConnections()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("afterwards: %v, %v", resp, err)
	}
	resp.Body.Close()
	srv.Client().CloseIdleConnections()
}

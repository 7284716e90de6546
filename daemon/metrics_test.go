package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/cluster/member"
	"github.com/tapestry-net/tapestry/cluster/swarm"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/metrics"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/poll"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"
)

// nowhere takes all frames.
type nowhere struct{}

func (nowhere) Send(frames []*ether.Frame) (sent, bytes int) {
	for _, f := range frames {
		bytes += f.Len()
	}
	return len(frames), bytes
}

// gates is a device whose super-frames over IPv4 were refused.
type gates struct{ refused uint64 }

func (g gates) Offload(kind ether.Kind) offload.Status {
	if kind != ether.TCP4 || g.refused == 0 {
		return offload.Status{}
	}
	return offload.Status{Why: syscall.EINVAL, Since: time.Now(), Refused: g.refused, Resent: 3 * g.refused}
}

// plain is a frame of 60 bytes.
func plain(dst, src ether.MAC) ether.Frame {
	b := make([]byte, ether.Headroom+60)
	copy(b[ether.Headroom:], append(dst[:], src[:]...))
	return ether.Lend(b, ether.Offload{})
}

// addPorts makes a network with containers' ports, each of which has sent a broadcast.
func addPorts(o Observer, network, ports int) (*vswitch.Switch, []*vswitch.Port) {
	sw := vswitch.New(vswitch.Config{})
	id := fmt.Sprintf("%02d%062d", network, 0)
	o.Add(fabric.Network{ID: id, VNI: uint32(network)}, sw)
	var all []*vswitch.Port
	for i := range ports {
		name := fmt.Sprintf("%02d%010d%052d", network, i, 0)
		p := sw.Attach(name, nowhere{}, false, 1514)
		mac := ether.MAC{2, 0, 0, byte(network), byte(i >> 8), byte(i)}
		p.Pin(mac)
		o.Plug(fabric.PortView{Network: id, Kind: "container", Name: name, Number: p.Number, MAC: mac, MTU: 1500,
			Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(network), byte(i >> 8), byte(i)}), 16)}}, gates{}, nil)
		p.Ingress([]ether.Frame{plain(ether.MAC{255, 255, 255, 255, 255, 255}, mac)})
		all = append(all, p)
	}
	return sw, all
}

func newMeter() (Observer, *Meter) {
	hub, live := capture.NewHub(), new(Live)
	captures := NewCaptures(hub, "v1", slog.New(slog.DiscardHandler), nil)
	return Observer{Hub: hub, Live: live, Captures: captures, Swarm: swarm.New(4789)}, &Meter{Live: live, Captures: captures, Workers: 2}
}

// What is read is what the switches have counted; what is gone is not shown any more, but its offloads stay in the sums.
func TestMeter(t *testing.T) {
	o, m := newMeter()
	_, ports := addPorts(o, 1, 3)
	late := ports[2]
	o.Plug(fabric.PortView{Network: fmt.Sprintf("%02d%062d", 1, 0), Kind: "container", Name: late.Name, Number: late.Number, MTU: 1500}, gates{refused: 2}, nil)
	ports[1].SetDown(func() bool { return true })
	late.Ingress([]ether.Frame{plain(ether.MAC{2, 0, 0, 1, 0, 1}, ether.MAC{2, 0, 0, 1, 0, 0})})

	s := m.Read()
	if len(s.Networks) != 1 || len(s.Ports) != 3 {
		t.Fatalf("%+v", s)
	}
	n := s.Networks[0]
	if n.ID != "010000000000" || n.VNI != "1" || n.Endpoints != 3 || n.Pinned != 3 || n.Flooded != 3 || n.Drops["spoofed"] != 1 || n.Drops["mtu"] != 0 {
		t.Errorf("network %+v", n)
	}
	p := s.Ports[2]
	if p.Port != "010000000002" || p.Name != p.Port || !p.Up || p.RxFrames != 2 || p.RxBytes != 120 || len(p.Drops) != 1 || p.Drops["spoofed"] != 1 {
		t.Errorf("port %+v", p)
	}
	if s.Ports[1].Up {
		t.Error("a port that is down is shown as up")
	}
	tso4 := func(s *metrics.Snapshot) metrics.Offload { return s.Offloads[1] }
	if got := tso4(s); got != (metrics.Offload{Name: "tso4", Users: 3, Off: 1, Refused: 2, Resent: 6}) {
		t.Errorf("offload %+v", got)
	}
	o.Unplug(late.Number)
	late.Detach()
	if got := tso4(m.Read()); got != (metrics.Offload{Name: "tso4", Users: 2, Refused: 2, Resent: 6}) {
		t.Errorf("offload after the port has gone: %+v", got)
	}
	o.Remove(fmt.Sprintf("%02d%062d", 1, 0))
	if s := m.Read(); len(s.Networks)+len(s.Ports) != 0 {
		t.Errorf("of a network that is gone: %+v", s)
	}
}

// There are so many ports in what is read, and the others are counted.
func TestMeterBound(t *testing.T) {
	o, m := newMeter()
	for i := range 3 {
		addPorts(o, i, 1000)
	}
	if s := m.Read(); len(s.Ports) != maxShownPorts || s.LeftOut["ports"] != 3000-maxShownPorts || s.LeftOut["networks"] != 0 || s.Ports[0].Port != "000000000000" {
		t.Errorf("%d ports are shown, left out %v", len(s.Ports), s.LeftOut)
	}
}

// A held is an observer that keeps the fabric's lock, since the fabric calls it with that, until it may go on.
type held struct {
	Observer
	came, goOn chan struct{}
}

func (h held) Add(n fabric.Network, sw *vswitch.Switch) {
	h.Observer.Add(n, sw)
	close(h.came)
	<-h.goOn
}

// A scrape is answered while somebody has the fabric's lock, as of a call of Docker's that takes long, and no other request is.
func TestMeterWithoutLock(t *testing.T) {
	o, m := newMeter()
	h := held{o, make(chan struct{}), make(chan struct{})}
	workers, err := poll.New(1)
	testhost.Must(t, err)
	defer workers.Close()
	f, err := fabric.Open(fabric.Config{Name: "metrics", Dir: t.TempDir(), Port: testhost.UDPPort(t), Poller: workers, Observer: h, Log: slog.New(slog.DiscardHandler)})
	testhost.Must(t, err)
	m.Path, m.Dropped = f.Path, f.Dropped
	created, asked := make(chan error), make(chan fabric.Status)
	go func() { created <- f.CreateNetwork(context.Background(), fabric.Network{ID: strings.Repeat("ab", 32)}) }()
	<-h.came
	go func() { asked <- f.Status() }()

	w := httptest.NewRecorder()
	metrics.Handler("v1", m.Read, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !strings.Contains(w.Body.String(), "\ntapestry_network_endpoints{network=\"abababababab\"} 0\n") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	m.Path(netip.MustParseAddr("192.0.2.1"))
	select {
	case <-asked:
		t.Error("the lock was not held")
	default:
	}
	close(h.goOn)
	testhost.Must(t, <-created)
	if s := <-asked; s.Networks != 1 {
		t.Errorf("%d networks afterwards", s.Networks)
	}
	testhost.Must(t, f.Close())
}

// A real Prometheus reads 1,000 ports as they are, with the alerts in deploy, and says how long that took it.
func TestPrometheus(t *testing.T) {
	testhost.Tools(t, "prometheus")
	o, m := newMeter()
	for i := range 10 {
		addPorts(o, i, 100)
	}
	log := new(testhost.Log)
	l, err := ListenMetrics(netip.MustParseAddrPort("127.0.0.1:0"), slog.New(slog.NewTextHandler(log, nil)))
	testhost.Must(t, err)
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error)
	go func() {
		served <- ServeMetrics(ctx, l, metrics.Handler("v1", m.Read, slog.New(slog.NewTextHandler(log, nil))))
	}()
	defer func() {
		end()
		testhost.Must(t, <-served)
		if log.Count("level=WARN") > 0 {
			t.Errorf("log: %s", log)
		}
	}()

	dir := t.TempDir()
	rules, err := filepath.Abs("../deploy/prometheus/tapestry-alerts.yml")
	testhost.Must(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs: [{job_name: tapestry, static_configs: [{targets: [%q]}]}]\n", rules, l.Addr())
	testhost.Must(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	testhost.Must(t, err)
	at := free.Addr().String()
	free.Close()
	said := new(testhost.Log)
	cmd := exec.Command("prometheus", "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", at)
	cmd.Stdout, cmd.Stderr = said, said
	testhost.Must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	query := func(expr string) (value string, err error) {
		resp, err := http.Get("http://" + at + "/api/v1/query?query=" + url.QueryEscape(expr))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", err
		}
		var got struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		if err := json.Unmarshal(body, &got); err != nil || len(got.Data.Result) != 1 {
			return "", fmt.Errorf("%s: %s", expr, body)
		}
		return got.Data.Result[0].Value[1].(string), nil
	}
	for expr, want := range map[string]string{
		`up{job="tapestry"}`:                                                        "1",
		`count(tapestry_port_up == 1)`:                                              "1000",
		`sum(tapestry_port_received_bytes_total)`:                                   "60000",
		`count(tapestry_network_info)`:                                              "10",
		`sum(tapestry_fdb_entries{kind="pinned"})`:                                  "1000",
		`count(process_start_time_seconds{job="tapestry"})`:                         "1",
		`count(ALERTS{alertname!="TapestryDown",alertstate="firing"}) or vector(0)`: "0",
	} {
		testhost.Eventually(t, testhost.Patience, func() error {
			got, err := query(expr)
			if err == nil && got != want {
				err = fmt.Errorf("%s is %s, want %s", expr, got, want)
			}
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, said)
			}
			return err
		})
	}
	took, err := query(`min_over_time(scrape_duration_seconds{job="tapestry"}[1m])`)
	testhost.Must(t, err)
	samples, err := query(`scrape_samples_scraped{job="tapestry"}`)
	testhost.Must(t, err)
	t.Logf("a scrape of 1,000 ports: %s samples in %s s", samples, took)
	http.DefaultClient.CloseIdleConnections()
}

// A scrape of 1,000 ports, with what writes it.
func BenchmarkScrape(b *testing.B) {
	o, m := newMeter()
	for i := range 10 {
		addPorts(o, i, 100)
	}
	h := metrics.Handler("v1", m.Read, slog.New(slog.DiscardHandler))
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

// Only what is not loopback is warned of.
func TestListenMetrics(t *testing.T) {
	for _, tt := range []struct {
		addr   string
		warned int
	}{{"127.0.0.1:0", 0}, {"[::1]:0", 0}, {"0.0.0.0:0", 1}} {
		log := new(testhost.Log)
		l, err := ListenMetrics(netip.MustParseAddrPort(tt.addr), slog.New(slog.NewTextHandler(log, nil)))
		testhost.Must(t, err)
		l.Close()
		if log.Count("level=WARN") != tt.warned {
			t.Errorf("%s: %s", tt.addr, log)
		}
		if _, err := ListenMetrics(netip.MustParseAddrPort("192.0.2.1:9"), slog.New(slog.DiscardHandler)); err == nil {
			t.Error("it listens at an address that is not this host's")
		}
	}
}

// Without an address it is loopback.
func TestParseMetrics(t *testing.T) {
	for text, want := range map[string]string{"9469": "127.0.0.1:9469", ":9469": "127.0.0.1:9469", "localhost:1": "127.0.0.1:1", "0.0.0.0:9469": "0.0.0.0:9469",
		"[::1]:9469": "[::1]:9469", "192.0.2.1:65535": "192.0.2.1:65535", "0": "", "": "", "a:1": "", "192.0.2.1": "", "192.0.2.1:": "", "1:2:3": "", "65536": ""} {
		got, err := ParseMetrics(text)
		if want == "" && err == nil || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%q is %s, %v, want %q", text, got, err, want)
		}
	}
}

// A port has the name that tapestry resolver has told of one of its addresses, the shortest of several, and none that is of another network.
func TestMeterNames(t *testing.T) {
	o, m := newMeter()
	self, err := member.New(member.Config{Cluster: "a", Engine: conformance.NewHub().Engine(), Dir: t.TempDir(), Name: "n1", VTEP: conformance.Self(1).VTEP, Log: slog.New(slog.DiscardHandler)})
	testhost.Must(t, err)
	m.Cluster = self
	_, ports := addPorts(o, 1, 3)
	o.Live.networks.Range(func(_, v any) bool {
		n := v.(liveNetwork)
		n.Key = "blue"
		o.Add(n.Network, n.sw)
		return true
	})
	at := func(i byte) []netip.Addr { return []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, i})} }
	self.TellNames([]cluster.Name{{Key: "blue", Name: "web-1", Addrs: at(0)}, {Key: "blue", Name: "web", Addrs: at(0)}, {Key: "red", Name: "db", Addrs: at(1)}}, time.Now())
	s := m.Read()
	if len(s.Ports) != 3 || s.Ports[0].Name != "web" || s.Ports[1].Name != s.Ports[1].Port {
		t.Errorf("%+v", s.Ports)
	}
	self.TellNames(nil, time.Now())
	if s := m.Read(); s.Ports[0].Name != s.Ports[0].Port || ports[0].Name[:12] != s.Ports[0].Port {
		t.Errorf("when nothing is told any more: %+v", s.Ports[0])
	}
}

// Shares are of what was sent on each way; of a way on which nothing was sent there is none.
func TestWays(t *testing.T) {
	h := &tunnel.Health{Sent: tunnel.Ways{There: 8}, Lost: tunnel.Ways{There: 2}, Duplicated: tunnel.Ways{There: 1}}
	if got := waysOf(h); len(got) != 1 || got[0] != (metrics.Way{Name: "there", Lost: 0.25, Duplicated: 0.125}) {
		t.Errorf("%+v", got)
	}
}

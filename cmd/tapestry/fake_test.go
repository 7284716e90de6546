package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/tap"
)

func TestMain(m *testing.M) {
	dockerWait = time.Minute
	goleak.VerifyTestMain(m)
}

const (
	wideID  = "aaaa111111111111111111111111111111111111111111111111111111111111"
	localID = "aaab222222222222222222222222222222222222222222222222222222222222"
	otherID = "80cc333333333333333333333333333333333333333333333333333333333333"
	webID   = "9b1d444444444444444444444444444444444444444444444444444444444444"
)

// fakeHost is a fabric with fixed views and a list of peers that can be changed.
type fakeHost struct {
	busy   string   // a network that ForgetNetwork refuses
	forgot []string // networks that it took
	mu     sync.Mutex
	peers  []netip.AddrPort

	empty bool
	nodes []netip.Addr // of the Swarm
	fakeFaults
}

func newFakeHost() *fakeHost {
	return &fakeHost{peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4789"), netip.MustParseAddrPort("[2001:db8::2]:1")}}
}

func (h *fakeHost) Status() fabric.Status {
	s := h.fixed()
	s.Faults = len(h.Faults())
	return s
}

func (h *fakeHost) fixed() fabric.Status {
	if h.empty {
		return fabric.Status{Tunnel: "closed", Port: 4789}
	}
	return fabric.Status{VTEP: netip.MustParseAddr("192.0.2.1"), Port: 4789, Tunnel: "open", Workers: 2, Networks: 3, Endpoints: 1,
		RxDropped: map[string]uint64{"no_peer": 12, "short": 0}, KernelDropped: map[string]uint64{"bad_checksum": 3},
		Offloads: []fabric.OffloadView{{Name: "csum", State: "on", Users: 3}, {Name: "tso4", State: "on", Users: 3},
			{Name: "tso6", State: "unused"}, {Name: "uso", State: "unavailable", Why: "not supported by this kernel", Since: time.Hour, Users: 3, Off: 3},
			{Name: "udp_gso", State: "off", Why: "EINVAL", Since: 12 * time.Second, Users: 2, Off: 1, Refused: 1, Resent: 45}},
		Conflicts: []fabric.Conflict{{Network: wideID, MAC: ether.MAC{2, 0x42, 10, 80, 1, 2}, Owner: webID, Rival: "192.0.2.2:4789", Count: 4,
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16")}}}}
}

func (h *fakeHost) Networks() []fabric.NetworkView {
	if h.empty {
		return nil
	}
	view := func(id string, vni uint32) fabric.NetworkView {
		return fabric.NetworkView{Network: fabric.Network{ID: id, VNI: vni, Attach: tap.Veth, Ageing: 300 * time.Second, External: true}, LinkMTU: 1500}
	}
	wide, other := view(wideID, 80), view(otherID, 90)
	wide.LinkMTU, wide.Endpoints, wide.Stations, wide.Rx, wide.Forwarded, wide.Flooded = 1450, 1, 2, 1043, 1000, 40
	wide.Drops = map[string]uint64{"spoofed": 3, "runt": 0}
	other.Down = "UDP port 4789 is taken"
	return []fabric.NetworkView{view(localID, 0), wide, other}
}

func (h *fakeHost) Ports(network string) []fabric.PortView {
	if h.empty || network != "" && network != wideID {
		return nil
	}
	return []fabric.PortView{
		{Network: wideID, VNI: 80, Kind: "remote", Name: "192.0.2.2:4789", MTU: 1450, Down: "no route", RxFrames: 7, RxBytes: 700, Offered: 2, Refused: 2, WireTx: 9, WireRx: 8},
		{Network: wideID, VNI: 80, Kind: "container", Name: webID, Link: "tp9b1d", MAC: ether.MAC{2, 0x42, 10, 80, 1, 2}, MTU: 1450,
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16")}, RxFrames: 1036, RxBytes: 1234567, TxFrames: 5, TxBytes: 999,
			Offered: 5, Drops: map[string]uint64{"spoofed": 3, "mtu": 30, "runt": 0}},
	}
}

func (h *fakeHost) Entries(network string) []fabric.EntryView {
	if h.empty || network != "" && network != wideID {
		return nil
	}
	return []fabric.EntryView{
		{Network: wideID, VNI: 80, MAC: ether.MAC{2, 0x42, 10, 80, 2, 9}, Port: "192.0.2.2:4789", Remote: true, Age: 83*time.Second + time.Millisecond},
		{Network: wideID, VNI: 80, MAC: ether.MAC{2, 0x42, 10, 80, 1, 2}, Port: webID, Pinned: true},
	}
}

func (h *fakeHost) Peers(network string) []fabric.PeerView {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.empty || network != "" && network != wideID {
		return nil
	}
	var views []fabric.PeerView
	for i, p := range h.peers {
		v := fabric.PeerView{Network: wideID, VNI: 80, Addr: p, MTU: 1450, GSO: true, Heard: -1, Test: fabric.PeerTest{GSO: "no answer", Age: -1}}
		if i == 0 {
			v.Test = fabric.PeerTest{GSO: "ok", RTT: 1500 * time.Microsecond, Age: 61 * time.Second}
			v.Heard, v.WireRx, v.RxFrames, v.RxBytes = 3*time.Second, 8, 7, 700
		}
		views = append(views, v)
	}
	return views
}

func (h *fakeHost) AddPeer(_ context.Context, network string, p netip.AddrPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if network == localID {
		return errLocal
	}
	if network != wideID {
		return fabric.ErrNoNetwork
	}
	if p.Port() == 0 {
		p = netip.AddrPortFrom(p.Addr(), 4789)
	}
	h.peers = append(h.peers, p)
	return nil
}

var errLocal = errors.New("network mynet has no VNI, so it has no peers")

func (h *fakeHost) ForgetNetwork(_ context.Context, id string) error {
	if id == h.busy {
		return fmt.Errorf("network %s: container with endpoint x runs on it: %w", short(id), fabric.ErrInUse)
	}
	h.forgot = append(h.forgot, id)
	return nil
}

func (h *fakeHost) Trace(context.Context, fabric.TraceRequest) (fabric.TraceView, error) {
	return fabric.TraceView{}, errors.New("this host traces nothing")
}

func (h *fakeHost) TestPeers(context.Context) ([]fabric.PeerTest, error) {
	if h.empty {
		return nil, nil
	}
	return []fabric.PeerTest{{Addr: netip.MustParseAddrPort("192.0.2.2:4789"), GSO: "mangled", Why: "3 of 40 segments arrived"},
		{Addr: netip.MustParseAddrPort("[2001:db8::2]:1"), GSO: "no answer"}}, nil
}

func (h *fakeHost) Nodes() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.nodes)
}

func (h *fakeHost) NodeJoined(_ context.Context, addr netip.Addr, _ bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if addr == netip.MustParseAddr("192.0.2.66") {
		return errors.New("write what is known of the Swarm: no space left on device")
	}
	if !slices.Contains(h.nodes, addr) {
		h.nodes = append(h.nodes, addr)
	}
	return nil
}

func (h *fakeHost) RemovePeer(_ context.Context, network string, p netip.AddrPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if network != wideID {
		return fabric.ErrNoNetwork
	}
	for i, known := range h.peers {
		if known.Addr() == p.Addr() && (p.Port() == 0 || known == p) {
			h.peers = slices.Delete(h.peers, i, i+1)
			return nil
		}
	}
	return fmt.Errorf("peer %s of network wide: %w", p.Addr(), fabric.ErrNoPeer)
}

// serveUnix serves h on a socket of its own until the test ends.
func serveUnix(t *testing.T, name string, h http.Handler) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return path
}

// fakeDaemon is the real API over a fakeHost.
func fakeDaemon(t *testing.T, h *fakeHost) (socket string) {
	a := &api{host: h, log: slog.New(slog.DiscardHandler), name: "tapestry", started: time.Now().Add(-90 * time.Minute)}
	return serveUnix(t, "tapestry.sock", a.handler())
}

// fakeDocker knows three networks; "other" of the daemon's is not among them. It gives its address.
func fakeDocker(t *testing.T, networks ...dockerNetwork) (dockerHost string) {
	if networks == nil {
		networks = []dockerNetwork{{ID: wideID, Name: "wide", Driver: "tapestry"}, {ID: localID, Name: "mynet", Driver: "tapestry"},
			{ID: "dddd" + strings.Repeat("5", 60), Name: "bridge", Driver: "bridge"}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(networks) })
	mux.HandleFunc("GET /networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == wideID {
			_, _ = w.Write([]byte(`{"Id":"` + wideID + `","Name":"wide","Containers":{"c0":{"Name":"web","EndpointID":"` + webID + `","IPv4Address":"10.80.1.2/16"},` +
				`"c1":{"Name":"db","EndpointID":"` + dbID + `","IPv4Address":"10.80.1.3/16"}}}`))
			return
		}
		http.NotFound(w, r)
	})
	return "unix://" + serveUnix(t, "docker.sock", mux)
}

type result struct {
	code        int
	out, stderr string
}

func tapestry(t *testing.T, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := execute(t.Context(), args, &out, &stderr)
	return result{code, out.String(), stderr.String()}
}

// Package fake is what unit tests have instead of a fabric, a Docker and a daemon's captures.
package fake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/tap"
)

// The daemon's networks, and the endpoint of the container web on the network wide: whole ids as Docker makes them.
const (
	WideID  = "aaaa111111111111111111111111111111111111111111111111111111111111"
	LocalID = "aaab222222222222222222222222222222222222222222222222222222222222"
	OtherID = "80cc333333333333333333333333333333333333333333333333333333333333"
	WebID   = "9b1d444444444444444444444444444444444444444444444444444444444444"
)

// WriteJSON writes a reply's body as JSON, as the daemon does.
func WriteJSON(w http.ResponseWriter, body any) { _ = json.NewEncoder(w).Encode(body) }

// Fabric is a fabric (daemon.API's Fabric) with fixed views. What can be changed are its peers, the Swarm's nodes, its networks'
// removal and faults.
type Fabric struct {
	Empty  bool     // it has no networks, ports, entries and peers, and its tunnel is closed
	Busy   string   // id of a network that ForgetNetwork refuses, since a container uses it
	Forgot []string // ids of the networks that ForgetNetwork was called with

	Keys map[string]string // of networks that hosts share, by id

	mu    sync.Mutex
	Addrs []netip.AddrPort // peers of the network wide; guarded by mu while the fabric is served
	Known []netip.Addr     // the Swarm's nodes; guarded by mu while the fabric is served
	FaultTable
}

// NewFabric returns a Fabric with two peers on the network wide.
func NewFabric() *Fabric {
	return &Fabric{Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4789"), netip.MustParseAddrPort("[2001:db8::2]:1")}}
}

// Status returns the same each time, apart from the number of faults: two networks of three are up, and some offloads are not used.
func (h *Fabric) Status() fabric.Status {
	s := h.fixed()
	s.Faults = len(h.Faults())
	return s
}

func (h *Fabric) fixed() fabric.Status {
	if h.Empty {
		return fabric.Status{Tunnel: "closed", Port: 4789}
	}
	return fabric.Status{VTEP: netip.MustParseAddr("192.0.2.1"), Port: 4789, Tunnel: "open", Workers: 2, Networks: 3, Endpoints: 1,
		RxDropped: map[string]uint64{"no_peer": 12, "short": 0}, KernelDropped: map[string]uint64{"bad_checksum": 3},
		Offloads: []fabric.OffloadView{{Name: "csum", State: "on", Users: 3}, {Name: "tso4", State: "on", Users: 3},
			{Name: "tso6", State: "unused"}, {Name: "uso", State: "unavailable", Why: "not supported by this kernel", Since: time.Hour, Users: 3, Off: 3},
			{Name: "udp_gso", State: "off", Why: "EINVAL", Since: 12 * time.Second, Users: 2, Off: 1, Refused: 1, Resent: 45}},
		Conflicts: []fabric.Conflict{{Network: WideID, MAC: ether.MAC{2, 0x42, 10, 80, 1, 2}, Owner: WebID, Rival: "192.0.2.2:4789", Count: 4,
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16")}}},
		Trips: []fabric.Trip{{Network: WideID, Port: WebID, Guard: "ra", Count: 7}, {Network: WideID, Port: "192.0.2.2:4789", Guard: "spoofed_ip", Owner: WebID, Count: 2}}}
}

// Networks returns mynet (no VNI), wide (VNI 80) and one that is down (VNI 90).
func (h *Fabric) Networks() []fabric.NetworkView {
	if h.Empty {
		return nil
	}
	view := func(id string, vni uint32) fabric.NetworkView {
		return fabric.NetworkView{Network: fabric.Network{ID: id, Key: h.Keys[id], VNI: vni, Attach: tap.Veth, Ageing: fabric.DefaultAgeing, External: true}, Settings: fabric.Settings{Guard: "full", Storm: 50_000}, LinkMTU: 1500}
	}
	wide, other := view(WideID, 80), view(OtherID, 90)
	wide.LinkMTU, wide.Endpoints, wide.Stations, wide.Rx, wide.Forwarded, wide.Flooded, wide.Answered = 1450, 1, 2, 1043, 1000, 38, 2
	wide.Drops = map[string]uint64{"spoofed": 3, "runt": 0}
	other.Down = "UDP port 4789 is taken"
	return []fabric.NetworkView{view(LocalID, 0), wide, other}
}

// Ports returns the two ports of wide: a remote that is down, and web. network is an id; "": all.
func (h *Fabric) Ports(network string) []fabric.PortView {
	if h.Empty || network != "" && network != WideID {
		return nil
	}
	return []fabric.PortView{
		{Network: WideID, VNI: 80, Kind: "remote", Name: "192.0.2.2:4789", MTU: 1450, Settings: fabric.Settings{Guard: "full"}, Down: "no route", RxFrames: 7, RxBytes: 700, Offered: 2, Refused: 2, WireTx: 9, WireRx: 8},
		{Network: WideID, VNI: 80, Kind: "container", Name: WebID, Link: "tp9b1d", MAC: ether.MAC{2, 0x42, 10, 80, 1, 2}, MTU: 1450, Settings: fabric.Settings{Guard: "full", Storm: 50_000},
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16")}, RxFrames: 1036, RxBytes: 1234567, TxFrames: 5, TxBytes: 999,
			Offered: 5, Drops: map[string]uint64{"spoofed": 3, "mtu": 30, "runt": 0}},
	}
}

// Entries returns two entries of wide's forwarding database: a learned one of the remote, and web's pinned one.
func (h *Fabric) Entries(network string) []fabric.EntryView {
	if h.Empty || network != "" && network != WideID {
		return nil
	}
	return []fabric.EntryView{
		{Network: WideID, VNI: 80, MAC: ether.MAC{2, 0x42, 10, 80, 2, 9}, Port: "192.0.2.2:4789", Remote: true, Age: 83*time.Second + time.Millisecond},
		{Network: WideID, VNI: 80, MAC: ether.MAC{2, 0x42, 10, 80, 1, 2}, Port: WebID, Pinned: true},
	}
}

// Peers returns a view of each of Addrs; only the first one was heard and answers the self-test.
func (h *Fabric) Peers(network string) []fabric.PeerView {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.Empty || network != "" && network != WideID {
		return nil
	}
	var views []fabric.PeerView
	for i, p := range h.Addrs {
		v := fabric.PeerView{Network: WideID, VNI: 80, Addr: p, MTU: 1450, GSO: true, Heard: -1, Test: fabric.PeerTest{GSO: "no answer", Age: -1}}
		if i == 0 {
			v.Test = fabric.PeerTest{GSO: "ok", RTT: 1500 * time.Microsecond, Age: 61 * time.Second,
				Health: &fabric.Health{Sent: fabric.Ways{There: 192, Back: 189}, Lost: fabric.Ways{There: 3, Back: 1}, Reordered: fabric.Ways{Back: 2}, Duplicated: fabric.Ways{There: 4},
					MinRTT: 500 * time.Microsecond, MaxRTT: 2500 * time.Microsecond}}
			v.PathMTU = 1500
			v.Heard, v.WireRx, v.RxFrames, v.RxBytes = 3*time.Second, 8, 7, 700
		}
		views = append(views, v)
	}
	return views
}

// AddPeer adds to Addrs; a port of 0 means 4789. Only the network wide takes peers.
func (h *Fabric) AddPeer(_ context.Context, network string, p netip.AddrPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if network == LocalID {
		return errLocal
	}
	if network != WideID {
		return fabric.ErrNoNetwork
	}
	if p.Port() == 0 {
		p = netip.AddrPortFrom(p.Addr(), 4789)
	}
	h.Addrs = append(h.Addrs, p)
	return nil
}

// AddPeerName takes no name.
func (h *Fabric) AddPeerName(context.Context, string, fabric.PeerName) error { return errLocal }

// RemovePeerName has none.
func (h *Fabric) RemovePeerName(context.Context, string, fabric.PeerName) error {
	return fabric.ErrNoPeer
}

var errLocal = errors.New("network mynet has no VNI, so it has no peers")

// ForgetNetwork appends id to Forgot, unless it is Busy.
func (h *Fabric) ForgetNetwork(_ context.Context, id string) error {
	if id == h.Busy {
		return fmt.Errorf("network %s: container with endpoint x runs on it: %w", id[:12], fabric.ErrInUse)
	}
	h.Forgot = append(h.Forgot, id)
	return nil
}

// Trace always fails.
func (h *Fabric) Trace(context.Context, fabric.TraceRequest) (fabric.TraceView, error) {
	return fabric.TraceView{}, errors.New("this host traces nothing")
}

// TestPeers returns a result for each of NewFabric's peers: one that mangles segments, and one that does not answer.
func (h *Fabric) TestPeers(context.Context) ([]fabric.PeerTest, error) {
	if h.Empty {
		return nil, nil
	}
	return []fabric.PeerTest{{Addr: netip.MustParseAddrPort("192.0.2.2:4789"), GSO: "mangled", Why: "3 of 40 segments arrived"},
		{Addr: netip.MustParseAddrPort("[2001:db8::2]:1"), GSO: "no answer"}}, nil
}

// Nodes returns a copy of Known.
func (h *Fabric) Nodes() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.Known)
}

// NodeJoined adds a node to Known. For 192.0.2.66 it fails as if the disk were full.
func (h *Fabric) NodeJoined(_ context.Context, addr netip.Addr, _ bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if addr == netip.MustParseAddr("192.0.2.66") {
		return errors.New("write what is known of the Swarm: no space left on device")
	}
	if !slices.Contains(h.Known, addr) {
		h.Known = append(h.Known, addr)
	}
	return nil
}

// RemovePeer removes a peer from Addrs; a port of 0 means whatever port it has.
func (h *Fabric) RemovePeer(_ context.Context, network string, p netip.AddrPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if network != WideID {
		return fabric.ErrNoNetwork
	}
	for i, known := range h.Addrs {
		if known.Addr() == p.Addr() && (p.Port() == 0 || known == p) {
			h.Addrs = slices.Delete(h.Addrs, i, i+1)
			return nil
		}
	}
	return fmt.Errorf("peer %s of network wide: %w", p.Addr(), fabric.ErrNoPeer)
}

// Endpoints of the container db and of one that comes later, both on wide; and the ids of the containers web and db.
const (
	DbID  = "5a5a555555555555555555555555555555555555555555555555555555555555"
	NewID = "7c7c666666666666666666666666666666666666666666666666666666666666"

	WebContainer = "c1c1000000000000000000000000000000000000000000000000000000000000"
	DbContainer  = "d2d2000000000000000000000000000000000000000000000000000000000000"
)

// Ids of managed plugins, as Docker makes them.
const (
	PluginID = "3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b"
	SecondID = "4a2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b"
	ThirdID  = "5b2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b"
)

// Daemon serves the real API over h until the test ends, and returns the path of its socket.
func Daemon(t *testing.T, h *Fabric) (socket string) {
	a := &daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel", Started: time.Now().Add(-90 * time.Minute)}
	return ServeUnix(t, "tapestry.sock", a.Handler())
}

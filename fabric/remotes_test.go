package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

func (h *host) peers(network string) (addrs []string) {
	for _, p := range h.Peers(network) {
		addrs = append(addrs, p.Addr.Addr().String())
		if p.Down != "" || p.Addr.Port() == 0 || p.MTU == 0 {
			h.t.Errorf("peer %+v", p)
		}
	}
	var ports []string
	for _, p := range h.Ports(network) {
		if p.Kind == "remote" {
			ports = append(ports, p.Name)
		}
	}
	sorted := slices.Sorted(slices.Values(addrs))
	if !slices.Equal(sorted, ports) {
		h.t.Errorf("peers are %v, their ports %v", sorted, ports)
	}
	return sorted
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// A network's peer list: the daemon's until it has its own, this host left out, and remembered.
func TestPeers(t *testing.T) {
	h := newHost(t)
	h.close()
	h.cfg.Peers = []netip.AddrPort{addrPort("127.0.0.1:0"), addrPort("127.0.0.7:0"), addrPort("127.0.0.8:4999")}
	h.start()
	h.mustNetwork(wide(1, 1))
	h.mustNetwork(wide(2, 2, "127.0.0.1", "127.0.0.2"))
	none := wide(3, 3)
	none.Peers = []netip.AddrPort{}
	h.mustNetwork(none)
	want := map[int][]string{1: {"127.0.0.7", "127.0.0.8"}, 2: {"127.0.0.2"}, 3: nil}
	check := func(when string) {
		t.Helper()
		for i, want := range want {
			if got := h.peers(netID(i)); !slices.Equal(got, want) {
				t.Errorf("%s: network %d has peers %v, want %v", when, i, got, want)
			}
		}
	}
	check("created")
	for i, def := range map[int]bool{1: true, 2: false} {
		for _, p := range h.Peers(netID(i)) {
			if p.Default != def {
				t.Errorf("peer %s of network %d is a default one: %v", p.Addr, i, p.Default)
			}
		}
	}
	for i := 1; i <= 3; i++ {
		for range 2 {
			if err := h.AddPeer(t.Context(), netID(i), addrPort("127.0.0.9:0")); err != nil {
				t.Error(err)
			}
		}
	}
	want = map[int][]string{1: {"127.0.0.7", "127.0.0.8", "127.0.0.9"}, 2: {"127.0.0.2", "127.0.0.9"}, 3: {"127.0.0.9"}}
	check("added")
	h.cfg.Peers = []netip.AddrPort{addrPort("127.0.0.99:0")}
	h.restart()
	check("added, restarted")
	for i, addr := range map[int]string{1: "127.0.0.8:0", 2: "127.0.0.2:0", 3: fmt.Sprint("127.0.0.9:", h.cfg.Port)} {
		if err := h.RemovePeer(t.Context(), netID(i), addrPort(addr)); err != nil {
			t.Error(err)
		}
	}
	want = map[int][]string{1: {"127.0.0.7", "127.0.0.9"}, 2: {"127.0.0.9"}, 3: nil}
	check("removed")
	h.crash()
	h.start()
	check("removed, crashed")
	h.mustNetwork(wide(1, 1)) // the same create still finds the same network
	h.mustNetwork(none)
}

func TestPeersRefused(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.mustNetwork(wide(2, 2, "127.0.0.2"))
	before := fmt.Sprint(h.records(), h.Peers(""))
	for _, tc := range []struct {
		name, network, addr string
		add                 bool
		is                  error
		want                string
	}{
		{"unknown network", netID(9), "127.0.0.3:0", true, ErrNoNetwork, netID(9)[:12]},
		{"no VNI", netID(1), "127.0.0.3:0", true, nil, "has no VNI, so it has no peers"},
		{"this host", netID(2), "127.0.0.1:0", true, nil, "127.0.0.1 is this host itself"},
		{"another port", netID(2), "127.0.0.2:4999", true, ErrInUse, fmt.Sprintf("127.0.0.2 is a peer with port %d already", h.cfg.Port)},
		{"other IP version", netID(2), "[::2]:0", true, nil, "of different IP versions"},
		{"remove what is not there", netID(2), "127.0.0.3:0", false, ErrNoPeer, "127.0.0.3"},
		{"remove with another port", netID(2), "127.0.0.2:4999", false, ErrNoPeer, "127.0.0.2"},
		{"remove, unknown network", netID(9), "127.0.0.2:0", false, ErrNoNetwork, netID(9)[:12]},
		{"remove, no VNI", netID(1), "127.0.0.2:0", false, nil, "has no VNI"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			change := h.RemovePeer
			if tc.add {
				change = h.AddPeer
			}
			err := change(t.Context(), tc.network, addrPort(tc.addr))
			if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if after := fmt.Sprint(h.records(), h.Peers("")); after != before {
				t.Errorf("was %s,\nis %s", before, after)
			}
		})
	}
}

// The list of a network whose tunnel is down can be changed, also if that list keeps it down.
func TestPeersWhileDown(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
	h.close()
	taken, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.cfg.VTEP, h.cfg.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	h.start()
	if v := h.Networks()[0]; v.Down == "" {
		t.Fatal("the network has its tunnel although the port is taken")
	}
	if err := h.AddPeer(t.Context(), netID(1), addrPort("127.0.0.3:0")); err != nil {
		t.Error(err)
	}
	if err := h.RemovePeer(t.Context(), netID(1), addrPort("127.0.0.2:0")); err != nil {
		t.Error(err)
	}
	if got := h.records()[netID(1)].Peers; !slices.Equal(got, []netip.AddrPort{addrPort("127.0.0.3:0")}) {
		t.Errorf("remembered %v", got)
	}
	taken.Close()
	h.at(fixEvery)
	if v, peers := h.Networks()[0], h.Peers(netID(1)); v.Down != "" || len(peers) != 1 || peers[0].Down != "" || peers[0].MTU == 0 {
		t.Errorf("down %q, peers %+v", v.Down, peers)
	}
}

// far is the other host: a socket on another loopback address, and gopacket for VXLAN.
type far struct {
	t    *testing.T
	conn *net.UDPConn
	to   netip.AddrPort
}

func newFar(h *host, addr string) *far {
	h.t.Helper()
	local := netip.AddrPortFrom(netip.MustParseAddr(addr), h.cfg.Port)
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return &far{h.t, conn, netip.AddrPortFrom(h.addrs().To(local.Addr()), h.cfg.Port)}
}

func (f *far) send(vni uint32, src, dst ether.MAC, payload string) {
	f.t.Helper()
	b := packets.Serialize(&layers.VXLAN{ValidIDFlag: true, VNI: vni},
		&layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: 0x88b5}, gopacket.Payload(payload))
	if _, err := f.conn.WriteToUDPAddrPort(b, f.to); err != nil {
		f.t.Fatal(err)
	}
}

// expect waits for a datagram of the network with the payload, whatever comes before it but what is never to come.
func (f *far) expect(vni uint32, payload string, never ...string) {
	f.t.Helper()
	if err := f.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		f.t.Fatal(err)
	}
	for b := make([]byte, 2000); ; {
		n, from, err := f.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			f.t.Fatalf("%q has not come: %v", payload, err)
		}
		p := gopacket.NewPacket(b[:n], layers.LayerTypeVXLAN, gopacket.Default)
		vx, ok := p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok || !vx.ValidIDFlag || from.Addr() != f.to.Addr() || from.Port() < 49152 {
			f.t.Fatalf("from %s: %s", from, p)
		}
		got := string(p.LinkLayer().LayerPayload())
		if slices.Contains(never, got) {
			f.t.Errorf("%q has come", got)
		}
		if vx.VNI == vni && got == payload {
			return
		}
	}
}

// Frames cross to the other host and back, of their network only, and the table tells from where.
func TestOtherHost(t *testing.T) {
	h := newHost(t)
	there := newFar(h, "127.0.0.2")
	h.mustNetwork(wide(1, 80, "127.0.0.2"))
	h.mustNetwork(wide(2, 81, "127.0.0.3"))
	h.container(netID(1), ep(1))
	h.container(netID(2), ep(2))
	here := h.m.dev(t, epID(1))
	here.feed(ep(1).MAC, broadcast, "who is there")
	there.expect(80, "who is there")
	remote := ether.MAC{2, 9, 9, 9, 9, 9}
	there.send(80, remote, ep(1).MAC, "me")
	here.expect(t, "me")
	here.feed(ep(1).MAC, remote, "you")
	there.expect(80, "you")
	learned := func() (at EntryView) {
		for _, e := range h.Entries("") {
			if e.MAC == remote {
				at = e
			}
		}
		return at
	}
	if e := learned(); e.Port != "127.0.0.2" || !e.Remote || e.Pinned || e.VNI != 80 {
		t.Errorf("the remote station is %+v", e)
	}
	h.at(time.Second)
	h.poller.Sync() // what is being sent is in the counters of one side only
	if p := h.Peers(netID(1))[0]; p.WireRx != 1 || p.WireTx < 2 || p.Heard < 0 || p.RxFrames != 1 || p.TxFrames != p.WireTx {
		t.Errorf("the peer is %+v", p)
	}
	// A local station's address does not come from elsewhere.
	there.send(80, ep(1).MAC, broadcast, "forged")
	there.send(80, remote, ep(1).MAC, "after it")
	here.expect(t, "after it")
	if c := h.Status().Conflicts; len(c) != 1 || c[0].Rival != "127.0.0.2" || c[0].Count != 1 {
		t.Errorf("conflicts are %+v", c)
	}
	// A datagram of a host that is no peer of its VNI, or no longer, reaches no switch.
	h.poller.Sync() // what has been delivered is counted with its batch's end
	rx := h.Networks()[0].Rx
	there.send(81, remote, broadcast, "no peer")
	there.waitRxDropped(h, 1)
	if err := h.RemovePeer(t.Context(), netID(1), addrPort("127.0.0.2:0")); err != nil {
		t.Fatal(err)
	}
	if e := learned(); e.MAC != (ether.MAC{}) {
		t.Errorf("a station of a removed peer is remembered: %+v", e)
	}
	there.send(80, remote, broadcast, "no peer")
	there.waitRxDropped(h, 2)
	if n := h.Networks(); n[0].Rx != rx || n[1].Rx != n[1].Flooded {
		t.Errorf("frames of a host that is no peer reached a switch: %+v", n)
	}
	for _, n := range h.Networks() {
		sum := n.Forwarded + n.Flooded
		for _, x := range n.Drops {
			sum += x
		}
		if n.Rx != sum || n.Rx == 0 {
			t.Errorf("the counters do not add up: %+v", n)
		}
	}
	for _, p := range h.Ports("") {
		if p.Offered != p.TxFrames+p.Refused {
			t.Errorf("the counters do not add up: %+v", p)
		}
	}
}

// waitRxDropped waits until so many datagrams have been dropped on receive.
func (f *far) waitRxDropped(h *host, n uint64) {
	for h.Status().RxDropped["no_peer"] < n && f.t.Context().Err() == nil {
		h.poller.Sync()
	}
}

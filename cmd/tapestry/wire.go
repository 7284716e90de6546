package main

import (
	"net/netip"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
)

// The replies are what the daemon writes and the commands read, and what --json prints; docs/json.md explains
// every key. NetworkName and Container are Docker's names: the daemon never knows them, the commands fill them in.

type statusReply struct {
	Name          string            `json:"name"`
	Scope         string            `json:"scope"`
	Plugin        string            `json:"plugin"`    // Docker's name of the managed plugin that the daemon is
	PluginID      string            `json:"plugin_id"` // "": it is none. Both are for the commands to fill in
	Version       string            `json:"version"`
	StartedAt     time.Time         `json:"started_at"`
	UptimeSeconds int64             `json:"uptime_seconds"`
	PID           int               `json:"pid"`
	Workers       int               `json:"workers"`
	Goroutines    int               `json:"goroutines"`
	VTEP          string            `json:"vtep"`
	VXLANPort     uint16            `json:"vxlan_port"`
	Tunnel        string            `json:"tunnel"`
	Why           string            `json:"why"`
	Networks      int               `json:"networks"`
	Endpoints     int               `json:"endpoints"`
	Strangers     map[string]uint64 `json:"strangers"`
	Outside       map[string]uint64 `json:"outside"`
	Offloads      []offloadReply    `json:"offloads"`
	Conflicts     []conflictReply   `json:"conflicts"`
	Faults        int               `json:"faults"`
	PortsDown     int               `json:"ports_down"`
	Captures      []captureBooks    `json:"captures"`
	Recorder      recorderReply     `json:"recorder"`
}

type offloadReply struct {
	Name       string `json:"name"`
	State      string `json:"state"`
	Why        string `json:"why"`
	OffSeconds *int64 `json:"off_seconds"` // null: it is not off
	Users      int    `json:"users"`
	Off        int    `json:"off"`
	Refused    uint64 `json:"refused"`
	Resent     uint64 `json:"resent"`
}

type conflictReply struct {
	Network     string    `json:"network"`
	NetworkName string    `json:"network_name,omitempty"`
	MAC         ether.MAC `json:"mac"`
	Addresses   []string  `json:"addresses"`
	Owner       string    `json:"owner"`
	Container   string    `json:"container,omitempty"` // the owner's
	Rival       string    `json:"rival"`
	Frames      uint64    `json:"frames"`
}

type networkReply struct {
	ID             string            `json:"id"`
	Name           string            `json:"name"` // "" unless Docker tells it
	VNI            uint32            `json:"vni"`
	MTU            int               `json:"mtu"`
	Attach         string            `json:"attach"`
	AgeingSeconds  float64           `json:"ageing_seconds"`
	External       bool              `json:"external"`
	Swarm          bool              `json:"swarm"`
	Host           []string          `json:"host"`
	Endpoints      int               `json:"endpoints"`
	AddressesKnown int               `json:"addresses_known"`
	Down           string            `json:"down"`
	Rx             uint64            `json:"rx"`
	Forwarded      uint64            `json:"forwarded"`
	Flooded        uint64            `json:"flooded"`
	Drops          map[string]uint64 `json:"drops"`
}

type portReply struct {
	Network     string            `json:"network"`
	NetworkName string            `json:"network_name,omitempty"`
	VNI         uint32            `json:"vni"`
	Kind        string            `json:"kind"`
	Name        string            `json:"name"`
	Container   string            `json:"container,omitempty"`
	Link        string            `json:"link"`
	MAC         string            `json:"mac"` // "" of a remote
	Addresses   []string          `json:"addresses"`
	MTU         int               `json:"mtu"`
	State       string            `json:"state"`
	Why         string            `json:"why"`
	RxFrames    uint64            `json:"rx_frames"`
	RxBytes     uint64            `json:"rx_bytes"`
	TxFrames    uint64            `json:"tx_frames"`
	TxBytes     uint64            `json:"tx_bytes"`
	Offered     uint64            `json:"offered"`
	Refused     uint64            `json:"refused"`
	Drops       map[string]uint64 `json:"drops"`
	Missed      uint64            `json:"missed"`
	WireTx      uint64            `json:"wire_tx"`
	WireRx      uint64            `json:"wire_rx"`
}

type entryReply struct {
	Network     string    `json:"network"`
	NetworkName string    `json:"network_name,omitempty"`
	VNI         uint32    `json:"vni"`
	MAC         ether.MAC `json:"mac"`
	Port        string    `json:"port"`
	Container   string    `json:"container,omitempty"`
	Kind        string    `json:"kind"`
	AgeSeconds  int64     `json:"age_seconds"`
}

type peerReply struct {
	Network      string            `json:"network"`
	NetworkName  string            `json:"network_name,omitempty"`
	VNI          uint32            `json:"vni"`
	Addr         string            `json:"addr"`
	Default      bool              `json:"default"`
	Swarm        bool              `json:"swarm"`
	Left         bool              `json:"left"`
	State        string            `json:"state"`
	Why          string            `json:"why"`
	MTU          int               `json:"mtu"`
	GSO          bool              `json:"gso"`
	GSOWhy       string            `json:"gso_why"`
	RemoteSum    bool              `json:"remote_checksum"`
	Test         string            `json:"test"`
	TestWhy      string            `json:"test_why"`
	TestSeconds  *int64            `json:"test_seconds"` // null: never
	RTTSeconds   *float64          `json:"rtt_seconds"`  // null: no answer
	RxFrames     uint64            `json:"rx_frames"`
	RxBytes      uint64            `json:"rx_bytes"`
	TxFrames     uint64            `json:"tx_frames"`
	TxBytes      uint64            `json:"tx_bytes"`
	WireTx       uint64            `json:"wire_tx"`
	WireRx       uint64            `json:"wire_rx"`
	Lost         map[string]uint64 `json:"lost"`
	HeardSeconds *int64            `json:"heard_seconds"` // null: never
}

// testsReply is what came of test frames to the peers; no command prints it as JSON.
type testsReply struct {
	Tests []testReply `json:"tests"`
	Why   string      `json:"why"` // they are not finished; "": they are
}

type testReply struct {
	Addr       string `json:"addr"`
	GSO        string `json:"gso"` // as fabric.PeerTest has it
	Why        string `json:"why"`
	AgeSeconds int64  `json:"age_seconds"` // of that verdict; -1: there was no test
	Answers    bool   `json:"answers"`     // the host has answered now
	Narrow     int    `json:"narrow"`
}

// peerChange is the body of both POSTs.
type peerChange struct {
	Network string `json:"network"` // whole id
	Addr    string `json:"addr"`    // as plugin.ParsePeer reads it
}

// errorReply is the body of every answer that is not 200.
type errorReply struct {
	Error string `json:"error"`
}

func toOffload(o fabric.OffloadView) offloadReply {
	r := offloadReply{Name: o.Name, State: o.State, Why: o.Why, Users: o.Users, Off: o.Off, Refused: o.Refused, Resent: o.Resent}
	if o.Off > 0 {
		seconds := int64(o.Since / time.Second)
		r.OffSeconds = &seconds
	}
	return r
}

func toConflict(c fabric.Conflict) conflictReply {
	return conflictReply{Network: c.Network, MAC: c.MAC, Addresses: addresses(c.Addrs), Owner: c.Owner,
		Rival: c.Rival, Frames: c.Count}
}

func toNetwork(n fabric.NetworkView) networkReply {
	r := networkReply{ID: n.ID, VNI: n.VNI, MTU: n.LinkMTU, Attach: string(n.Attach),
		AgeingSeconds: n.Ageing.Seconds(), External: n.External, Swarm: n.Swarm, Endpoints: n.Endpoints, AddressesKnown: n.Stations,
		Down: n.Down, Rx: n.Rx, Forwarded: n.Forwarded, Flooded: n.Flooded, Drops: counts(n.Drops), Host: []string{}}
	if n.Network.HostPort != nil {
		r.Host = addresses(n.Network.HostPort.Addrs)
	}
	return r
}

func toPort(p fabric.PortView) portReply {
	r := portReply{Network: p.Network, VNI: p.VNI, Kind: p.Kind, Name: p.Name, Link: p.Link,
		Addresses: addresses(p.Addrs), MTU: p.MTU, State: state(p.Down), Why: p.Down,
		RxFrames: p.RxFrames, RxBytes: p.RxBytes, TxFrames: p.TxFrames, TxBytes: p.TxBytes,
		Offered: p.Offered, Refused: p.Refused, Drops: counts(p.Drops), Missed: p.Missed, WireTx: p.WireTx, WireRx: p.WireRx}
	if !p.MAC.IsZero() {
		r.MAC = p.MAC.String()
	}
	return r
}

func toEntry(e fabric.EntryView) entryReply {
	r := entryReply{Network: e.Network, VNI: e.VNI, MAC: e.MAC, Port: e.Port, Kind: "learned",
		AgeSeconds: int64(e.Age / time.Second)}
	if e.Pinned {
		r.Kind, r.AgeSeconds = "pinned", 0
	}
	return r
}

func toPeer(p fabric.PeerView) peerReply {
	r := peerReply{Network: p.Network, VNI: p.VNI, Addr: p.Addr.String(), Default: p.Default, Swarm: p.Node, Left: p.Left, State: state(p.Down),
		Why: p.Down, MTU: p.MTU, GSO: p.GSO, GSOWhy: p.GSOWhy, RemoteSum: p.RemoteSum, Test: p.Test.GSO, TestWhy: p.Test.Why, RxFrames: p.RxFrames, RxBytes: p.RxBytes, TxFrames: p.TxFrames,
		TxBytes: p.TxBytes, WireTx: p.WireTx, WireRx: p.WireRx, Lost: counts(p.Lost)}
	if p.Heard >= 0 {
		seconds := int64(p.Heard / time.Second)
		r.HeardSeconds = &seconds
	}
	if p.Test.GSO == "" { // there is no link to it
		r.Test = "untested"
	} else if p.Test.Age >= 0 {
		seconds := int64(p.Test.Age / time.Second)
		r.TestSeconds = &seconds
	}
	if p.Test.RTT > 0 {
		seconds := p.Test.RTT.Seconds()
		r.RTTSeconds = &seconds
	}
	return r
}

func toTest(t fabric.PeerTest) testReply {
	r := testReply{Addr: t.Addr.String(), GSO: t.GSO, Why: t.Why, AgeSeconds: -1, Answers: t.RTT > 0, Narrow: t.Narrow}
	if t.Age >= 0 {
		r.AgeSeconds = int64(t.Age / time.Second)
	}
	return r
}

func state(down string) string {
	if down == "" {
		return "up"
	}
	return "down"
}

func addresses(prefixes []netip.Prefix) []string {
	return each(prefixes, netip.Prefix.String)
}

// counts is never null in JSON.
func counts(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}

// each converts a list; none is an empty list, never null in JSON.
func each[V, R any](views []V, to func(V) R) []R {
	replies := make([]R, 0, len(views))
	for _, v := range views {
		replies = append(replies, to(v))
	}
	return replies
}

// Package api is what the daemon and its commands say to each other over the socket: requests, replies and their JSON.
package api

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// The replies are what the daemon writes and the commands read, and what --json prints; docs/json.md explains
// every key. NetworkName and Container are Docker's names: the daemon never knows them, the commands fill them in.

// Status is the answer to GET StatusPath: the daemon as a whole.
type Status struct {
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
	SecondVTEP    string            `json:"second_vtep"` // "": there is none
	SecondWhy     string            `json:"second_why"`
	VXLANPort     uint16            `json:"vxlan_port"`
	Tunnel        string            `json:"tunnel"`
	Why           string            `json:"why"`
	Networks      int               `json:"networks"`
	Endpoints     int               `json:"endpoints"`
	RxDropped     map[string]uint64 `json:"rx_dropped"` // datagrams refused on receive, by reason
	Strangers     map[string]uint64 `json:"strangers"`  // the same by its name before v0.2.0; until v0.3.0
	KernelDropped map[string]uint64 `json:"outside"`
	Offloads      []Offload         `json:"offloads"`
	Conflicts     []Conflict        `json:"conflicts"`
	Guards        []Trip            `json:"guards"`
	Faults        int               `json:"faults"`
	PortsDown     int               `json:"ports_down"`
	Captures      []CaptureStats    `json:"captures"`
	Recorder      Recorder          `json:"recorder"`
}

// At is where the tunnel is open, for people.
func (s Status) At() string {
	switch {
	case s.SecondVTEP == "":
		return fmt.Sprintf("%s port %d", s.VTEP, s.VXLANPort)
	case s.SecondWhy == "":
		return fmt.Sprintf("%s and %s port %d", s.VTEP, s.SecondVTEP, s.VXLANPort)
	}
	return fmt.Sprintf("%s port %d; down at %s: %s", s.VTEP, s.VXLANPort, s.SecondVTEP, s.SecondWhy)
}

// Offload is the state of one kernel offload, over all devices that could use it.
type Offload struct {
	Name       string `json:"name"`
	State      string `json:"state"`
	Why        string `json:"why"`
	OffSeconds *int64 `json:"off_seconds"` // null: it is not off
	Users      int    `json:"users"`
	Off        int    `json:"off"`
	Refused    uint64 `json:"refused"`
	Resent     uint64 `json:"resent"`
}

// Conflict is a MAC address of an endpoint here that frames from another port claimed as theirs.
type Conflict struct {
	Network     string    `json:"network"`
	NetworkName string    `json:"network_name,omitempty"`
	MAC         ether.MAC `json:"mac"`
	Addresses   []string  `json:"addresses"`
	Owner       string    `json:"owner"`
	Container   string    `json:"container,omitempty"` // the owner's
	Rival       string    `json:"rival"`
	Frames      uint64    `json:"frames"`
}

// Trip is a port whose frames a guard has dropped.
type Trip struct {
	Network        string `json:"network"`
	NetworkName    string `json:"network_name,omitempty"`
	Port           string `json:"port"`
	Container      string `json:"container,omitempty"` // the port's
	Guard          string `json:"guard"`
	Owner          string `json:"owner"`
	OwnerContainer string `json:"owner_container,omitempty"`
	Frames         uint64 `json:"frames"`
}

// Network is one network of the daemon, with what its switch has counted.
type Network struct {
	ID            string  `json:"id"`
	Name          string  `json:"name"` // "" unless Docker tells it
	VNI           uint32  `json:"vni"`
	MTU           int     `json:"mtu"`
	Attach        string  `json:"attach"`
	AgeingSeconds float64 `json:"ageing_seconds"`
	Reserved      string  `json:"reserved"` // these four as in the options tapestry.reserved, …: what is in force
	Tagged        string  `json:"tagged"`
	DSCP          string  `json:"dscp"`
	TTL           string  `json:"ttl"` // "": the host's
	Snooping      bool    `json:"snooping"`
	Settings
	External       bool              `json:"external"`
	Swarm          bool              `json:"swarm"`
	Key            string            `json:"key"` // its name in the cluster; "": it is not shared
	Host           []string          `json:"host"`
	Endpoints      int               `json:"endpoints"`
	AddressesKnown int               `json:"addresses_known"`
	Down           string            `json:"down"`
	Rx             uint64            `json:"rx"`
	Forwarded      uint64            `json:"forwarded"`
	Flooded        uint64            `json:"flooded"`
	Answered       uint64            `json:"answered"`
	TooBig         uint64            `json:"too_big"`
	MSSLowered     uint64            `json:"mss_lowered"`
	Drops          map[string]uint64 `json:"drops"`
}

// Port is one port of a network's switch: a container's, the host's own, or a remote.
type Port struct {
	Network     string   `json:"network"`
	NetworkName string   `json:"network_name,omitempty"`
	VNI         uint32   `json:"vni"`
	Kind        string   `json:"kind"`
	Name        string   `json:"name"`
	Container   string   `json:"container,omitempty"`
	Link        string   `json:"link"`
	MAC         string   `json:"mac"` // "" of a remote
	Addresses   []string `json:"addresses"`
	MTU         int      `json:"mtu"`
	State       string   `json:"state"`
	Why         string   `json:"why"`
	VLAN        string   `json:"vlan"` // as in tapestry.vlan; "": all
	Settings
	RxFrames uint64            `json:"rx_frames"`
	RxBytes  uint64            `json:"rx_bytes"`
	TxFrames uint64            `json:"tx_frames"`
	TxBytes  uint64            `json:"tx_bytes"`
	Offered  uint64            `json:"offered"`
	Refused  uint64            `json:"refused"`
	Drops    map[string]uint64 `json:"drops"`
	Missed   uint64            `json:"missed"`
	WireTx   uint64            `json:"wire_tx"`
	WireRx   uint64            `json:"wire_rx"`
}

// Entry is one entry of a network's forwarding database.
type Entry struct {
	Network     string    `json:"network"`
	NetworkName string    `json:"network_name,omitempty"`
	VNI         uint32    `json:"vni"`
	MAC         ether.MAC `json:"mac"`
	Port        string    `json:"port"`
	Container   string    `json:"container,omitempty"`
	Kind        string    `json:"kind"`
	AgeSeconds  int64     `json:"age_seconds"`
}

// Peer is another host as a peer of one network.
type Peer struct {
	Network      string            `json:"network"`
	NetworkName  string            `json:"network_name,omitempty"`
	VNI          uint32            `json:"vni"`
	Addr         string            `json:"addr"` // "" of a name that has none yet
	Default      bool              `json:"default"`
	Group        bool              `json:"group"`     // it is the network's multicast group, and no host
	Learned      bool              `json:"learned"`   // a host that has sent to the group
	Name         string            `json:"name"`      // the DNS name by which a user named it; ""
	NameDown     string            `json:"name_down"` // why the last look-up of that name failed; ""
	Swarm        bool              `json:"swarm"`
	Left         bool              `json:"left"`
	Host         string            `json:"host"`       // of the cluster: its name; "": the cluster did not name the peer
	HostState    string            `json:"host_state"` // alive, suspect or gone, as the cluster says; ""
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
	PathMTU      int               `json:"path_mtu"`     // of the outer IP packet; 0: not known
	PathMTUWhy   string            `json:"path_mtu_why"` // why it is less than the kernel has; "": it is not
	Health       *Health           `json:"health"`       // null: not known
	HealthWhy    string            `json:"health_why"`   // why not; ""
	RxFrames     uint64            `json:"rx_frames"`
	RxBytes      uint64            `json:"rx_bytes"`
	TxFrames     uint64            `json:"tx_frames"`
	TxBytes      uint64            `json:"tx_bytes"`
	WireTx       uint64            `json:"wire_tx"`
	WireRx       uint64            `json:"wire_rx"`
	Fragmented   uint64            `json:"fragmented"`
	Lost         map[string]uint64 `json:"lost"`
	HeardSeconds *int64            `json:"heard_seconds"` // null: never
}

// Health is what became of the last minute's probes to a host, and of its echoes.
type Health struct {
	Probes         int      `json:"probes"`
	Echoes         int      `json:"echoes"`
	Lost           int      `json:"lost"`
	LostBack       int      `json:"lost_back"`
	Reordered      int      `json:"reordered"`
	ReorderedBack  int      `json:"reordered_back"`
	Duplicated     int      `json:"duplicated"`
	DuplicatedBack int      `json:"duplicated_back"`
	RTTMinSeconds  *float64 `json:"rtt_min_seconds"` // null: no question was answered
	RTTMaxSeconds  *float64 `json:"rtt_max_seconds"`
}

// PeerTests are the results of test frames to the peers; no command prints it as JSON.
type PeerTests struct {
	Tests []PeerTest `json:"tests"`
	Why   string     `json:"why"` // they are not finished; "": they are
}

// PeerTest is the result for one peer.
type PeerTest struct {
	Addr       string `json:"addr"`
	GSO        string `json:"gso"` // as fabric.PeerTest has it
	Why        string `json:"why"`
	AgeSeconds int64  `json:"age_seconds"` // of that verdict; -1: there was no test
	Answers    bool   `json:"answers"`     // the host has answered now
	Narrow     int    `json:"narrow"`
	Fits       int    `json:"fits"`
}

// PeerChange is the body of a POST to PeerChangePath: the peer to add to a network, or to remove from it.
type PeerChange struct {
	Network string `json:"network"` // whole id
	Addr    string `json:"addr"`    // as plugin.ParsePeer reads it
}

// Error is the body of every answer that is not 200.
type Error struct {
	Error string `json:"error"`
}

// Map gives to(v) for each of views, in order. Without any it gives an empty list, not nil, so that JSON has [] and not null.
func Map[V, R any](views []V, to func(V) R) []R {
	replies := make([]R, 0, len(views))
	for _, v := range views {
		replies = append(replies, to(v))
	}
	return replies
}

// HostPrefix and a network's name stand for this host's own port on it: host:NETWORK.
const HostPrefix = "host:"

// ShortID is an id as Docker prints it: its first 12 characters.
func ShortID(id string) string { return id[:min(len(id), 12)] }

// WithoutPort takes the port off an address, and the brackets of IPv6. A text that is no address stays as it is.
func WithoutPort(text string) string {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().String()
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.String()
	}
	return text
}

// RemoteLabel is what people read for a remote port: the host's address, or "group" with the address of a multicast group.
func RemoteLabel(name string) string {
	if a, err := netip.ParseAddr(name); err == nil && a.IsMulticast() {
		return "group " + name
	}
	return name
}

// HostPortName is the name of the host's own port on a network: an id that cannot be one of Docker's, which are hexadecimal.
func HostPortName(network string) string { return "host" + network }

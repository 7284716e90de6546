package state

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Record is one network with all that has to come back after a crash.
type Record struct {
	Network   Network          `json:"network"`
	Peers     []netip.AddrPort `json:"peers"`                // in force; null: the daemon's, with its names
	PeerNames []PeerName       `json:"peer_names,omitempty"` // in force
	Endpoints []EndpointRecord `json:"endpoints"`
}

// EndpointRecord is one container's endpoint, with what was chosen when its link was made.
type EndpointRecord struct {
	Endpoint
	MTU     int    `json:"mtu"`               // bytes of IP packet
	Sandbox string `json:"sandbox,omitempty"` // path of the container's network namespace, where it is needed to find the link again
	Seq     uint64 `json:"seq,omitempty"`     // as a station of the cluster: another host has had it with a lower one; 0: none has

	Groups []netip.Prefix `json:"groups,omitempty"` // multicast and broadcast routes that Join gave the container, where they cannot be read from its namespace
}

// Network is what was asked for when a network was created.
type Network struct {
	ID        string           `json:"id"`                   // Docker's: 64 hex, or 25 letters and digits in a swarm
	VNI       uint32           `json:"vni,omitempty"`        // 0: host-local, no tunnel; else 1 to 1<<24-1
	Peers     []netip.AddrPort `json:"peers"`                // nil: the daemon's --peer list, with its names; port 0: the daemon's --vxlan-port
	PeerNames []PeerName       `json:"peer_names,omitempty"` // in the list too
	Group     netip.Addr       `json:"group,omitzero"`       // multicast group in place of a list; zero: none
	Wire      tunnel.Wire      `json:"wire,omitzero"`        // of its datagrams
	Attach    tap.Mode         `json:"attach"`
	Ageing    time.Duration    `json:"ageing"`             // of learned addresses
	MTU       int              `json:"mtu,omitempty"`      // of the containers' links; 0: from the underlay
	Key       string           `json:"key,omitempty"`      // its name in the cluster, which chose the VNI if it was 0; "": not shared
	External  bool             `json:"external"`           // false: no docker_gwbridge
	Snooping  bool             `json:"snooping,omitempty"` // multicast only to ports that want it
	Prefix    string           `json:"prefix,omitempty"`   // of the link's name in the container; "": eth
	Pools     []netip.Prefix   `json:"pools,omitempty"`    // of every family, as IPAM gave them
	Swarm     bool             `json:"-"`                  // IsSwarmID(ID): without Peers it follows the Swarm's nodes too, and it is parked when no container uses it
	HostPort  *Endpoint        `json:"host,omitempty"`     // the host port's endpoint; nil: none
	Guards
	Limits
}

// Guards are what the frames of a network's containers, or of one of them, are held to: see package guard, which has the words.
type Guards struct {
	Level string   `json:"guard,omitempty"` // off, mac or full; "": of a container as of its network, of a network full
	Allow []string `json:"allow,omitempty"` // what full lets pass all the same: ra, dhcp, bpdu
}

// Limits are how much each of a network's containers, or one of them, may send, and with whom it may talk: see package guard. 0 and "": of a container as of its
// network, of a network the default.
type Limits struct {
	Rate     int64          `json:"rate,omitempty"`     // bits a second, both ways; NoLimit: none, which is the default
	Storm    int64          `json:"storm,omitempty"`    // frames a second that are flooded; NoLimit: none
	Isolated string         `json:"isolated,omitempty"` // on: it talks only with AllowTo; off
	AllowTo  []netip.Prefix `json:"allow_to,omitempty"` // of IP addresses
	MSS      int            `json:"mss,omitempty"`      // what TCP may announce, in bytes; AutoMSS: what fits the path to another host; NoLimit: anything, which is the default
}

// Numbers of Limits.
const (
	NoLimit = -1
	AutoMSS = -2
)

// PeerName is a DNS name in a list of peers: each of its addresses is a peer.
type PeerName struct {
	Host string `json:"host"`           // in small letters
	Port uint16 `json:"port,omitempty"` // 0: the daemon's --vxlan-port
}

// Endpoint is one container's connection to a network, as Docker asked for it, or the host port's.
type Endpoint struct {
	ID      string         `json:"id"`
	MAC     ether.MAC      `json:"mac"`               // unicast
	Addrs   []netip.Prefix `json:"addrs,omitempty"`   // IPv4 first; empty with null IPAM
	Capture string         `json:"capture,omitempty"` // filter of a capture from its first frame on, or all; "": none

	VLAN string `json:"vlan,omitempty"` // see vlan.Parse; "": all VLANs pass

	IfName string `json:"ifname,omitempty"` // wanted name in the container (com.docker.network.endpoint.ifname)
	Guards
	Limits
}

// MinMTU is the smallest MTU that containers of the network may have.
func (n *Network) MinMTU() int {
	if slices.ContainsFunc(n.Pools, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return ether.MinMTUv6
	}
	return ether.MinMTU
}

// MinMTUReason is why, as the end of a sentence.
func (n *Network) MinMTUReason() string {
	if n.MinMTU() == ether.MinMTUv6 {
		return ", since the network has IPv6"
	}
	return ""
}

// Spec is a network as all its hosts have it.
func (n *Network) Spec() cluster.Spec {
	s := cluster.Spec{Key: n.Key, VNI: n.VNI, MTU: n.MTU}
	for _, p := range n.Pools {
		s.Subnets = append(s.Subnets, p.Masked())
	}
	slices.SortFunc(s.Subnets, cluster.ComparePrefix)
	return s
}

// Check refuses a network that cannot work on any host.
func (n *Network) Check() error {
	if n.VNI > ether.MaxVNI {
		return fmt.Errorf("VNI %d: want 1 to %d", n.VNI, ether.MaxVNI)
	}
	for i, p := range n.Peers {
		if slices.ContainsFunc(n.Peers[:i], func(q netip.AddrPort) bool { return q.Addr() == p.Addr() }) {
			return fmt.Errorf("peer %s is named twice", p.Addr())
		}
	}
	if n.MTU != 0 && (n.MTU < n.MinMTU() || n.MTU > ether.MaxMTU) {
		return fmt.Errorf("MTU %d: want %d to %d%s", n.MTU, n.MinMTU(), ether.MaxMTU, n.MinMTUReason())
	}
	return nil
}

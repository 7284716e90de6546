package fabric

import (
	"net/netip"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tap"
)

// Network is what was asked for when a network was created. It is also what stands on disk.
type Network struct {
	ID       string           `json:"id"`            // Docker's: 64 hex, or 25 letters and digits in a swarm
	VNI      uint32           `json:"vni,omitempty"` // 0: host-local, no tunnel; else 1 to 1<<24-1
	Peers    []netip.AddrPort `json:"peers"`         // nil: the daemon's --peer list; port 0: the daemon's --vxlan-port
	Attach   tap.Mode         `json:"attach"`
	Ageing   time.Duration    `json:"ageing"`           // of learned addresses
	MTU      int              `json:"mtu,omitempty"`    // of the containers' links; 0: from the underlay
	External bool             `json:"external"`         // false: no docker_gwbridge
	Prefix   string           `json:"prefix,omitempty"` // of the link's name in the container; "": eth
	Pools    []netip.Prefix   `json:"pools,omitempty"`  // of every family, as IPAM gave them
	Swarm    bool             `json:"-"`                // OfSwarm(ID): without Peers it follows the Swarm's nodes too, and it is parked when no container uses it
	Host     *Endpoint        `json:"host,omitempty"`   // the host's own, its id HostPort(ID); nil: none
}

// Endpoint is one container's connection to a network, as Docker asked for it.
type Endpoint struct {
	ID      string         `json:"id"`
	MAC     ether.MAC      `json:"mac"`               // unicast
	Addrs   []netip.Prefix `json:"addrs,omitempty"`   // IPv4 first; empty with null IPAM
	Capture string         `json:"capture,omitempty"` // filter of a capture from its first frame on, or all; "": none

	IfName string `json:"ifname,omitempty"` // wanted name in the container (com.docker.network.endpoint.ifname)
}

// Attachment is what Docker needs to move an endpoint's link into its container.
type Attachment struct {
	Link     string         // name in the daemon's network namespace, at most 15 bytes
	Prefix   string         // of the name in the container
	IfName   string         // whole name in the container, "": Prefix and a number
	External bool           // false: no docker_gwbridge for this endpoint
	Routes   []netip.Prefix // destinations that are reached by the link itself; without the subnets
}

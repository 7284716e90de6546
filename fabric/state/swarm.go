package state

import (
	"net/netip"
	"time"
)

// Swarm is what Docker has told of its Swarm. Docker tells each of it once.
type Swarm struct {
	Self      netip.Addr            `json:"self"` // this host's address as Docker names it; zero: never told
	Nodes     []Node                `json:"nodes"`
	Allocated map[string]Allocation `json:"allocated"` // by network id, at a manager
	Parked    map[string]Parked     `json:"parked"`    // by network id
}

// Node is another host of the Swarm.
type Node struct {
	Addr netip.Addr `json:"addr"`
	Left time.Time  `json:"left,omitzero"` // when Docker said that it had left, or when a datagram of it last came after that; zero: it has not left
}

// Allocation is the VNI of a Swarm's network.
type Allocation struct {
	VNI uint32 `json:"vni"`
	// Sure: Docker has named the network since this host last began to lead. Others may have been removed while another
	// manager led.
	Confirmed bool `json:"sure"`
}

// Parked is the record of a network of the Swarm that no container of this host uses.
type Parked struct {
	Record Record    `json:"record"`
	Since  time.Time `json:"since"`
}

// IsSwarmID tells whether a network id of Docker's is that of a Swarm's network: 25 letters and digits, where others are 64 hex
// digits (moby/swarmkit, identity.NewID).
func IsSwarmID(id string) bool { return len(id) == 25 }

package api

import "net/netip"

// MaxNames is how many names a host may tell, and MaxNamesBody how many bytes the request may have.
const (
	MaxNames     = 20_000
	MaxNamesBody = 4 << 20
)

// A Name is a container's name on a network that hosts share.
type Name struct {
	Key   string       `json:"key"` // the network's
	Name  string       `json:"name"`
	Addrs []netip.Addr `json:"addrs"`
	Host  string       `json:"host,omitempty"` // name of the host that it is on; "": this one

	// Of a container on another host:
	VTEP string `json:"vtep,omitempty"` // that host's address as a peer, without port
	MAC  string `json:"mac,omitempty"`  // "": not known
	Gone bool   `json:"gone,omitempty"` // the host is gone, as the cluster says
}

// A Place is where the container is that has an address: the answer to GET ClusterPlacePath.
type Place struct {
	Host string `json:"host"` // name
	VTEP string `json:"vtep"` // as Name has it
	MAC  string `json:"mac"`  // "": not known
	Gone bool   `json:"gone"`
}

// OwnNames are all names of this host's containers on networks that hosts share: those told before are gone.
type OwnNames struct {
	Names []Name `json:"names"`
}

// Names are the names of containers on other hosts, as they are now on the networks that have changed after a version.
type Names struct {
	Version string   `json:"version"` // to ask with the next time
	Run     string   `json:"run"`     // another one each time that the daemon starts: it has forgotten OwnNames
	Keys    []string `json:"keys"`    // of all networks of this host that hosts share, in order
	Changed []string `json:"changed"` // of those on which names may have changed; all of them for a version that is not known
	Names   []Name   `json:"names"`   // on the networks of Changed, host by host; of each container its own name first
}

package api

import "time"

// Cluster is the cluster that this host is in, as it knows it.
type Cluster struct {
	Kind        string           `json:"kind"` // gossip, etcd, static or swarm; "": none, and all else is empty
	Name        string           `json:"name"`
	Consistency string           `json:"consistency"` // of agreements: eventual or strong
	Host        string           `json:"host"`        // this host's id
	Reachable   bool             `json:"reachable"`
	Why         string           `json:"why"`   // why it cannot be reached
	Since       time.Time        `json:"since"` // since when it can or cannot be
	Hosts       []ClusterHost    `json:"hosts"`
	Networks    []ClusterNetwork `json:"networks"`
	Blocks      []ClusterBlock   `json:"blocks"`
	Problems    []string         `json:"problems"` // contradictions between hosts
}

// ClusterHost is one host of the cluster.
type ClusterHost struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	VTEP     string   `json:"vtep"`
	State    string   `json:"state"` // alive, suspect or gone; this for the host itself
	Epoch    uint64   `json:"epoch"` // how often its daemon has started
	Networks []string `json:"networks"`
}

// ClusterNetwork is one network that hosts share.
type ClusterNetwork struct {
	Key     string   `json:"key"`
	VNI     uint32   `json:"vni"`
	Subnets []string `json:"subnets"`
	Hosts   []string `json:"hosts"` // names of those that have it
	Here    bool     `json:"here"`  // this host has it
}

// ClusterBlock is a range of addresses that one host gives out.
type ClusterBlock struct {
	Network string `json:"network"` // its key
	Block   string `json:"block"`
	Host    string `json:"host"` // its name
	State   string `json:"state"`
	Used    *int   `json:"used"` // addresses in use; null: of another host
}

// ClusterForget asks to remove a host that is gone, with all that it owns.
type ClusterForget struct {
	Host string `json:"host"` // its id
}

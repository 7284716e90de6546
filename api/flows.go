package api

import (
	"time"
)

// What flows and top print as JSON; docs/json.md explains every key.

// Flows is what tapestry flows prints: the flows in a file, in the recorder, or of frames that are seen now.
type Flows struct {
	Source  string  `json:"source"` // recorder, live, file
	Since   string  `json:"since"`  // RFC 3339; "": nothing was there
	Until   string  `json:"until"`
	Seconds float64 `json:"seconds"`
	Why     string  `json:"why"` // they are fewer than were asked for
	Lost    uint64  `json:"lost"`
	Total   Counts  `json:"total"`
	Evicted Evicted `json:"evicted"`
	Flows   []Flow  `json:"flows"`
}

// Top is one picture of tapestry top: Flows or Ports, by what was asked for.
type Top struct {
	Time    time.Time     `json:"time"`
	Seconds float64       `json:"seconds"`
	Lost    uint64        `json:"lost"`
	Total   Counts        `json:"total"`
	Evicted Evicted       `json:"evicted"`
	Flows   []Flow        `json:"flows,omitempty"`
	Ports   []PortTraffic `json:"ports,omitempty"`
}

// Counts count frames as the switch sees them, frames as they are on a wire (segments), and bytes.
type Counts struct {
	Frames     uint64 `json:"frames"`
	WireFrames uint64 `json:"wire_frames"`
	Bytes      uint64 `json:"bytes"`
}

// Evicted counts the flows that had to leave a full table, and their frames.
type Evicted struct {
	Flows uint64 `json:"flows"`
	Counts
}

// FlowEnd is one of the two ends of a flow.
type FlowEnd struct {
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	Name    string `json:"name,omitempty"`
}

// Flow is a conversation, or with by pair all those of two.
type Flow struct {
	Network     string            `json:"network"`
	NetworkName string            `json:"network_name,omitempty"`
	EtherType   string            `json:"ether_type"`
	Proto       string            `json:"proto"`
	A           FlowEnd           `json:"a"`
	B           FlowEnd           `json:"b"`
	Out         Counts            `json:"a_to_b"`
	Back        Counts            `json:"b_to_a"`
	Forwarded   uint64            `json:"forwarded"`
	Flooded     uint64            `json:"flooded"`
	Answered    uint64            `json:"answered"`
	Drops       map[string]uint64 `json:"drops"`
	Faults      uint64            `json:"faults"`
	TCP         []string          `json:"tcp"`
	State       string            `json:"state"`
	First       time.Time         `json:"first"`
	Last        time.Time         `json:"last"`
	Rate        float64           `json:"bytes_per_second"`
}

// PortTraffic is what one port sent (From) and received (To).
type PortTraffic struct {
	Network     string            `json:"network"`
	NetworkName string            `json:"network_name,omitempty"`
	Kind        string            `json:"kind"`
	Name        string            `json:"name"`
	Container   string            `json:"container,omitempty"`
	From        Counts            `json:"from"`
	To          Counts            `json:"to"`
	Drops       map[string]uint64 `json:"drops"`
	Rate        float64           `json:"bytes_per_second"`
}

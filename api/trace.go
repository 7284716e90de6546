package api

// TraceRequest is the body of a POST to TracePath.
type TraceRequest struct {
	Network string       `json:"network"` // whole id
	Port    string       `json:"port"`    // whole endpoint id, or the peer's address
	Frame   []byte       `json:"frame"`   // from the destination address on
	Offload TraceOffload `json:"offload"`
	Inject  bool         `json:"inject"`
}

// TraceOffload is ether.Offload in JSON. Its zero value is an ordinary frame with complete checksums.
type TraceOffload struct {
	Kind            string `json:"kind"`      // none or "", tcp4, tcp6, udp; tunnel_tcp4, tunnel_tcp6, tunnel_udp
	Segment         uint16 `json:"segment"`   // payload bytes of each segment
	Inner           uint16 `json:"inner"`     // where the IP header inside a UDP tunnel begins
	PartialChecksum bool   `json:"needs_sum"` //
	ChecksumStart   uint16 `json:"sum_start"`
	ChecksumOffset  uint16 `json:"sum_offset"`
}

// Trace is what would become of a frame, or with Inject became of it. The command fills in About, Notes and Request: the daemon
// does not know them.
type Trace struct {
	Network     string        `json:"network"`
	NetworkName string        `json:"network_name,omitempty"`
	VNI         uint32        `json:"vni"`
	Down        string        `json:"down"`
	In          TracePort     `json:"in"`
	About       string        `json:"about"` // the frame in words
	Notes       []string      `json:"notes"` // what else to know of it
	Bytes       int           `json:"bytes"`
	Steps       []TraceStep   `json:"steps"`
	Egress      []TraceEgress `json:"ways"`
	Verdict     string        `json:"verdict"`
	Drop        bool          `json:"drop"`
	Injected    string        `json:"injected"`
	Request     TraceRequest  `json:"request"`
}

// TraceStep is one check that the switch made, and what it found.
type TraceStep struct {
	Check      string `json:"check"`
	Found      string `json:"found"`
	Drop       bool   `json:"drop"`
	Why        string `json:"why"`
	MAC        string `json:"mac"`
	Address    string `json:"address"`
	Port       string `json:"port"`
	Container  string `json:"container,omitempty"`
	AgeSeconds int64  `json:"age_seconds"`
	Evicts     *Entry `json:"evicts"` // null: there is room
	Limit      int    `json:"limit"`
}

// TraceEgress is a port by which the frame would leave, with the verdict there.
type TraceEgress struct {
	TracePort
	Verdict string `json:"verdict"`
	Limit   int    `json:"limit"`
}

// TracePort describes a port that the frame comes in or leaves by.
type TracePort struct {
	Port      string `json:"port"`
	Container string `json:"container,omitempty"`
	Kind      string `json:"kind"`
	Link      string `json:"link"`
	MTU       int    `json:"mtu"`
	Faults    string `json:"faults"`
	Addr      string `json:"addr"`
	Down      string `json:"down"`
	PathMTU   int    `json:"path_mtu"`
	Overhead  int    `json:"overhead"`
	GSO       bool   `json:"gso"`
	GSOWhy    string `json:"gso_why"`
	RemoteSum bool   `json:"remote_checksum"`
	Sparse    bool   `json:"sparse"`
	Probes    int    `json:"probes"` // to a remote, in the last minute; 0: it does not take part
	Lost      int    `json:"lost"`   // of these
}

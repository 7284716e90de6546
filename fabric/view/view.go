// Package view is what a fabric says of itself to people and programs: snapshots, plain values.
package view

import (
	"net/netip"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
)

// Status is the daemon at a glance.
type Status struct {
	VTEP          netip.Addr // zero: not known (no network has a VNI, and there is no default route)
	Second        netip.Addr // of the other IP version; zero: there is none
	SecondWhy     string     // why the tunnel is open, but not at Second; "": it is there, too, or nowhere
	Port          uint16     // VXLAN UDP port
	Tunnel        string     // "closed" (no network needs it), "open", "down"
	Why           string     // why the tunnel is down
	Workers       int        // threads that move frames
	Networks      int
	Endpoints     int               // of containers
	RxDropped     map[string]uint64 // datagrams dropped before any switch, by reason: no_peer, short, bad_header, ambiguous, reserved, tagged, congested, overflow
	KernelDropped map[string]uint64 // datagrams that the kernel dropped and no socket got, of all UDP of the host while a tunnel was open: bad_checksum, no_memory
	Offloads      []Offload
	Conflicts     []Conflict
	Trips         []Trip
	Faults        int // set, see fabric.FaultView
	Down          int // ports of containers and of this host that are down, see Port
}

// Conflict is an address that is used at two places: by an endpoint of this host, and behind another port.
type Conflict struct {
	Network string
	MAC     ether.MAC
	Addrs   []netip.Prefix // of the station that owns the MAC here
	Owner   string         // endpoint id
	Rival   string         // endpoint id or peer address
	Count   uint64         // frames dropped because of that
}

// Trip is a port whose frames a guard has dropped.
type Trip struct {
	Network string // id
	Port    string // endpoint id or peer address
	Guard   string // the verdict
	Owner   string // endpoint id of whose address was about to be taken last; "": that is not what the guard is about
	Count   uint64 // frames
}

// Settings are what the frames of a port, or of a network's containers, are held to, as is in force: see package fabric/guard.
type Settings struct {
	Guard    string // off, mac, full
	Allow    []string
	Rate     int64 // bits a second, both ways; 0: no limit
	Storm    int64 // frames a second that are flooded; 0: no limit
	Isolated bool
	AllowTo  []netip.Prefix // whom an isolated one may talk with
	MSS      int            // bytes; state.AutoMSS; 0: as it is
	VLAN     string         // see vlan.Parse; "": all
}

// Network is one network.
type Network struct {
	state.Network
	Settings  Settings          // of containers that have none of their own
	LinkMTU   int               // that a new container's link gets; 0: not known
	Endpoints int               // of containers
	Stations  int               // MAC addresses in the forwarding database, learned and pinned
	Down      string            // why a network with a VNI has no tunnel; "": it has, or needs none
	Rx        uint64            // frames as received, from containers and peers
	Forwarded uint64            // of Rx: to one port
	Flooded   uint64            // of Rx: to each port that they may leave by
	Answered  uint64            // of Rx: questions for MACs that the switch has answered itself
	TooBig    uint64            // frames among the drops by mtu whose sender was told what fits
	Lowered   uint64            // frames that have left with a lower MSS: tapestry.mss
	Drops     map[string]uint64 // by verdict, all present; Rx = Forwarded + Flooded + Answered + the sum of Drops
}

// Port is one port of one network's switch.
type Port struct {
	Network  string // network id
	VNI      uint32
	Kind     string // "container", "host" for the host's own, or "remote"
	Name     string // endpoint id, or the peer's address
	Number   uint32 // vswitch.Port's; 0: it is down
	Link     string // host link that carries it; "" for a remote
	MAC      ether.MAC
	Addrs    []netip.Prefix
	Sandbox  string            // path of the container's network namespace as Join named it; "" if it is not known
	MTU      int               // bytes of IP packet
	Settings Settings          // its own, else its network's
	Down     string            // why it is down; "": up
	RxFrames uint64            // frames that this port received
	RxBytes  uint64            // of these frames
	TxFrames uint64            // frames that this port sent
	TxBytes  uint64            // of these frames
	Offered  uint64            // frames the switch sent to this port = TxFrames + Refused
	Refused  uint64            // frames that the port's device refused
	Drops    map[string]uint64 // of frames that this port received, by verdict
	Missed   uint64            // frames from the container that did not fit into its TAP's queue; the switch never saw them
	WireTx   uint64            // datagrams sent; remote only
	WireRx   uint64            // datagrams received; remote only
}

// Entry is one address in a switch's forwarding database.
type Entry struct {
	Network string
	VNI     uint32
	MAC     ether.MAC
	Port    string // Port.Name
	Remote  bool
	Pinned  bool
	Group   bool          // a port that wants a multicast group
	Age     time.Duration // since last seen; 0 for a pinned one
}

// Peer is one remote host of one network.
type Peer struct {
	Network           string
	VNI               uint32
	Addr              netip.AddrPort
	Default           bool   // from the daemon's --peer list
	Name              string // the DNS name by which a user named it; "": its address is in the list, or nobody named it
	Group             bool   // it is the network's multicast group, and no host
	Learned           bool   // a host that has sent to the group
	NameDown          string // why the name was not found at the last look-up: Addr is what it had before, or zero
	Node              bool   // a node of Docker's Swarm, as Docker told
	Left              bool   // Docker says that this node has left: it gets fewer floods once it is silent
	Host              string // name of this host of the cluster; "": it is a peer for another reason
	HostState         string // alive, suspect or gone, as the cluster says
	Down              string // why there is no route to it; "": there is
	MTU               int    // largest inner IP packet that fits the path
	PathMTU           int    // largest outer IP packet
	GSO               bool   // super-frames leave as one UDP_SEGMENT send
	GSOWhy            string // why not; "": they do
	RemoteSum         bool   // it completes the inner checksums, see tunnel.VTEP.CompleteChecksums
	Test              PeerTest
	WireTx, WireRx    uint64            // datagrams
	RxFrames, RxBytes uint64            // as Port has them
	TxFrames, TxBytes uint64            // as Port has them
	Fragmented        uint64            // datagrams received in fragments, which the kernel has put together
	Lost              map[string]uint64 // datagrams not sent, by reason: full, long, failed; tagged: frames that the network does not send
	Heard             time.Duration     // since the last datagram, to the second; negative: never
}

// PeerTest is what the last test with super-frames showed of one remote host: see tunnel.Peer.
type PeerTest struct {
	Addr netip.AddrPort
	GSO  string        // "ok", "mangled", "refused", "no answer" (unreachable, or no tapestry), "untested"
	Why  string        // in words, of what is mangled or refused
	RTT  time.Duration // of the answer; 0: there was none
	Age  time.Duration // since the test ended, to the second; negative: never

	Fits   int // with Narrow: the longest of them that has arrived; 0: not known yet
	Narrow int // length of outer IP packets in bytes of which none arrived, although shorter ones did; 0: they arrive, or nothing is known

	Health    *Health // what became of datagrams in the last minute; nil: that is not known
	HealthWhy string  // why not
}

// Health is what became of the last minute's probes to a host, and of its echoes: see tunnel.Health.
type Health struct {
	Sent, Lost, Reordered, Duplicated Ways
	MinRTT, MaxRTT                    time.Duration // 0: not known
}

// Ways are numbers of datagrams, on the way to a host and on the way back.
type Ways struct{ There, Back int }

// TraceRequest asks what the switch would do with a frame.
type TraceRequest struct {
	Network string // id
	Port    string // ingress port: endpoint id, or the peer's address
	Frame   []byte // from the destination address on, at most ether.MaxFrame; it may be invalid
	Off     ether.Offload
	Inject  bool // really send it, after the explanation
}

// Trace is what the switch does with a frame, and why.
type Trace struct {
	Network  string
	VNI      uint32
	Down     string    // why a network with a VNI has no tunnel; "": it has, or needs none
	In       TracePort // the ingress port
	Bytes    int       // of the longest frame that it is cut into
	Verdict  string    // as in Network.Drops, or forwarded, flooded
	Drop     bool      // the verdict is a drop
	Steps    []TraceStep
	Egress   []TraceEgress // as vswitch.Explanation has them
	Injected string        // the verdict when it was really sent; "": it was not
}

// TraceStep is one check of the frame: see vswitch.Step for the words.
type TraceStep struct {
	Check, Found string
	Drop         bool          // the frame is dropped here
	Why          string        // more: why a port or the address's owner is down, the faults that are set on the port, or the host on whose word a question is answered
	MAC          ether.MAC     // of the checks source, destination and answer
	Addr         netip.Addr    // that the question of the check answer asks for
	Port         string        // the port that has that address; "": none
	Age          time.Duration // since a learned address was last seen
	Evict        Entry         // the address that is forgotten to learn this frame's; zero MAC: none
	Limit        int           // of the check length: bytes of the longest frame that fits
}

// TraceEgress is a port by which the frame leaves, or would have.
type TraceEgress struct {
	TracePort
	Verdict string // forwarded: it leaves; else why not
	Limit   int    // bytes of the longest frame
}

// TracePort is a port as a frame meets it.
type TracePort struct {
	Name   string // endpoint id, or the peer's address
	Kind   string // Port's
	MTU    int    // bytes of IP packet
	Faults string // that are set on it, in this direction; "": none

	Down string // why it is down; "": it is up

	Link string // host link of a container

	Addr     netip.AddrPort // of a remote
	PathMTU  int            // of the outer packets, in bytes
	Overhead int            // of VXLAN, in bytes

	GSO       bool    // of a container: its TAP accepts this frame's offload; of a remote: as Peer
	GSOWhy    string  // why not
	RemoteSum bool    // as Peer
	Health    *Health // of a remote; nil: not known
	Sparse    bool    // of a remote: it gets a few floods a second at most, see Peer.Left
}

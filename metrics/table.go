package metrics

// Kinds of metrics, as Prometheus calls them.
const (
	Gauge     = "gauge"
	Counter   = "counter"
	Histogram = "histogram"
)

// A Metric is one of tapestry's own metrics. Beside these a scrape has those of Go's runtime and of the process (go_…, process_…).
type Metric struct {
	Name, Kind string
	Labels     []string
	Help       string
}

// All are the metrics. docs/metrics.md repeats them.
func All() []Metric { return table[:] }

// Indices in table.
const (
	buildInfo = iota
	workers
	leftOut
	networkInfo
	networkEndpoints
	networkFrames
	networkDrops
	networkTooBig
	networkLowered
	fdbEntries
	fdbMoves
	portInfo
	portUp
	portMTU
	portRxFrames
	portRxBytes
	portTxFrames
	portTxBytes
	portRefused
	portDrops
	linkTx
	linkRx
	linkLost
	peerUp
	peerAnswers
	peerTest
	peerRoundTrip
	peerMTU
	peerLoss
	peerReordered
	peerDuplicated
	hostState
	tunnelDrops
	hostDrops
	offloadUsers
	offloadOff
	offloadRefused
	offloadResent
	recorderBytes
	recorderKept
	recorderDrops
	captures
	captureFrames
	callSeconds
	callErrors
	eventsTotal
	numMetrics
)

var (
	onNetwork = []string{"network"}
	onPort    = []string{"network", "port"}
	onLink    = []string{"network", "peer"}
	ofPeer    = []string{"peer"}
	ofWay     = []string{"peer", "way"}
	ofOffload = []string{"offload"}
	byReason  = []string{"reason"}
)

var table = [numMetrics]Metric{
	buildInfo: {"tapestry_build_info", Gauge, []string{"version", "goversion"}, "The version of the daemon, and of Go that it was built with. Always 1."},
	workers:   {"tapestry_workers", Gauge, nil, "Threads that move frames."},
	leftOut:   {"tapestry_left_out", Gauge, []string{"what"}, "Networks, ports and peers that exist and are not shown here, since there are too many. The oldest ones are shown."},

	networkInfo:      {"tapestry_network_info", Gauge, []string{"network", "vni", "key"}, "A network: the VNI, 0 without one, and its name in the cluster. Always 1."},
	networkEndpoints: {"tapestry_network_endpoints", Gauge, onNetwork, "Ports of containers, and of the host itself, on a network."},
	networkFrames:    {"tapestry_network_frames_total", Counter, []string{"network", "verdict"}, "Frames that came from containers and peers and were delivered: forwarded to one port, flooded to many, or answered by the switch itself. A super-frame is one."},
	networkDrops:     {"tapestry_network_dropped_frames_total", Counter, []string{"network", "reason"}, "Frames that came from containers and peers and were dropped. docs/drops.md says of each reason what to do."},
	networkTooBig:    {"tapestry_network_too_big_answers_total", Counter, onNetwork, "Frames among those dropped as mtu whose sender was told what fits."},
	networkLowered:   {"tapestry_network_mss_lowered_total", Counter, onNetwork, "Frames that have left with a lower MSS, by tapestry.mss."},
	fdbEntries:       {"tapestry_fdb_entries", Gauge, []string{"network", "kind"}, "Addresses in the forwarding database: learned from frames, or pinned to a container's port."},
	fdbMoves:         {"tapestry_fdb_moves_total", Counter, onNetwork, "Learned addresses that were seen at another port than before."},

	portInfo:     {"tapestry_port_info", Gauge, []string{"network", "port", "kind", "name"}, "A port of a switch: a container's, the host's own, or a remote host. The name is the container's if tapestry resolver has told it, or else the same as port. Always 1."},
	portUp:       {"tapestry_port_up", Gauge, onPort, "1 if frames reach the port: a container's link is up, a remote host is not known to be gone."},
	portMTU:      {"tapestry_port_mtu_bytes", Gauge, onPort, "Longest IP packet that leaves by the port."},
	portRxFrames: {"tapestry_port_received_frames_total", Counter, onPort, "Frames that came by the port. A super-frame is one."},
	portRxBytes:  {"tapestry_port_received_bytes_total", Counter, onPort, "Bytes of the frames that came by the port."},
	portTxFrames: {"tapestry_port_sent_frames_total", Counter, onPort, "Frames that left by the port. A super-frame is one."},
	portTxBytes:  {"tapestry_port_sent_bytes_total", Counter, onPort, "Bytes of the frames that left by the port."},
	portRefused:  {"tapestry_port_refused_frames_total", Counter, onPort, "Frames that should have left by the port and did not: its queue was full, it is down, or they are too long for it."},
	portDrops:    {"tapestry_port_dropped_frames_total", Counter, []string{"network", "port", "reason"}, "Frames that came by the port and were dropped. A reason is missing until it has occurred."},

	linkTx:   {"tapestry_link_sent_datagrams_total", Counter, onLink, "Datagrams of a network that were sent to a peer."},
	linkRx:   {"tapestry_link_received_datagrams_total", Counter, onLink, "Datagrams of a network that came from a peer."},
	linkLost: {"tapestry_link_unsent_datagrams_total", Counter, []string{"network", "peer", "reason"}, "Datagrams of a network that this host could not send to a peer: the socket was full, they were too long for the path, or the kernel failed."},

	peerUp:         {"tapestry_peer_up", Gauge, ofPeer, "1 if there is a route to the peer."},
	peerAnswers:    {"tapestry_peer_answers", Gauge, ofPeer, "1 if the peer has answered the last question, about once a minute: a tapestry runs there. A kernel's VTEP never answers."},
	peerTest:       {"tapestry_peer_test", Gauge, []string{"peer", "result"}, "Result of the last test of trains of datagrams to the peer: ok, mangled, refused, no answer, untested. Always 1, of the result that is."},
	peerRoundTrip:  {"tapestry_peer_round_trip_seconds", Gauge, ofPeer, "Time from the last question to the peer to its answer. Missing until it has answered."},
	peerMTU:        {"tapestry_peer_path_mtu_bytes", Gauge, ofPeer, "Longest IP packet that fits the path to the peer, VXLAN's headers included. Missing while it is not known."},
	peerLoss:       {"tapestry_peer_loss_ratio", Gauge, ofWay, "Share of the probes of the last minute that were lost on the way there, or of their echoes on the way back. Missing while nothing is known, as of a kernel's VTEP."},
	peerReordered:  {"tapestry_peer_reordered_ratio", Gauge, ofWay, "Share of these that arrived after a later one."},
	peerDuplicated: {"tapestry_peer_duplicated_ratio", Gauge, ofWay, "Share of these that arrived once more."},
	hostState:      {"tapestry_cluster_host_state", Gauge, []string{"host", "peer", "state"}, "What the cluster says of another host: alive, suspect, gone. Always 1, of the state that is."},

	tunnelDrops: {"tapestry_tunnel_dropped_datagrams_total", Counter, byReason, "Datagrams that came to the tunnel and that no network here got: docs/json.md has the reasons (rx_dropped). As of the last second."},
	hostDrops:   {"tapestry_host_dropped_datagrams_total", Counter, byReason, "UDP datagrams of the whole host that its kernel dropped while a tunnel was open, and no socket got. As of the last second."},

	offloadUsers:   {"tapestry_offload_users", Gauge, ofOffload, "TAPs, or links to peers, that can use an offload of the kernel."},
	offloadOff:     {"tapestry_offload_off", Gauge, ofOffload, "How many of them have it off, since the kernel has refused it or does not support it."},
	offloadRefused: {"tapestry_offload_refused_total", Counter, ofOffload, "How often the kernel has refused the offload."},
	offloadResent:  {"tapestry_offload_resent_total", Counter, ofOffload, "Frames or datagrams that were sent again without the offload."},

	recorderBytes: {"tapestry_recorder_memory_bytes", Gauge, nil, "Memory of the flight recorder. 0 if it is off."},
	recorderKept:  {"tapestry_recorder_kept_frames", Gauge, nil, "Frames that the flight recorder has now."},
	recorderDrops: {"tapestry_recorder_kept_dropped_frames", Gauge, nil, "Dropped frames that the flight recorder has now, in a memory of their own."},
	captures:      {"tapestry_captures", Gauge, []string{"state"}, "Captures: running, or without a reader until now (waiting)."},
	captureFrames: {"tapestry_capture_frames_total", Counter, []string{"result"}, "Frames of all captures: read, or lost since they were not read in time."},

	callSeconds: {"tapestry_docker_call_duration_seconds", Histogram, []string{"method"}, "Time that Docker's calls of the driver took, by method."},
	callErrors:  {"tapestry_docker_call_errors_total", Counter, []string{"method"}, "Docker's calls of the driver that were answered with an error, by method."},
	eventsTotal: {"tapestry_events_total", Counter, []string{"kind"}, "Events, by kind: see tapestry events. A kind is missing until it has occurred."},
}

package api

import "net/url"

// Paths of the API, which the daemon serves over HTTP on its Unix socket. What the daemon registers below one of them
// ("/{id}") is built by a function here, which escapes what is put in.
const (
	StatusPath        = "/v1/status"         // GET: Status
	NetworksPath      = "/v1/networks"       // GET: []Network; DELETE NetworkPath
	PortsPath         = "/v1/ports"          // GET ?network=ID: []Port
	EntriesPath       = "/v1/fdb"            // GET ?network=ID: []Entry
	PeersPath         = "/v1/peers"          // GET ?network=ID: []Peer; POST PeerChangePath
	PeersTestPath     = "/v1/peers/test"     // POST: Tests
	NodesPath         = "/v1/nodes"          // GET: Nodes; POST Nodes: Learned
	ClusterPath       = "/v1/cluster"        // GET: Cluster
	ClusterForgetPath = "/v1/cluster/forget" // POST ClusterForget
	ClusterPlacePath  = "/v1/cluster/place"  // GET ?key=KEY&addr=ADDR: Place, of a container on another host
	NamesPath         = "/v1/names"          // GET ?after=VERSION: Names, when there are others, or after a while; with &gone=yes also of hosts that are gone; PUT OwnNames
	FaultsPath        = "/v1/faults"         // GET: []Fault; PUT, DELETE FaultPath
	TracePath         = "/v1/trace"          // POST TraceRequest: Trace
	CapturesPath      = "/v1/captures"       // GET: a list of counts; POST CaptureRequest: a stream; GET, PATCH, DELETE CapturePath
	RecorderPath      = "/v1/recorder"       // GET: Recorder; PUT RecorderChange: Recorder
	RecorderDumpPath  = "/v1/recorder/dump"  // POST CaptureRequest: a stream
	EventsPath        = "/v1/events"         // GET ?from=NS&follow=yes: a stream of Event, one a line
	MetricsPath       = "/metrics"           // GET: what Prometheus reads, in its format
	RecorderPortsPath = "/v1/recorder/ports" // GET: []RecordedPort
)

// Headers of an answer that is a stream.
const (
	CaptureIDHeader = "X-Capture-Id"     // of a capture
	SinceHeader     = "X-Tapestry-Since" // of a dump: from when on no frame is missing, ns since 1970
	UntilHeader     = "X-Tapestry-Until" // of a dump: and until when
)

// NetworkPath is the path of one network, by its whole id.
func NetworkPath(id string) string { return NetworksPath + "/" + url.PathEscape(id) }

// PeerChangePath is where a PeerChange is posted. The verb is add or rm.
func PeerChangePath(verb string) string { return PeersPath + "/" + verb }

// FaultPath is the path of the faults at one port: its whole endpoint id, a peer's address, or "all" to clear those of every port. The
// direction is from, to or both.
func FaultPath(port, direction string) string {
	return FaultsPath + "/" + url.PathEscape(port) + "/" + direction
}

// CapturePath is the path of one capture, by its id.
func CapturePath(id string) string { return CapturesPath + "/" + url.PathEscape(id) }

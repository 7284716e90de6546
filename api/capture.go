package api

import (
	"net/netip"
	"strings"
	"time"
)

// Limits that the daemon sets to a capture which asks for none, and those of its memory, in bytes.
const (
	DefaultCaptureBytes   = 1 << 30
	DefaultCaptureSeconds = 3600
	MinRing               = 256 << 10
	MaxRing               = 256 << 20
)

// PacketOverhead is how many bytes a packet takes in a stream beside its data, at most.
const PacketOverhead = 100

// CaptureRequest is the body of a POST to CapturesPath or RecorderDumpPath: both answer with a stream.
type CaptureRequest struct {
	Targets  Targets `json:"targets"`
	Filter   Filter  `json:"filter"`
	Drops    bool    `json:"drops,omitempty"`       // only frames that went nowhere
	Snap     int     `json:"snap,omitempty"`        // bytes of each frame; 0: all
	Headers  bool    `json:"headers,omitempty"`     // of these the headers only
	Point    string  `json:"point,omitempty"`       // once (default: where it came in), in, out, both
	View     string  `json:"view,omitempty"`        // inner (default), outer, both
	Offload  string  `json:"offload,omitempty"`     // fix (default), segment, raw
	Annotate string  `json:"annotate,omitempty"`    // comments on: drops (default), all, none
	Detail   bool    `json:"detail,omitempty"`      // a capture.Detail in every packet
	Format   string  `json:"format,omitempty"`      // pcapng (default), ndjson
	Frames   uint64  `json:"frames,omitempty"`      // stop after so many; 0: no limit
	Bytes    int64   `json:"bytes,omitempty"`       // stop before the stream is longer; 0: 1 GiB, negative: no limit
	Seconds  float64 `json:"seconds,omitempty"`     // stop after; 0: 3600, negative: no limit
	Last     float64 `json:"last,omitempty"`        // seconds, of a dump only; 0: all that there is
	Ring     int     `json:"ring,omitempty"`        // bytes of memory for what is not read in time, a power of two; 0: 8 MiB
	Attach   string  `json:"attach,omitempty"`      // the id of a capture that waits for a reader: that one, from its first frame on
	Name     string  `json:"description,omitempty"` // for the daemon's log: the command's words
}

// Targets are the ports whose frames are captured. All nil: every port, also those that come.
type Targets struct {
	Endpoints []string         `json:"endpoints,omitempty"` // whole ids; one that does not exist yet is included when it comes
	Networks  []string         `json:"networks,omitempty"`  // whole ids
	Peers     []string         `json:"peers,omitempty"`     // addresses of remote hosts, without port
	Sandboxes []string         `json:"sandboxes,omitempty"` // of containers, also stopped ones: the last part of Docker's SandboxKey
	CreatedAt map[string]int64 `json:"born,omitempty"`      // ns since 1970, by endpoint or sandbox: no port that came before is taken for it because of its address
	New       bool             `json:"new,omitempty"`       // every port that comes from now on, of whatever network
	Since     uint32           `json:"since,omitempty"`     // of the new ones, only ports numbered above this one
	Behind    []Behind         `json:"behind,omitempty"`    // containers on other hosts
	Some      bool             `json:"some,omitempty"`      // only what is named above, also if that is nothing
}

// MaxBehind is how many containers on other hosts may be targets.
const MaxBehind = 1000

// Behind is a container on another host: the frames of that host's port on one network that match.
type Behind struct {
	Network string `json:"network"` // whole id
	Peer    string `json:"peer"`    // address of that host, without port
	Expr    string `json:"expr"`    // of pcap-filter(7), without names
}

// Filter is an expression of pcap-filter(7), and the addresses of the names in it.
type Filter struct {
	Expr  string              `json:"expr,omitempty"`
	Names map[string][]string `json:"names,omitempty"`

	// If Was is set, the filter is changed only if its present expression is Was: a client that renews the addresses of names
	// must not undo another client's change.
	Was *string `json:"was,omitempty"`
}

// CaptureChange is the body of a PATCH of CapturePath. A field that is there replaces what the capture had.
type CaptureChange struct {
	Targets *Targets `json:"targets,omitempty"`
	Filter  *Filter  `json:"filter,omitempty"`
}

// CaptureStats are a capture's counts of frames: Seen = Filtered + Accepted, and Accepted = Delivered + Dropped + Waiting. GET
// of CapturesPath lists those of all captures that run; GET of CapturePath gives one's, also for a minute after its end.
type CaptureStats struct {
	ID        string  `json:"id"`
	Name      string  `json:"description"`
	UID       int     `json:"uid"`       // who asked; -1: not known
	PID       int     `json:"pid"`       // of that process
	State     string  `json:"state"`     // running; without a reader: armed, kept (its container has gone); how it ended: stopped, gone (the reader), limit, container (has gone), shutdown (the daemon), failed
	Filter    string  `json:"filter"`    // "": none
	Seconds   float64 `json:"seconds"`   // since it began, or how long it was
	Seen      uint64  `json:"seen"`      // frames that got a verdict while it ran
	Filtered  uint64  `json:"filtered"`  // not wanted
	Accepted  uint64  `json:"accepted"`  // wanted
	Delivered uint64  `json:"delivered"` // written
	Dropped   uint64  `json:"dropped"`   // not read in time
	Waiting   uint64  `json:"waiting"`   // not written yet
	Packets   uint64  `json:"packets"`   // written: with segments, views and points not one for each frame
	Bytes     int64   `json:"bytes"`     // written

	Network  string `json:"network,omitempty"`  // id, of the container whose capture it is from its first frame on
	Endpoint string `json:"endpoint,omitempty"` // that container's; "": it is an ordinary one
}

// Recorder is the recorder's state.
type Recorder struct {
	On        bool       `json:"on"`
	Bytes     int        `json:"bytes"`      // of its memory; an eighth as many beside them are for drops
	Since     *time.Time `json:"since"`      // it was switched on or resized; null: it is off
	Frames    uint64     `json:"frames"`     // that it has seen since
	Kept      uint64     `json:"kept"`       // of these, still there
	DropsKept uint64     `json:"drops_kept"` // dropped ones that are still there, in memory of their own
}

// RecordedPort is a container's port that the recorder may have frames of: one that is there, or has gone lately.
type RecordedPort struct {
	Network    string         `json:"network"`   // id
	Endpoint   string         `json:"endpoint"`  // id
	Sandbox    string         `json:"sandbox"`   // as in Targets; "": the daemon was started after the container
	Addresses  []netip.Prefix `json:"addresses"` //
	AttachedAt int64          `json:"came"`      // ns since 1970: when it was plugged
	DetachedAt int64          `json:"gone"`      // and unplugged; 0: it is there
}

// RecorderChange is the body of a PUT of RecorderPath.
type RecorderChange struct {
	Bytes int `json:"bytes"` // a power of two of 2 MiB or more; 0: off
}

// SandboxName is the last part of the path that Docker gives as a container's SandboxKey: the file name of its network namespace.
func SandboxName(path string) string { return path[strings.LastIndex(path, "/")+1:] }

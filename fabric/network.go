package fabric

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/fabric/state"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// What Docker asks for is also what stands on the disk.
type (
	Network  = state.Network
	Endpoint = state.Endpoint
	Guards   = state.Guards
	Limits   = state.Limits
	PeerName = state.PeerName
)

// Numbers of Limits.
const (
	NoLimit = state.NoLimit
	AutoMSS = state.AutoMSS
)

// CheckState reads every file of a state directory as Open does, and gives the number of networks. It changes
// nothing, and a daemon may be running on the directory.
func CheckState(dir string) (networks int, err error) { return state.Dir(dir).Check() }

// ErrVersion is the error of CheckState if another version of tapestry wrote an intact file.
var ErrVersion = state.ErrVersion

// Attachment is what Docker needs to move an endpoint's link into its container.
type Attachment struct {
	Link     string         // name in the daemon's network namespace, at most 15 bytes
	Prefix   string         // of the name in the container
	IfName   string         // whole name in the container, "": Prefix and a number
	External bool           // false: no docker_gwbridge for this endpoint
	Routes   []netip.Prefix // destinations that are reached by the link itself; without the subnets
}

// DefaultAgeing of a network.
const DefaultAgeing = vswitch.DefaultAgeing

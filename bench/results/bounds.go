package results

// Names of rungs and figures that have bounds.
const (
	OneHost        = "one host"
	TwoHosts       = "two hosts"
	DockerOneHost  = "docker, one host"
	DockerTwoHosts = "docker, two hosts"
	Alone          = "alone"
	RecorderOn     = "flight recorder on"
	RecorderAcross = "flight recorder on, two hosts"
	StuckReader    = "capture whose reader is stuck"
	CaptureToFile  = "capture of 128 B of every frame to a file"

	Tapestry = "tapestry" // the way that the others are compared with

	RecorderOff = "recorder off" // tapestry too, as in the one below
	CaptureOff  = "capture off"

	TCPOneFlow          = "TCP, 1 flow"
	TCPEightFlows       = "TCP, 8 flows"
	TCPNested           = "TCP, 1 flow, in a VXLAN of the containers"
	TCPOneFlowCPU       = "CPU, TCP, 1 flow"
	UDPSmall            = "UDP 64 B"
	EchoP50             = "TCP echo p50"
	FirstPing           = "docker run to first ping"
	FirstPingNoExternal = "docker run to first ping, external=off"
	RSSIdle             = "RSS, 1,000 idle endpoints"
	Decision            = "forwarding decision, one flow"
)

// A Bound is what tapestry's figure has to be of another way's: at least, or at most where lower is better.
// The aim is what it shall become.
type Bound struct {
	Rung, Measure, Against string
	Limit, Aim             float64
	Check, CheckSlow       float64 // what --check holds instead, and that where system calls are dear; 0: nothing. It is for whoever breaks something: no goal, and not missed on a bad day
}

// CheckLimit is what --check holds.
func (b Bound) CheckLimit(dear bool) float64 {
	if dear {
		return b.CheckSlow
	}
	return b.Check
}

// Bounds are ratios, but where there is nothing to compare with. The gates of the echo leave room for machines whose sleeping
// processors wake fast: the kernel gains more by it.
var Bounds = []Bound{
	{OneHost, TCPOneFlow, "kernel bridge", 0.85, 1.0, 0.7, 0.5},
	{OneHost, TCPEightFlows, "kernel bridge", 0.9, 1.1, 0.4, 0.3},
	{OneHost, TCPNested, "kernel bridge", 0.8, 1.0, 0, 0},
	{OneHost, EchoP50, "kernel bridge", 1.2, 0.9, 2, 2.4},
	{TwoHosts, TCPOneFlow, "kernel VXLAN", 0.85, 1.05, 0.6, 0.4},
	{TwoHosts, TCPOneFlow, "Open vSwitch", 9, 13, 0, 0},
	{TwoHosts, TCPOneFlowCPU, "kernel VXLAN", 1.25, 1.0, 2, 3},
	{TwoHosts, UDPSmall, "kernel VXLAN", 0.8, 1.5, 0.8, 0.6},
	{TwoHosts, EchoP50, "kernel VXLAN", 1.4, 1.1, 2.8, 3.8},
	{DockerTwoHosts, TCPOneFlow, "Docker overlay", 0.85, 1.05, 0, 0},
	{DockerOneHost, FirstPingNoExternal, "Docker bridge", 1.0, 0.9, 0, 0},
	{DockerOneHost, FirstPing, "Docker bridge", 1.2, 1.1, 0, 0},
	{RecorderOn, TCPOneFlow, RecorderOff, 0.97, 1.0, 0, 0},
	{RecorderAcross, TCPOneFlow, RecorderOff, 0.97, 1.0, 0, 0},
	{StuckReader, TCPOneFlow, CaptureOff, 0.95, 1.0, 0, 0},
	{CaptureToFile, TCPOneFlow, CaptureOff, 0.8, 0.9, 0, 0},
	{Alone, RSSIdle, "", 64, 40, 0, 0},
	{Alone, Decision, "", 15, 8, 0, 0},
}

// BoundOf is zero where there is none.
func BoundOf(rung, measure, against string) Bound {
	for _, b := range Bounds {
		if b.Rung == rung && b.Measure == measure && b.Against == against {
			return b
		}
	}
	return Bound{}
}

// Lower says whether a bound is an upper one.
func (b Bound) Lower() bool {
	return b.Measure != TCPOneFlow && b.Measure != TCPEightFlows && b.Measure != TCPNested && b.Measure != UDPSmall
}

package results

// Names of rungs and figures that have bounds.
const (
	OneHost        = "one host"
	TwoHosts       = "two hosts"
	DockerOneHost  = "docker, one host"
	DockerTwoHosts = "docker, two hosts"
	Flood          = "beside a flood"
	Scraping       = "metrics of 1,000 endpoints"
	Alone          = "alone"
	RecorderOn     = "flight recorder on"
	RecorderAcross = "flight recorder on, two hosts"
	StuckReader    = "capture whose reader is stuck"
	CaptureToFile  = "capture of 128 B of every frame to a file"

	Tapestry = "tapestry" // the setup that the others are compared with

	RecorderOff = "recorder off" // of tapestry too, as the one below
	CaptureOff  = "capture off"

	PlainHandler = "client_golang alone" // the handler of Prometheus' client, with as many series, whose values are constants

	TCPOneFlow          = "TCP, 1 flow"
	TCPEightFlows       = "TCP, 8 flows"
	TCPNested           = "TCP, 1 flow, in a VXLAN of the containers"
	TCPOneFlowCPU       = "CPU, TCP, 1 flow"
	UDPSmall            = "UDP 64 B"
	EchoP50             = "TCP echo p50"
	Scrape              = "scrape"
	FloodP99            = "UDP echo p99, beside a flood"
	FloodTimes          = "UDP echo p99, beside a flood, of the quiet one"
	FirstPing           = "docker run to first ping"
	FirstPingNoExternal = "docker run to first ping, external=off"
	RSSIdle             = "RSS, 1,000 idle endpoints"
	Decision            = "forwarding decision, one flow"
)

// A Bound is the limit of tapestry's ratio to another setup: at least, or at most where lower is better. With Against "" it is
// the limit of tapestry's own figure, in its unit.
type Bound struct {
	Rung, Measure, Against string
	Limit                  float64
	Aim                    float64 // the goal for later
	Check                  float64 // the limit of --check instead, laxer, so that it fails only if something broke; 0: --check does not measure it
	CheckSlow              float64 // the same where system calls are slow
}

// CheckLimit is the limit that --check applies, 0 if none: slow says that the machine's system calls are slow.
func (b Bound) CheckLimit(slow bool) float64 {
	if slow {
		return b.CheckSlow
	}
	return b.Check
}

// Bounds are those of all figures that have one. Those of --check for the echo leave room for machines whose sleeping processors wake fast: the
// kernel gains more by that.
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
	{Scraping, Scrape, PlainHandler, 2.5, 1.5, 4, 5},
	{Scraping, Scrape, "", 100, 60, 0, 0},
	{Alone, RSSIdle, "", 64, 40, 0, 0},
	{Alone, Decision, "", 15, 8, 0, 0},
}

// BoundOf returns the zero Bound where there is none.
func BoundOf(rung, measure, against string) Bound {
	for _, b := range Bounds {
		if b.Rung == rung && b.Measure == measure && b.Against == against {
			return b
		}
	}
	return Bound{}
}

// Lower says whether lower is better, so that the limit is an upper one.
func (b Bound) Lower() bool {
	return b.Measure != TCPOneFlow && b.Measure != TCPEightFlows && b.Measure != TCPNested && b.Measure != UDPSmall
}

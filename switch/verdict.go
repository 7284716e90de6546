package vswitch

// A Verdict is what the switch decided about one frame. Every frame gets exactly one.
type Verdict uint8

// The first two are deliveries, the others are drops, named as metrics and captures show them.
const (
	Forwarded Verdict = iota // to the one port that owns the destination
	Flooded                  // to every port that may have it: group or unknown destination
	Runt                     // shorter than an Ethernet header
	Offload                  // what it says about segments or checksums contradicts its bytes
	BadSource                // the source is a group address or zero: IEEE 802.1Q 8.7.1 learns no such address, and no station owns one
	Spoofed                  // the source is pinned to another port
	Hairpin                  // the destination is behind the port it came by
	Horizon                  // came from a remote host and would go to one; the mesh is full, so that one has it already
	MTU                      // longer than its way can carry
	Detached                 // came by a port that has left the switch
	Fault                    // lost on purpose: ether.Frame.Fault says how
	Down                     // the link that it would leave by is down: Port.SetDown
	verdicts
)

var verdictNames = [verdicts]string{
	"forwarded", "flooded", "runt", "offload", "bad_source", "spoofed", "hairpin", "horizon", "mtu", "detached", "fault", "down",
}

func (v Verdict) String() string { return verdictNames[v] }

// Drop tells whether v means that the frame went nowhere.
func (v Verdict) Drop() bool { return v > Flooded }

// A Tally counts frames by verdict.
type Tally [verdicts]uint64

// Rx is the number of frames received: the sum over all verdicts.
func (t *Tally) Rx() (n uint64) {
	for _, x := range t {
		n += x
	}
	return n
}

// Drops is the counts of those that went nowhere, by name, zeros included.
func (t *Tally) Drops() map[string]uint64 {
	m := make(map[string]uint64, verdicts)
	for v := Flooded + 1; v < verdicts; v++ {
		m[v.String()] = t[v]
	}
	return m
}

// Known tells whether v is one of the above: a number from outside need not be.
func (v Verdict) Known() bool { return v < verdicts }

package vswitch

// A Verdict is what the switch decided about one frame. Every frame gets exactly one.
type Verdict uint8

// Forwarded, Flooded and Answered are deliveries, the others are drops. Numbers travel in captures: new ones come last. See
// verdictTexts for what each means.
const (
	Forwarded Verdict = iota // to the one port that owns the destination
	Flooded                  // to every port that may have it: group or unknown destination
	Runt
	Offload   // ether.Frame.Check failed
	BadSource // IEEE 802.1Q 8.7.1 learns no such address
	Spoofed   // the source is pinned to another port
	Hairpin
	Horizon // split horizon: in a full mesh the other host got the frame from its sender
	MTU
	Detached
	Fault    // ether.Frame.Fault says which
	Down     // Port.SetDown
	Answered // a question for a MAC, by the switch itself: see Switch.SetAnswers
	LinkLocal
	verdicts
)

// verdictTexts are the texts for people and programs. docs/json.md repeats names and meanings,
// docs/troubleshooting.md the advice too, which a test compares.
var verdictTexts = [verdicts]struct {
	name    string // in metrics, captures and JSON
	meaning string // of a drop: why it was dropped
	advice  string // of a drop: what to do
}{
	Forwarded: {name: "forwarded"},
	Flooded:   {name: "flooded"},
	Runt:      {"runt", "shorter than an Ethernet header", "Find the program that sends it"},
	Offload: {"offload", "what it says about its segments or checksums contradicts its bytes",
		"A raw socket of the container's, or a kernel bug"},
	BadSource: {"bad_source", "its source address is a group address or zero", "Find the program that sends it"},
	Spoofed: {"spoofed", "its source address belongs to another container of this host",
		"See the conflicts in `tapestry status`"},
	Hairpin: {"hairpin", "it would leave by the port that it came by",
		"If that is wrong, `tapestry fdb` shows where the destination was learned; the entry goes when that address is silent"},
	Horizon: {"horizon", "it came from a remote host and would go to one, which has it already",
		"If this lasts, one of the hosts lacks a peer: `tapestry peers` on each"},
	MTU: {"mtu", "too long for its path",
		"Send smaller packets: a smaller MTU of the network (com.docker.network.driver.mtu), or a larger one of the underlay"},
	Detached: {"detached", "it came by a port that is not up, or is being removed", "`tapestry ports` and the daemon's log say why"},
	Fault:    {"fault", "lost on purpose, by tapestry fault", "`tapestry fault list` shows the fault"},
	Down:     {"down", "the link that it would leave by is down", "`tapestry doctor` says what to type"},
	Answered: {name: "answered"},
	LinkLocal: {"link_local", "for the other end of its link only, as LLDP, LACP and pause frames are",
		"Nothing, most often: bridges drop them too"},
}

// String is the verdict's name in metrics, captures and JSON.
func (v Verdict) String() string { return verdictTexts[v].name }

// ParseVerdict is the reverse of String; false if there is no verdict of that name.
func ParseVerdict(name string) (Verdict, bool) {
	for v := range verdicts {
		if verdictTexts[v].name == name {
			return v, true
		}
	}
	return 0, false
}

// Meaning says why frames with this verdict are dropped, about "the frame"; "" if they are not.
func (v Verdict) Meaning() string { return verdictTexts[v].meaning }

// Advice says what to do about the drops, as a sentence without its full stop; "" for a delivery.
func (v Verdict) Advice() string { return verdictTexts[v].advice }

// Drop tells whether v means that the frame was sent to no port, nor answered.
func (v Verdict) Drop() bool { return v > Flooded && v != Answered }

// Known tells whether v is one of the above: a number from outside need not be.
func (v Verdict) Known() bool { return v < verdicts }

// A Tally counts frames by verdict.
type Tally [verdicts]uint64

// Rx is the number of frames received: the sum over all verdicts.
func (t *Tally) Rx() (n uint64) {
	for _, x := range t {
		n += x
	}
	return n
}

// Drops is the counts of the drops by name, zeros included.
func (t *Tally) Drops() map[string]uint64 {
	m := make(map[string]uint64, verdicts)
	for v, n := range t {
		if v := Verdict(v); v.Drop() {
			m[v.String()] = n
		}
	}
	return m
}

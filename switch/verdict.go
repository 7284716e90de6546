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
	Spoofed   // the source is pinned to another port, see OwnAddress
	Hairpin
	Horizon // split horizon: in a full mesh the other host got the frame from its sender
	MTU
	Detached
	Fault    // ether.Frame.Fault says which
	Down     // Port.SetDown
	Answered // a question for a MAC, by the switch itself: see Switch.SetAnswers
	LinkLocal

	// By a guard, see Guards.
	SpoofedIP
	SpoofedARP
	SpoofedND
	RA
	DHCP
	BPDU
	Unreadable // ether.Hidden

	Flapping   // see relocate
	Storm      // Policy.Storm
	Rate       // Policy.Rate
	Isolated   // Policy.Isolated
	VLAN       // Port.SetVLANs
	OwnAddress // Spoofed, by a remote host
	verdicts
)

// verdictTexts are the texts for people and programs. docs/json.md repeats names and meanings, docs/drops.md all of them, which a
// test compares.
var verdictTexts = [verdicts]struct {
	name    string // in metrics, captures and JSON
	meaning string // of a drop: why it was dropped
	cause   string // of a drop: what it usually comes from
	advice  string // of a drop: what to do
}{
	Forwarded: {name: "forwarded"},
	Flooded:   {name: "flooded"},
	Answered:  {name: "answered"},

	Runt: {"runt", "shorter than an Ethernet header", "a raw socket", "Find the program that sends it"},
	Offload: {"offload", "what it says about its segments or checksums contradicts its bytes",
		"a raw socket of the container's, or a kernel bug", "`tapestry capture NAME --drops --offload raw -w FILE` shows what it says"},
	BadSource: {"bad_source", "its source address is a group address or zero", "a raw socket", "Find the program that sends it"},
	Spoofed: {"spoofed", "its source address belongs to another container of this host",
		"a container that forges it", "`tapestry status` says which, and whose it is"},
	Hairpin: {"hairpin", "it would leave by the port that it came by",
		"a container that has just moved; many: two bridges in one container",
		"If that is wrong, `tapestry fdb` shows where the destination was learned; the entry goes when that address is silent"},
	Horizon: {"horizon", "it came from a remote host and would go to one, which has it already",
		"a container that has just moved, or a host that lacks a peer", "If this lasts, one of the hosts lacks a peer: `tapestry peers` on each"},
	MTU: {"mtu", "too long for its path", "a container that was started with a larger MTU than the path has now",
		"Send smaller packets: a smaller MTU of the network (com.docker.network.driver.mtu), or a larger one of the underlay"},
	Detached: {"detached", "it came by a port that is not up, or is being removed", "a container that starts or ends",
		"`tapestry ports` and the daemon's log say why"},
	Fault: {"fault", "lost on purpose, by tapestry fault", "somebody has set a fault", "`tapestry fault list` shows the fault"},
	Down: {"down", "the link that it would leave by is down", "`ip link set eth0 down` in a container, or a host of the cluster that is gone",
		"`tapestry doctor` says what to type"},
	LinkLocal: {"link_local", "for the other end of its link only, as LLDP, LACP and pause frames are",
		"lldpd, a bond or a bridge in a container", "Nothing, most often: bridges drop them too. If it is a network lab: " + optAllow + "bpdu"},

	SpoofedIP: {"spoofed_ip", "its IP source address belongs to another container of this host",
		"a container that forges it, or that was given by hand the address of another", "`tapestry status` says whose. If it must: " + optGuard},
	SpoofedARP: {"spoofed_arp", "its ARP speaks for an address that belongs to another container of this host",
		"a container that wants another's frames, or that was given by hand the address of another", "`tapestry status` says whose. If it must: " + optGuard},
	SpoofedND: {"spoofed_nd", "its neighbour discovery speaks for an address that belongs to another container of this host",
		"a container that wants another's frames, or that was given by hand the address of another", "`tapestry status` says whose. If it must: " + optGuard},
	RA: {"ra", "a router advertisement or redirect, and its container may send none",
		"a container that is a router, or wants to be taken for one", "If it is one: " + optAllow + "ra"},
	DHCP: {"dhcp", "an answer of a DHCP server, and its container may send none",
		"a container that is a DHCP server or relay, or wants to be taken for one", "If it is one: " + optAllow + "dhcp"},
	BPDU: {"bpdu", "what bridges find loops and each other by (STP, PVST+, CDP), and its container may send none",
		"a bridge with STP in a container", "If it is a network lab: " + optAllow + "bpdu"},
	Unreadable: {"unreadable", "its headers hide whether it speaks for another, or is a router's or a DHCP server's",
		"a raw socket", "Find the program that sends it. If it must: " + optGuard},

	Flapping: {"flapping", "its source address moves between ports too often, and is held at another one",
		"a loop, as two interfaces of a container in one bridge; or two stations with one address",
		"Find the loop, or who else has the address: `tapestry fdb` and the log say where it is held"},
	Storm: {"storm", "more broadcast, multicast or frames to unknown stations than its port may send in a second",
		"a loop in a container, or a program that floods", "Find the program. If it must: tapestry.storm=off, or a larger number; multicast: tapestry.snooping"},
	Rate: {"rate", "faster than its container's tapestry.rate", "traffic up to the limit, as TCP finds it",
		"Nothing, most often: some are how TCP finds the rate. Many, of UDP: send more slowly, or raise tapestry.rate"},
	Isolated: {"isolated", "from or to a container with tapestry.isolated that may not talk with the other end",
		"what else is on the network: broadcast, names, multicast", "If they are to talk: tapestry.allow-to"},
	VLAN: {"vlan", "its VLAN is not one of the port's that it came by, or would leave by",
		"containers in different VLANs, or one that tags frames itself", "If they should reach each other: the same tapestry.vlan for both"},
	OwnAddress: {"own_address", "it came from a remote host, and its source address belongs to a container of this host",
		"the same address given out on two hosts; or a loop, by which a container's own frames come back", "See the conflicts in `tapestry status`. If no other host has the address: find what connects two networks or hosts beside tapestry"},
}

// What users type to loosen a guard, of one container or of a network.
const (
	optGuard = "tapestry.guard=mac"
	optAllow = "tapestry.allow="
)

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

// Cause says what the drops usually come from, as a sentence without its full stop; "" for a delivery.
func (v Verdict) Cause() string { return verdictTexts[v].cause }

// Advice says what to do about the drops, as a sentence without its full stop; "" for a delivery.
func (v Verdict) Advice() string { return verdictTexts[v].advice }

// Drop tells whether v means that the frame was sent to no port, nor answered.
func (v Verdict) Drop() bool { return v > Flooded && v != Answered }

// Guard tells whether v is a drop by a guard.
func (v Verdict) Guard() bool { return v >= SpoofedIP && v <= Unreadable }

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

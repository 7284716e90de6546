package trace

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Print writes r to w: a line for each check of the switch and each port that the frame leaves by, and the verdict last.
func Print(w io.Writer, r api.Trace, d *docker.Engine) error {
	var lines [][2]string
	line := func(word, format string, args ...any) {
		lines = append(lines, [2]string{word, fmt.Sprintf(format, args...)})
	}
	if r.About != "" {
		line("frame", "%s", r.About)
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	for _, s := range r.Steps {
		line(s.Check, "%s", stepText(s, r, d))
	}
	for _, x := range r.Egress {
		line("egress", "%s: %s", d.PortLabel(x.Port), egressText(x, r))
	}
	if r.Down != "" {
		line("tunnel", "down: %s", r.Down)
	}
	if r.Injected != "" {
		line("injected", "the frame was sent, and the switch's verdict was: %s", r.Injected)
	} else if r.Request.Inject {
		line("injected", "no: the port is down")
	}
	line("verdict", "%s", verdictText(r, d))
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-12s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}

// stepText describes what a check of the switch has found.
func stepText(s api.TraceStep, r api.Trace, d *docker.Engine) string {
	owner, age := d.PortLabel(s.Port), human.Age(s.AgeSeconds)+" ago"
	what := map[string]string{
		"offload none":          fmt.Sprintf("%d bytes, its checksum is complete", r.Bytes),
		"offload checksum":      fmt.Sprintf("%d bytes, its checksum is partial", r.Bytes),
		"offload super-frame":   fmt.Sprintf("a super-frame, to be cut into frames of up to %d bytes", r.Bytes),
		"offload runt":          fmt.Sprintf("%d bytes are too short for an Ethernet header", r.Bytes),
		"offload contradiction": vswitch.Offload.Meaning(),
		"port attached":         d.PortLabel(r.In.Port) + " is up" + inParentheses(whereText(r.In)),
		"port detached":         d.PortLabel(r.In.Port) + " is being removed",
		"port down":             d.PortLabel(r.In.Port) + " is down: " + s.Why,
		"source pinned":         s.MAC + " is " + owner + "'s own",
		"source known":          s.MAC + " is known there, last seen " + age,
		"source new":            s.MAC + " is new: it is learned",
		"source moved":          fmt.Sprintf("%s moves here from %s, where it was last seen %s", s.MAC, owner, age),
		"source held":           fmt.Sprintf("%s moves too often: it is held at %s", s.MAC, owner),
		"source taken":          s.MAC + " belongs to " + owner,
		"source own":            fmt.Sprintf("%s belongs to %s, here: a frame of its own has come back, or another host has the address too", s.MAC, owner),
		"source other":          fmt.Sprintf("%s belongs to %s, and this port may use it: nothing is learned", s.MAC, owner),
		"guard passes":          "it does not speak for another container, nor as what its own may not be",
		"guard spoofed_ip":      fmt.Sprintf("its IP source %s belongs to %s", s.Address, owner),
		"guard spoofed_arp":     fmt.Sprintf("its ARP speaks for %s, which belongs to %s", cmp.Or(s.Address, s.MAC), owner),
		"guard spoofed_nd":      fmt.Sprintf("its neighbour discovery speaks for %s, which belongs to %s", cmp.Or(s.Address, s.MAC), owner),
		"guard ra":              vswitch.RA.Meaning(),
		"guard dhcp":            vswitch.DHCP.Meaning(),
		"guard bpdu":            vswitch.BPDU.Meaning(),
		"guard unreadable":      vswitch.Unreadable.Meaning(),
		"source group":          s.MAC + " is a group address: no station has it",
		"source zero":           s.MAC + " is no station's address",
		"destination pinned":    s.MAC + " is " + owner + "'s own",
		"destination learned":   fmt.Sprintf("%s was learned at %s, last seen %s", s.MAC, owner, age),
		"destination told":      s.MAC + " was not seen yet: it is behind " + owner + ", as the cluster says",
		"destination unknown":   s.MAC + " is not known: to all ports",
		"destination group":     s.MAC + " is a group address: to all ports",
		"hairpin no":            "no: it leaves by another port than it came by",
		"hairpin yes":           "yes: " + vswitch.Hairpin.Meaning(),
		"horizon no":            "no: it does not go from one remote host to another",
		"horizon yes":           "yes: " + vswitch.Horizon.Meaning(),
		"vlan in":               "of a VLAN of the port",
		"vlan not_here":         "its VLAN is none of " + d.PortLabel(r.In.Port) + "'s, see tapestry.vlan",
		"vlan not_there":        "its VLAN is none of the port's that it would leave by, see tapestry.vlan",
		"link up":               "the link that it leaves by is up",
		"link down":             vswitch.Down.Meaning(),
		"length fits":           fmt.Sprintf("%d bytes fit, the path takes %d", r.Bytes, s.Limit),
		"length long":           fmt.Sprintf("%d bytes are too long, the path takes %d", r.Bytes, s.Limit),
		"length told":           fmt.Sprintf("%d bytes are too long, the path takes %d: the sender is told so (ICMP)", r.Bytes, s.Limit),
		"mss lowered":           fmt.Sprintf("the MSS is lowered to %d, by tapestry.mss", s.Limit),
		"answer told":           fmt.Sprintf("%s is %s, says host %s: answered to %s at once", s.Address, s.MAC, s.Why, d.PortLabel(r.In.Port)),
		"answer unknown":        fmt.Sprintf("no other host of the cluster says that it has %s: not answered here", s.Address),
		"answer down":           fmt.Sprintf("host %s says that it has %s, and is gone: not answered here", s.Why, s.Address),
		"answer elsewhere":      fmt.Sprintf("host %s says that it has %s, but frames to %s go to %s: not answered here", s.Why, s.Address, s.MAC, owner),
		"answer again":          fmt.Sprintf("host %s says that it has %s, as was answered in the last minute: not answered again, somebody may know better", s.Why, s.Address),
		"flood some":            fmt.Sprintf("to %s", portsText(outputs(r))),
		"flood members":         fmt.Sprintf("to those that want this group, and to routers: %s", portsText(outputs(r))),
		"flood nobody":          "there is no port that it may leave by",
		"flood long":            fmt.Sprintf("%d bytes are too long for each port that is up", r.Bytes),
		"flood reserved":        "dropped: " + vswitch.LinkLocal.Meaning(),
		"flood flapping":        "dropped: " + vswitch.Flapping.Meaning(),
		"flood storm":           "dropped: " + vswitch.Storm.Meaning(),
		"limit within":          "within the limits of " + owner,
		"limit rate":            "faster than the rate of " + owner,
		"limit isolated":        owner + " is isolated, and may not talk with the other end",
		"flood down":            "each port that it may leave by is down",
	}[s.Check+" "+s.Found]
	if what == "" { // a finding of another version of the daemon, or the text of a fault
		what = s.Found
	}
	switch {
	case s.Check == "port" && s.Found == "attached" && r.In.Kind != "remote" && r.In.Down != "":
		what = fmt.Sprintf("nothing comes from %s now: %s", d.PortLabel(r.In.Port), r.In.Down) + inParentheses(whereText(r.In))
	case s.Check == "fault" && s.Why != "":
		what += ", but this port has faults: " + s.Why
	case s.Check == "destination" && s.Found == "group" && r.Verdict == "answered":
		what = s.MAC + " is a group address"
	case s.Check == "destination" && s.Why != "":
		what += fmt.Sprintf("; %s has it and is down: %s", owner, s.Why)
	}
	if s.Evicts != nil {
		what += fmt.Sprintf("; the table is full, so that %s at %s is forgotten", s.Evicts.MAC, d.PortLabel(s.Evicts.Port))
	}
	return what
}

func inParentheses(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// whereText describes a port's link: name, VXLAN peer, MTU.
func whereText(p api.TracePort) string {
	var facts []string
	fact := func(format string, args ...any) { facts = append(facts, fmt.Sprintf(format, args...)) }
	if p.Link != "" {
		fact("link %s", p.Link)
	}
	if p.Addr != "" {
		fact("VXLAN to %s", p.Addr)
	}
	if p.MTU != 0 {
		fact("MTU %d", p.MTU)
	}
	if p.PathMTU != 0 {
		fact("path MTU %d less %d", p.PathMTU, p.Overhead)
	}
	return strings.Join(facts, ", ")
}

// egressText says whether the frame leaves by a port, and if not, why.
func egressText(x api.TraceEgress, r api.Trace) string {
	facts := []string{whereText(x.TracePort)}
	if x.Kind == "remote" && x.Addr != "" {
		facts = append(facts, fmt.Sprintf("VNI %d", r.VNI), offloadText(x.GSO, x.GSOWhy, "many datagrams in one send"))
		if x.RemoteSum {
			facts = append(facts, "checksums are completed there")
		}
		if x.Lost > 0 {
			facts = append(facts, fmt.Sprintf("the path lost %s of datagrams in the last minute", human.Percent(x.Lost, x.Probes)))
		}
	} else if x.GSOWhy != "" {
		facts = append(facts, offloadText(x.GSO, x.GSOWhy, "the kernel's offload"))
	}
	if x.Sparse && r.Verdict == "flooded" {
		facts = append(facts, "a few times a second at most: Docker says that this host has left the Swarm, and it is silent")
	}
	if x.Faults != "" {
		facts = append(facts, "this port has faults: "+x.Faults)
	}
	end := map[string]string{"forwarded": "it leaves", "mtu": fmt.Sprintf("too long, it takes %d bytes", x.Limit),
		"horizon": "not from one remote host to another", "hairpin": "not back by the port that it came by", "down": "not there: " + x.Down,
		"rate": "faster than its rate", "isolated": "not to it, it is isolated"}[x.Verdict]
	if isLost(x) {
		end = "it is lost, the host is unreachable: " + x.Down
	}
	return end + inParentheses(strings.Join(facts, ", "))
}

func offloadText(on bool, why, what string) string {
	if on {
		return what
	}
	return "not " + what + ": " + why
}

// outputs returns the number of ports that the frame leaves by.
func outputs(r api.Trace) (n int) {
	for _, x := range r.Egress {
		if x.Verdict == "forwarded" {
			n++
		}
	}
	return n
}

// isLost reports whether the switch sends the frame to a port whose peer it has no route to.
func isLost(x api.TraceEgress) bool { return x.Verdict == "forwarded" && x.Down != "" }

// lostReason returns why all copies that leave are lost; "" if one is not.
func lostReason(r api.Trace) (why string) {
	for _, x := range r.Egress {
		if x.Verdict == "forwarded" && !isLost(x) {
			return ""
		}
		if isLost(x) {
			why = x.Down
		}
	}
	return why
}

func portsText(n int) string {
	if n == 1 {
		return "1 port"
	}
	return fmt.Sprintf("%d ports", n)
}

// Delivered reports whether the frame would reach its destination, one of the others on the network if it is flooded, or be answered.
func Delivered(r api.Trace) bool {
	if r.Verdict == vswitch.Answered.String() {
		return !strings.Contains(faultsOf(r), "loss 100%")
	}
	return !r.Drop && outputs(r) > 0 && lostReason(r) == "" && downDestination(r) == "" && !strings.Contains(faultsOf(r), "loss 100%")
}

// faultsOf returns the faults on the frame's ingress port, and on its egress port if it leaves by one only.
func faultsOf(r api.Trace) string {
	all := []string{r.In.Faults}
	if len(r.Egress) == 1 {
		all = append(all, r.Egress[0].Faults)
	}
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), ", ")
}

// downDestination returns the port that has the destination address and is down, "" if there is none.
func downDestination(r api.Trace) string {
	for _, s := range r.Steps {
		if s.Check == "destination" && s.Why != "" {
			return s.Port
		}
	}
	return ""
}

// Outcome says in a few words what would happen to the frame, for a sentence that begins with "the frame".
func Outcome(r api.Trace) string {
	switch {
	case r.Drop:
		return "would be dropped: " + r.Verdict
	case r.Verdict == vswitch.Answered.String():
		return "would be answered by tapestry"
	case outputs(r) == 0:
		return "would reach nobody: there is no other port"
	case downDestination(r) != "":
		return "would not reach its destination, which is down"
	case lostReason(r) != "":
		return "would be lost, the host is unreachable: " + lostReason(r)
	}
	if faults := faultsOf(r); faults != "" {
		return "would be " + r.Verdict + ", apart from the faults that are set: " + faults
	}
	return "would be " + r.Verdict
}

// verdictText returns the last line: what would happen to the frame, why, and what to do.
func verdictText(r api.Trace, d *docker.Engine) string {
	var names, lost []string
	for _, x := range r.Egress {
		switch {
		case isLost(x):
			lost = append(lost, d.PortLabel(x.Port))
		case x.Verdict == "forwarded":
			names = append(names, d.PortLabel(x.Port))
		}
	}
	v, known := vswitch.ParseVerdict(r.Verdict)
	switch {
	case r.Drop && known:
		text := fmt.Sprintf("dropped (%s): %s. %s", v, v.Meaning(), v.Advice())
		if r.Verdict == "mtu" && ether.IsTagged(r.Request.Frame) {
			text += ". It has a VLAN tag: the VLAN's link needs a MTU 4 bytes smaller than the link below it"
		}
		return text
	case r.Drop:
		return "dropped: " + r.Verdict
	case r.Verdict == vswitch.Answered.String():
		return "answered by tapestry, on the word of another host of the cluster; sent to nobody"
	case lostReason(r) != "":
		return fmt.Sprintf("%s to %s, unreachable: %s. `tapestry doctor` says what to type", r.Verdict, firstFew(lost), lostReason(r))
	case len(names) == 0:
		return fmt.Sprintf("%s, but nobody gets it: no other port is up on this network", r.Verdict)
	}
	if owner := downDestination(r); owner != "" {
		return fmt.Sprintf("%s, but its destination %s is down: see `tapestry ports`", r.Verdict, d.PortLabel(owner))
	}
	text := fmt.Sprintf("%s to %s", r.Verdict, firstFew(names))
	if lost != nil {
		text += "; unreachable: " + firstFew(lost)
	}
	return text
}

// firstFew joins names with commas, at most five of them.
func firstFew(names []string) string {
	const most = 5
	if len(names) > most {
		names = append(names[:most:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(names, ", ")
}

package vswitch

import (
	"net/netip"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// An Explanation is what Ingress would do with one frame, and why.
type Explanation struct {
	Verdict Verdict
	Steps   []Step   // the checks in order, up to the one that drops the frame
	Egress  []Egress // of a known destination: its port; of a flooded frame: each port but its own; else none, also if it is answered
}

// A Check is one of the checks that a frame has to pass.
type Check string

// The checks in their order, each with the words of Step.Found: before the semicolon those with which the frame passes.
// Only where the port's Policy has guards there is a Guard, only where a port has VLANs a VLAN, and only where it finds something an MSS. A frame has either Hairpin, Horizon, VLAN, Link and Length, or Flood. A question for a MAC may have Answer before Flood, or in its place.
const (
	CheckOffload     Check = "offload"     // none, checksum, super-frame; runt, contradiction
	CheckPort        Check = "port"        // attached; detached
	CheckFault       Check = "fault"       // none, or ether.Fault.String
	CheckVLAN        Check = "vlan"        // in; not_here, not_there: of the port that it came by, and of that which it leaves by, if it has VLANs
	CheckSource      Check = "source"      // pinned, known, new, moved, held, other (taken, and the Policy allows it); taken, own (taken, by a remote host), group, zero
	CheckGuard       Check = "guard"       // passes; or the name of the verdict: spoofed_ip, spoofed_arp, spoofed_nd, ra, dhcp, bpdu, unreadable
	CheckLimit       Check = "limit"       // within; isolated, rate: of the port, or of the one that the frame would leave by
	CheckDestination Check = "destination" // pinned, learned, told, unknown, group
	CheckHairpin     Check = "hairpin"     // no; yes
	CheckHorizon     Check = "horizon"     // no; yes
	CheckLink        Check = "link"        // up; down
	CheckLength      Check = "length"      // fits; long, told (its sender is told that it is too long)
	CheckMSS         Check = "mss"         // lowered: it opens a TCP connection, and leaves with a lower MSS
	CheckAnswer      Check = "answer"      // told: answered here; flooded: unknown, down, elsewhere, again. See SetAnswers
	CheckFlood       Check = "flood"       // some, nobody, members (of the multicast group: see SetSnooping); long, down, reserved (LinkLocal), flapping, storm
)

// A Step is one check of a frame.
type Step struct {
	Check Check
	Found string // one word, see the checks
	Drop  bool   // the frame is dropped here

	MAC   ether.MAC     // of source and destination; of an answer, if there is one; that ARP or ND names, if a guard drops it
	Addr  netip.Addr    // that a question asks for; that a guard finds to be another port's
	Port  *Port         // owns that address, before this frame; nil: none does
	Home  *Port         // of a source that is held: where
	Age   time.Duration // since a learned one was last seen, in whole seconds
	Evict *Entry        // the learned address that is evicted when this source is learned; nil: there is room

	Limit int // of length and mss, in bytes
}

// An Egress is a port by which a frame leaves, or would leave if the verdict allowed it.
type Egress struct {
	Port    *Port
	Verdict Verdict // Forwarded: it leaves; else the reason why not
	Limit   int     // length of the longest frame, tagged as this one, that the port can send, in bytes
}

// Explain tells what Ingress by p would do with f, if it were received now and alone. It changes nothing: nothing is
// learned, counted, shown or sent, and f stays as it is. The answer holds until the next frame, change or tick.
func (p *Port) Explain(f *ether.Frame) Explanation {
	g := *f // Check writes into it
	p.sw.tableMu.Lock()
	defer p.sw.tableMu.Unlock()
	e := Explanation{Verdict: p.validate(&g)}
	e.Steps = p.validationSteps(&g, e.Verdict)
	if e.Verdict.Drop() {
		return e
	}
	source := p.explainSource(&g)
	e.Steps = append(e.Steps, source)
	if source.Drop {
		e.Verdict = p.taken()
		return e
	}
	if guards := p.Policy().Guards; guards != 0 {
		step, v := p.explainGuard(guards, &g)
		if e.Steps = append(e.Steps, step); step.Drop {
			e.Verdict = v
			return e
		}
	}
	if l := p.limits.Load(); l != nil && e.limited(p, l.mayReceive(p.sw.nanoseconds(), &g)) {
		return e
	}
	to, destination := p.explainDestination(&g, source)
	e.Steps = append(e.Steps, destination)
	if e.Verdict = p.decide(&g, to); e.Verdict == Flooded && source.Found == "held" {
		e.Verdict = Flapping
	} else if e.Verdict == Flooded && p.wouldStorm() {
		e.Verdict = Storm
	}
	switch {
	case to != nil:
		p.explainUnicast(&g, to, &e)
	case e.Verdict != Flooded || !p.explainAnswer(&g, source, &e):
		p.explainFlood(&g, &e)
	}
	return e
}

// explainAnswer adds the step of a question, and tells whether it is answered.
func (p *Port) explainAnswer(f *ether.Frame, source Step, e *Explanation) bool {
	r := p.answer(f, func(m ether.MAC) *Port {
		switch {
		case m == f.Src():
			return p
		case source.Evict != nil && source.Evict.MAC == m:
			return nil
		}
		return p.sw.find(m)
	})
	if r.found != "" {
		e.Steps = append(e.Steps, Step{Check: CheckAnswer, Found: r.found, MAC: r.mac, Port: r.port, Addr: r.question.Target})
	}
	if r.found != "told" {
		return false
	}
	e.Verdict = Answered
	return true
}

// validationSteps are the steps of validate, which gave f the verdict v; with the source only if that drops the frame.
func (p *Port) validationSteps(f *ether.Frame, v Verdict) []Step {
	offload := Step{Check: CheckOffload, Found: "none"}
	switch {
	case v == Runt:
		offload.Found, offload.Drop = "runt", true
		return []Step{offload}
	case v == Offload:
		offload.Found, offload.Drop = "contradiction", true
		return []Step{offload}
	case f.Off.Kind != ether.None:
		offload.Found = "super-frame"
	case f.Off.PartialChecksum:
		offload.Found = "checksum"
	}
	if v == Detached {
		return []Step{offload, {Check: CheckPort, Found: "detached", Drop: true}}
	}
	fault := Step{Check: CheckFault, Found: "none", Drop: v == Fault}
	if f.Fault != 0 {
		fault.Found = f.Fault.String()
	}
	steps := []Step{offload, {Check: CheckPort, Found: "attached"}, fault}
	if v == BadSource {
		source := Step{Check: CheckSource, Found: "group", Drop: true, MAC: f.Src()}
		if f.Src().IsZero() {
			source.Found = "zero"
		}
		return append(steps, source)
	}
	if v != Fault && p.vlans.Load() != nil {
		step := Step{Check: CheckVLAN, Found: "in", Drop: v == VLAN}
		if step.Drop {
			step.Found = "not_here"
		}
		steps = append(steps, step)
	}
	return steps
}

// explainSource tells what learnSource would do. tableMu is held.
func (p *Port) explainSource(f *ether.Frame) Step {
	s := p.sw.station(f.Src())
	step := Step{Check: CheckSource, MAC: f.Src()}
	if s != nil {
		e := p.sw.entry(s)
		step.Port, step.Age = e.Port, e.Age
	}
	count := p.sw.count
	switch s.sourceAt(p) {
	case sourceSpoofed:
		switch step.Found, step.Drop = "taken", true; {
		case p.Policy().AnyMAC:
			step.Found, step.Drop = "other", false
		case p.Uplink:
			step.Found = "own"
		}
		return step
	case sourceKnown:
		step.Found = "known"
		if s.pinned {
			step.Found = "pinned"
		}
		return step
	case sourceNew:
		step.Found = "new"
	case sourceMoved:
		step.Found = "moved"
		count-- // its old entry goes first
	}
	to := p
	if s != nil {
		now := p.sw.now.Load()
		if to = s.port.Load(); !s.isHeld(now) {
			to, _, _ = s.next(p, now)
		}
		if to != p {
			step.Found, step.Home = "held", to
		}
		if to == s.port.Load() {
			return step
		}
	}
	if old := p.sw.victim(to, count); old != nil {
		e := p.sw.entry(old)
		step.Evict = &e
	}
	return step
}

// explainGuard tells what a guard finds.
func (p *Port) explainGuard(guards Guards, f *ether.Frame) (step Step, v Verdict) {
	r := p.inspect(guards, f)
	step = Step{Check: CheckGuard, Found: "passes", Drop: r.verdict.Drop()}
	if step.Drop {
		step.Found, step.Addr, step.MAC, step.Port = r.verdict.String(), r.addr, r.mac, r.of
	}
	return step, r.verdict
}

// explainDestination tells what locate would return after the source was learned. tableMu is held.
func (p *Port) explainDestination(f *ether.Frame, source Step) (to *Port, step Step) {
	step = Step{Check: CheckDestination, Found: "unknown", MAC: f.Dst()}
	if f.Dst().Group() {
		step.Found = "group"
	}
	s := p.sw.station(f.Dst())
	switch {
	case f.Dst() == f.Src() && source.Found != "other": // whichever port had it
		step.Found, step.Port = "learned", p
		switch source.Found {
		case "pinned":
			step.Found = "pinned"
		case "held":
			step.Port = source.Home
		}
	case s == nil, source.Evict != nil && source.Evict.MAC == f.Dst():
		if q := p.sw.place(f.Dst()); q != nil && !p.Uplink {
			step.Found, step.Port = "told", q
		}
	default:
		e := p.sw.entry(s)
		step.Found, step.Port, step.Age = "learned", e.Port, e.Age
		if e.Pinned {
			step.Found = "pinned"
		}
	}
	return step.Port, step
}

// explainUnicast adds the steps and the egress port of a frame whose destination is known.
func (p *Port) explainUnicast(f *ether.Frame, to *Port, e *Explanation) {
	limit := to.limitOf(f)
	e.Egress = []Egress{{to, e.Verdict, limit}}
	for _, c := range []struct {
		check    Check
		end      Verdict
		good, no string
	}{{CheckHairpin, Hairpin, "no", "yes"}, {CheckHorizon, Horizon, "no", "yes"}, {CheckVLAN, VLAN, "in", "not_there"}, {CheckLink, Down, "up", "down"}, {CheckLength, MTU, "fits", "long"}} {
		if c.check == CheckVLAN && to.vlans.Load() == nil {
			continue
		}
		step := Step{Check: c.check, Found: c.good, Drop: e.Verdict == c.end}
		if step.Drop {
			step.Found = c.no
		}
		if c.check == CheckLength {
			step.Limit = limit
			if step.Drop && f.AppendTooBig(nil, to.packetLimit(f)) != nil {
				step.Found = "told"
			}
		}
		e.Steps = append(e.Steps, step)
		if step.Drop {
			return
		}
	}
	if l := to.limits.Load(); l != nil {
		e.limited(to, l.maySend(p.sw.nanoseconds(), f))
		e.Egress[0].Verdict = e.Verdict
	}
	if mss := p.lowersMSS(to, f); mss > 0 && !e.Verdict.Drop() {
		e.Steps = append(e.Steps, Step{Check: CheckMSS, Found: "lowered", Limit: mss})
	}
}

// limited adds the step of a port's limits, which give the verdict v, and tells whether the frame is dropped there.
func (e *Explanation) limited(of *Port, v Verdict) bool {
	step := Step{Check: CheckLimit, Found: "within", Port: of}
	if v.Drop() {
		step.Found, step.Drop, e.Verdict = v.String(), true, v
	}
	e.Steps = append(e.Steps, step)
	return step.Drop
}

// explainFlood adds the step and the egress ports of a frame whose destination is not known, or a group.
func (p *Port) explainFlood(f *ether.Frame, e *Explanation) {
	step := Step{Check: CheckFlood, Found: "nobody", Drop: e.Verdict.Drop()}
	if word := map[Verdict]string{LinkLocal: "reserved", Flapping: "flapping", Storm: "storm"}[e.Verdict]; word != "" {
		step.Found = word
		e.Steps = append(e.Steps, step)
		return
	}
	var members *audience
	found := "some"
	now := p.sw.now.Load()
	if g := p.sw.snoop.Load(); g != nil {
		if members = g.audience(ether.ReadGroups(f, func(ether.MAC, bool) {}), f.Dst(), now); members != nil {
			found = "members"
		}
	}
	for _, q := range *p.sw.ports.Load() {
		if q == p || q.reached.Load() || !members.has(q, now) {
			continue
		}
		w := Egress{q, p.egressVerdict(f, q), q.limitOf(f)}
		if l := q.limits.Load(); l != nil && w.Verdict == Forwarded {
			w.Verdict = l.maySend(q.sw.nanoseconds(), f)
		}
		if w.Verdict == Forwarded {
			step.Found = found
		}
		e.Egress = append(e.Egress, w)
	}
	switch e.Verdict {
	case MTU:
		step.Found = "long"
	case Down:
		step.Found = "down"
	}
	e.Steps = append(e.Steps, step)
}

package vswitch

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// state is all that a frame may change in a switch.
type state struct {
	stations map[ether.MAC]stationState
	lists    map[*Port][]ether.MAC
	stats    map[*Port]Stats
	tally    Tally
	count    int
	full     []*Port
	calls    int
}

type stationState struct {
	port, rival *Port
	pinned      bool
	seen        int64
	rivals      uint64
}

func stateOf(s *Switch, wires map[*Port]*wire) state {
	st := state{stations: map[ether.MAC]stationState{}, lists: map[*Port][]ether.MAC{}, stats: map[*Port]Stats{},
		tally: s.Tally(), count: s.count, full: slices.Clone(s.learners)}
	s.stations.Range(func(m, v any) bool {
		x := v.(*station)
		st.stations[m.(ether.MAC)] = stationState{x.port.Load(), x.spoofer.Load(), x.pinned, x.seen.Load(), x.spoofed.Load()}
		return true
	})
	for p, w := range wires {
		for _, x := range p.learned.heap {
			st.lists[p] = append(st.lists[p], x.mac)
		}
		slices.SortFunc(st.lists[p], func(a, b ether.MAC) int { return bytes.Compare(a[:], b[:]) }) // finding the oldest may file others anew
		st.stats[p] = p.Stats()
		st.calls += w.calls
	}
	return st
}

// verdictRecorder is a Watcher that records the verdict of each frame that is received.
type verdictRecorder struct{ all []Verdict }

func (j *verdictRecorder) Watch(in, _ *Port, v Verdict, _ *ether.Frame) {
	if in != nil {
		j.all = append(j.all, v)
	}
}

// anyFrame returns a frame that random makes: with a true or a false offload request, or cut short.
func anyFrame(r *rand.Rand, n int) ether.Frame {
	src, dst := mac(r.IntN(n)), mac(r.IntN(n)) // the same one, too
	switch r.IntN(10) {
	case 0:
		return super(src, dst, 1+r.IntN(60000), 400+r.IntN(1200))
	case 1:
		f := super(src, dst, 1+r.IntN(60000), 400+r.IntN(1200))
		f.Off = ether.Offload{Kind: ether.Kind(r.IntN(5)), PartialChecksum: r.IntN(2) == 0, Head: uint16(r.IntN(80)),
			Segment: uint16(r.IntN(1500)), ChecksumStart: uint16(r.IntN(50)), ChecksumOffset: uint16(r.IntN(20))}
		return f
	case 2:
		return sized2(src, dst, r.IntN(20))
	case 3:
		return sized(src, dst, 0, 60)
	}
	return random(r, n, 0)
}

// all10 is what an isolated port of the tests talks with: half of what ARP asks for here.
var all10 = netip.MustParsePrefix("10.0.0.0/29")

// What Explain says of a frame is what Ingress then does with it, in whatever state the switch is; and to say it changes nothing.
func TestTraceIsTruth(t *testing.T) { synctest.Test(t, traceIsTruth) }

func traceIsTruth(t *testing.T) {
	var seen Tally
	steps := map[string]int{}
	for seed, cfg := range []Config{
		{PerPort: 1000, PerNetwork: 1000, Ageing: 50 * time.Second},
		{PerPort: 3, PerNetwork: 1000, Ageing: 50 * time.Second},
		{PerPort: 1000, PerNetwork: 8, Ageing: 50 * time.Second},
		{PerPort: 4, PerNetwork: 9, Ageing: 20 * time.Second},
	} {
		const stations = 24
		r := rand.New(rand.NewPCG(7, uint64(seed)))
		s := New(cfg)
		watcher := &verdictRecorder{}
		wires := map[*Port]*wire{}
		var ports, gone []*Port
		now := time.Duration(0)
		for range 4000 {
			if r.IntN(25) == 0 && len(ports) < 8 || len(ports) == 0 {
				p, w := attach(s, "", r.IntN(2) == 0)
				if r.IntN(2) == 0 {
					p.SetLimit(100 + r.IntN(1400))
				}
				wires[p] = w
				ports = append(ports, p)
			}
			p := ports[r.IntN(len(ports))]
			if r.IntN(40) == 0 {
				all := book{}
				for range r.IntN(stations) {
					all[ip(r.IntN(stations))] = told{mac(r.IntN(stations)), ports[r.IntN(len(ports))]}
				}
				s.SetAnswers(all)
			}
			switch r.IntN(40) {
			case 0, 1:
				p.Pin(mac(r.IntN(stations)))
			case 2, 3:
				p.Unpin(mac(r.IntN(stations)))
			case 4:
				p.Detach()
				ports = slices.DeleteFunc(ports, func(q *Port) bool { return q == p })
				if gone = append(gone, p); len(gone) > 3 {
					delete(wires, gone[0])
					gone = gone[1:]
				}
			case 8, 9:
				p.SetDown(func() bool { return true })
			case 10, 11, 12:
				p.SetDown(nil)
			case 13, 14:
				policy := &Policy{Guards: Guards(r.IntN(16)), AnyMAC: r.IntN(2) == 0, Storm: int64(r.IntN(3)), Isolated: r.IntN(4) == 0, With: []netip.Prefix{all10}}
				if r.IntN(4) == 0 {
					policy.Rate = 1 // a frame, and then none in the time of a test
				}
				p.SetPolicy(policy)
			case 15:
				p.SetPolicy(nil)
			case 17:
				p.SetVLANs([]*VLANs{inVLANs(0), inVLANs(10), inVLANs(0, 10)}[r.IntN(3)])
			case 18, 19:
				p.SetVLANs(nil)
			case 20:
				s.SetSnooping([]ether.MAC{{}, querier}[r.IntN(2)])
			case 16:
				p.PinAddrs(ip(1+r.IntN(4)), six(1+r.IntN(4)))
			case 5, 6, 7:
				passed := time.Duration(r.IntN(10)) * time.Second
				time.Sleep(passed)
				now += passed
				s.Tick(now)
				for _, w := range wires { // of queries
					w.taken()
				}
				watcher.all = nil
			}
			if len(gone) > 0 && r.IntN(40) == 0 {
				p = gone[r.IntN(len(gone))]
			}
			f := anyFrame(r, stations)
			if r.IntN(6) == 0 {
				f = withTag(mac(r.IntN(stations)), mac(r.IntN(stations)), 10)
			}
			if r.IntN(6) == 0 {
				f = toGroup(r.IntN(stations), byte(r.IntN(2)))
				if r.IntN(2) == 0 {
					f = wants(r.IntN(stations), byte(r.IntN(2)), r.IntN(4) > 0)
				}
			}
			if r.IntN(4) == 0 {
				f = question(r.IntN(stations), r.IntN(stations))
			}
			if r.IntN(4) == 0 {
				f = lent(pick(r, pick(r, forges...), pick(r, honest...)).make(r))
			}
			bytesBefore, off, fault := bytes.Clone(f.WithHeadroom()), f.Off, f.Fault
			before := stateOf(s, wires)
			s.Watch(watcher)
			e := p.Explain(&f)
			if watcher.all != nil || !reflect.DeepEqual(before, stateOf(s, wires)) {
				t.Fatalf("explaining has changed %+v into %+v", before, stateOf(s, wires))
			}
			if !bytes.Equal(bytesBefore, f.WithHeadroom()) || off != f.Off || fault != f.Fault {
				t.Fatalf("explaining has changed the frame: %+v", f)
			}
			p.Ingress([]ether.Frame{f})
			if len(watcher.all) != 1 || watcher.all[0] != e.Verdict {
				t.Fatalf("explained was %s, done was %v: %+v", e.Verdict, watcher.all, e.Steps)
			}
			watcher.all = nil
			out := map[*Port]int{}
			for q, w := range wires {
				if n := len(w.taken()); n > 0 {
					out[q] = n
				}
			}
			said := map[*Port]int{}
			if e.Verdict == Answered && !p.IsDown() {
				said[p] = 1
			}
			for _, w := range e.Egress {
				if w.Verdict == Forwarded {
					said[w.Port]++
				}
			}
			if !reflect.DeepEqual(out, said) {
				t.Fatalf("explained as %s, it leaves by %v, said were %v", e.Verdict, out, said)
			}
			for i, step := range e.Steps {
				if step.Drop != (i == len(e.Steps)-1 && e.Verdict.Drop()) {
					t.Fatalf("%s in step %d of %+v", e.Verdict, i, e.Steps)
				}
				steps[string(step.Check)+" "+step.Found]++
			}
			if at := e.source(); at.Evict != nil {
				if _, ok := stateOf(s, wires).stations[at.Evict.MAC]; ok {
					t.Fatalf("%s is still known", at.Evict.MAC)
				}
				steps["evict"]++
			}
			seen[e.Verdict]++
		}
		balanced(t, s)
	}
	if n := seen.Rx(); n < 10000 {
		t.Errorf("%d frames", n)
	}
	for v, n := range seen {
		if n == 0 {
			t.Errorf("no frame was ever %s", Verdict(v))
		}
	}
	for _, step := range strings.Split("offload none,offload checksum,offload super-frame,offload runt,offload contradiction,port attached,port detached,"+
		"fault none,fault loss,fault delay,source pinned,source known,source new,source moved,source held,source taken,source own,source other,source group,source zero,"+
		"limit within,limit isolated,limit rate,flood storm,guard passes,guard spoofed_ip,guard spoofed_arp,guard spoofed_nd,guard ra,guard dhcp,guard bpdu,guard unreadable,"+
		"destination pinned,destination learned,destination unknown,destination group,hairpin no,hairpin yes,horizon no,horizon yes,"+
		"link up,link down,answer told,answer unknown,answer down,answer elsewhere,answer again,length fits,length long,flood some,flood nobody,flood long,flood down,flood reserved,flood flapping,flood members,vlan in,vlan not_here,vlan not_there,evict", ",") {
		if steps[step] == 0 {
			t.Errorf("%q was never explained", step)
		}
		delete(steps, step)
	}
	if len(steps) > 0 {
		t.Errorf("there are words that the documentation does not have: %v", steps)
	}
}

func (e *Explanation) source() (s Step) {
	for _, step := range e.Steps {
		if step.Check == CheckSource {
			return step
		}
	}
	return s
}

// A frame that is injected gets the verdict that the data path gives, and is in the counters.
func TestInject(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, wb := attach(s, "b", false)
	b.Pin(mac(2))
	for _, tc := range []struct {
		f    ether.Frame
		want Verdict
	}{
		{frame(mac(1), mac(2), 7), Forwarded}, {frame(mac(1), broadcast, 8), Flooded}, {frame(mac(2), mac(1), 9), Spoofed},
		{sized2(mac(1), mac(2), 3), Runt},
	} {
		if got := a.Inject(tc.f); got != tc.want {
			t.Errorf("verdict %s, want %s", got, tc.want)
		}
		if got := a.Stats().Rx[tc.want]; got != 1 {
			t.Errorf("%d frames in the counters as %s, want 1", got, tc.want)
		}
	}
	if got := wb.taken(); !slices.Equal(got, []int{7, 8}) {
		t.Errorf("b got %v", got)
	}
}

// Whatever a frame and its offload are, explaining them agrees with what is then done.
func FuzzExplain(f *testing.F) {
	seeds := []ether.Frame{frame(mac(1), mac(2), 0), frame(mac(1), broadcast, 0), super(mac(1), mac(2), 3000, 1400), sized2(mac(1), mac(2), 5)}
	for _, k := range slices.Concat(forges, honest) {
		seeds = append(seeds, lent(k.make(rand.New(rand.NewPCG(1, 1)))))
	}
	for _, seed := range seeds {
		f.Add(seed.Bytes(), uint8(seed.Off.Kind), seed.Off.PartialChecksum, seed.Off.Head, seed.Off.Segment, seed.Off.ChecksumStart, seed.Off.ChecksumOffset, uint8(seed.Fault))
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, needsSum bool, head, segment, start, offset uint16, fault uint8) {
		s := New(Config{})
		a, _ := attach(s, "a", false)
		p, _ := attach(s, "b", true)
		p.SetLimit(1500)
		p.Pin(mac(2))
		p.PinAddrs(ip(2), six(2))
		a.SetPolicy(full)
		g := ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{Kind: ether.Kind(kind), PartialChecksum: needsSum, Head: head,
			Segment: segment, ChecksumStart: start, ChecksumOffset: offset})
		g.Fault = ether.Fault(fault)
		if e, done := a.Explain(&g), a.Inject(g); e.Verdict != done || e.Steps[len(e.Steps)-1].Drop != done.Drop() {
			t.Errorf("explained was %s, done was %s: %+v", e.Verdict, done, e.Steps)
		}
	})
}

package vswitch

import (
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// plenty is the limit of a port that takes everything.
const plenty = 1 << 20

var broadcast = ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Every verdict, each with the frame that gets it and the ports that it leaves by.
func TestVerdicts(t *testing.T) {
	const a, b, far, free, pinned = 1, 2, 3, 4, 5 // stations; free is nowhere
	for _, tc := range []struct {
		name  string
		from  string // port
		frame ether.Frame
		want  Verdict
		to    []string
	}{
		{"to a container", "a", frame(mac(a), mac(b), 0), Forwarded, []string{"b"}},
		{"to a remote station", "a", frame(mac(a), mac(far), 0), Forwarded, []string{"up1"}},
		{"from a remote station", "up1", frame(mac(far), mac(a), 0), Forwarded, []string{"a"}},
		{"header and nothing else", "a", sized2(mac(a), mac(b), 14), Forwarded, []string{"b"}},
		{"super-frame", "a", super(mac(a), mac(b), 60000, 1400), Forwarded, []string{"b"}},
		{"new source", "a", frame(mac(100), mac(b), 0), Forwarded, []string{"b"}},
		{"moved source", "a", frame(mac(far), mac(b), 0), Forwarded, []string{"b"}},

		{"broadcast", "a", frame(mac(a), broadcast, 0), Flooded, []string{"b", "narrow", "up1", "up2"}},
		{"multicast", "b", frame(mac(b), ether.MAC{1, 0, 0x5e, 0, 0, 1}, 0), Flooded, []string{"a", "narrow", "up1", "up2"}},
		{"IPv6 multicast", "b", frame(mac(b), ether.MAC{0x33, 0x33, 0, 0, 0, 1}, 0), Flooded, []string{"a", "narrow", "up1", "up2"}},
		{"unknown destination", "a", frame(mac(a), mac(free), 0), Flooded, []string{"b", "narrow", "up1", "up2"}},
		{"LACP, from a remote host", "up1", frame(mac(far), ether.MAC{1, 0x80, 0xc2, 0, 0, 2}, 0), Flooded, []string{"a", "b", "narrow"}},
		{"to the bridge group, as STP's", "a", frame(mac(a), ether.MAC{1, 0x80, 0xc2}, 0), Flooded, []string{"b", "narrow", "up1", "up2"}},
		{"behind the link-local groups", "a", frame(mac(a), ether.MAC{1, 0x80, 0xc2, 0, 0, 0x10}, 0), Flooded, []string{"b", "narrow", "up1", "up2"}},
		{"zero destination", "a", frame(mac(a), ether.MAC{}, 0), Flooded, []string{"b", "narrow", "up1", "up2"}},
		{"broadcast from a remote host", "up1", frame(mac(far), broadcast, 0), Flooded, []string{"a", "b", "narrow"}},
		{"unknown destination, from a remote host", "up2", frame(mac(100), mac(free), 0), Flooded, []string{"a", "b", "narrow"}},
		{"too long for one flooded port", "a", sized(mac(a), broadcast, 0, 101), Flooded, []string{"b", "up1", "up2"}},

		{"no byte", "a", ether.Lend(nil, ether.Offload{}), Runt, nil},
		{"13 bytes", "a", sized2(mac(a), mac(b), 13), Runt, nil},
		{"13 bytes and an offload request", "a", ether.Lend(make([]byte, ether.Headroom+13), ether.Offload{Kind: ether.TCP4}), Runt, nil},
		{"segment 0", "a", super(mac(a), mac(b), 3000, 0), Offload, nil},
		{"too many segments", "a", super(mac(a), mac(b), 3000, 1), Offload, nil},
		{"super-frame of no known protocol", "a", claiming(frame(mac(a), mac(b), 0), ether.Offload{Kind: ether.TCP6, Segment: 1000}), Offload, nil},
		{"checksum behind the end", "a", claiming(frame(mac(a), mac(b), 0), ether.Offload{PartialChecksum: true, ChecksumStart: 60, ChecksumOffset: 16}), Offload, nil},
		{"broadcast source", "a", frame(broadcast, mac(b), 0), BadSource, nil},
		{"multicast source", "a", frame(ether.MAC{1, 0, 0x5e, 0, 0, 1}, mac(b), 0), BadSource, nil},
		{"zero source", "a", frame(ether.MAC{}, mac(b), 0), BadSource, nil},
		{"pinned at another port", "a", frame(mac(pinned), mac(a), 0), Spoofed, nil},
		{"pinned here, by a remote host", "up1", frame(mac(pinned), mac(a), 0), OwnAddress, nil},
		{"broadcast that a remote host gives back", "up2", frame(mac(pinned), broadcast, 0), OwnAddress, nil},
		{"spoofed broadcast", "a", frame(mac(pinned), broadcast, 0), Spoofed, nil},
		{"pause", "a", frame(mac(a), ether.MAC{1, 0x80, 0xc2, 0, 0, 1}, 0), LinkLocal, nil},
		{"LLDP", "a", frame(mac(a), ether.MAC{1, 0x80, 0xc2, 0, 0, 0xe}, 0), LinkLocal, nil},
		{"pause, from a remote host", "up1", frame(mac(far), ether.MAC{1, 0x80, 0xc2, 0, 0, 1}, 0), LinkLocal, nil},
		{"to the port it came by", "b", frame(mac(b), mac(pinned), 0), Hairpin, nil},
		{"to itself", "a", frame(mac(a), mac(a), 0), Hairpin, nil},
		{"back to the remote host it came from", "up1", frame(mac(100), mac(far), 0), Hairpin, nil},
		{"between remote hosts", "up2", frame(mac(100), mac(far), 0), Horizon, nil},
		{"as long as the limit", "a", sized(mac(a), mac(6), 0, 100), Forwarded, []string{"narrow"}},
		{"one byte longer than the limit", "a", sized(mac(a), mac(6), 0, 101), MTU, nil},
		{"segments as long as the limit", "a", super(mac(a), mac(6), 1000, 100-54), Forwarded, []string{"narrow"}},
		{"segments longer than the limit", "a", super(mac(a), mac(6), 1000, 100-53), MTU, nil},
		{"by a port that has left", "gone", frame(mac(100), mac(b), 0), Detached, nil},
		{"runt by a port that has left", "gone", sized2(mac(a), mac(b), 13), Runt, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(Config{})
			ports, wires := map[string]*Port{}, map[string]*wire{}
			for _, name := range []string{"a", "b", "narrow", "up1", "up2", "gone"} {
				ports[name], wires[name] = attach(s, name, name[0] == 'u')
			}
			ports["narrow"].SetLimit(100)
			ports["gone"].Detach()
			for port, station := range map[string]int{"a": a, "b": b, "up1": far, "narrow": 6} {
				ports[port].Ingress([]ether.Frame{frame(mac(station), mac(station), 0)})
			}
			ports["b"].Pin(mac(pinned))
			before, in := s.Tally(), ports[tc.from].Stats()
			f := tc.frame
			ports[tc.from].Ingress([]ether.Frame{f})

			var want Tally
			want[tc.want] = 1
			if got := minus(s.Tally(), before); got != want {
				t.Errorf("verdicts %v, want one %s", got.Drops(), tc.want)
			}
			after := ports[tc.from].Stats()
			if got := minus(after.Rx, in.Rx); got != want {
				t.Errorf("verdicts at the port %v, want one %s", got.Drops(), tc.want)
			}
			if got := after.RxBytes - in.RxBytes; got != uint64(f.Len()) {
				t.Errorf("%d bytes received, want %d", got, f.Len())
			}
			var to []string
			for _, p := range s.Ports() {
				if n := len(wires[p.Name].numbers); n > 1 {
					t.Errorf("%s got the frame %d times", p.Name, n)
				} else if n == 1 {
					to = append(to, p.Name)
				}
			}
			if !slices.Equal(to, tc.to) {
				t.Errorf("left by %v, want %v", to, tc.to)
			}
		})
	}
}

// sized2 is a frame too short for a number.
func sized2(src, dst ether.MAC, length int) ether.Frame {
	f := frame(src, dst, 0)
	return ether.Lend(f.WithHeadroom()[:ether.Headroom+length], ether.Offload{})
}

func claiming(f ether.Frame, off ether.Offload) ether.Frame {
	f.Off = off
	return f
}

func minus(a, b Tally) Tally {
	for v := range a {
		a[v] -= b[v]
	}
	return a
}

func TestVerdictNames(t *testing.T) {
	seen := map[string]bool{}
	for v := range verdicts {
		if name := v.String(); name == "" || seen[name] {
			t.Errorf("verdict %d is called %q", v, name)
		}
		seen[v.String()] = true
		if v.Drop() == (v == Forwarded || v == Flooded || v == Answered) {
			t.Errorf("%s: drop %v", v, v.Drop())
		}
	}
	tally := Tally{}
	for v := range tally {
		tally[v] = 1 << v
	}
	if got := tally.Rx(); got != 1<<verdicts-1 {
		t.Errorf("received %#x", got)
	}
	drops := tally.Drops()
	if len(drops) != int(verdicts)-3 || drops["answered"] != 0 {
		t.Errorf("drops are %v", drops)
	}
	for v := Flooded + 1; v < verdicts; v++ {
		if v.Drop() && drops[v.String()] != 1<<v {
			t.Errorf("%s: %#x", v, drops[v.String()])
		}
	}
}

// What a port cannot take in a flood it has refused; the others get it all.
func TestFloodMTU(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	narrow, thin := attach(s, "narrow", false)
	wide, thick := attach(s, "wide", false)
	narrow.SetLimit(100)
	a.Ingress([]ether.Frame{
		sized(mac(1), broadcast, 1, 100),
		sized(mac(1), broadcast, 2, 101),
		sized(mac(1), broadcast, 3, 60),
		sized(mac(1), broadcast, 4, 1500),
	})
	if got := thin.taken(); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("the narrow port got %v", got)
	}
	if got := thick.taken(); !slices.Equal(got, []int{1, 2, 3, 4}) {
		t.Errorf("the wide port got %v", got)
	}
	if st := narrow.Stats(); st.Offered != 4 || st.Tx != 2 || st.Refused != 2 || st.TxBytes != 160 {
		t.Errorf("the narrow port's counters: %+v", st)
	}
	if st := wide.Stats(); st.Offered != 4 || st.Tx != 4 || st.Refused != 0 || st.TxBytes != 1761 {
		t.Errorf("the wide port's counters: %+v", st)
	}
	a.Ingress([]ether.Frame{sized(mac(1), broadcast, 5, 101)})
	if got := thin.taken(); got != nil || thin.calls != 1 {
		t.Errorf("the narrow port was called with %v", got)
	}
}

// Frames of one batch that leave by one port stay in order, however unicast and flood alternate.
func TestOrder(t *testing.T) {
	s := New(Config{})
	in, _ := attach(s, "in", false)
	const others = 3 * maxEgress
	var wires []*wire
	for i := range others {
		p, w := attach(s, mac(i).String(), false)
		p.Pin(mac(i))
		wires = append(wires, w)
	}
	var frames []ether.Frame
	want := make([][]int, others)
	for i := range 1000 {
		to := i * i % (others + 3) // the last few are known to nobody
		dst := mac(to)
		if to == others {
			dst = broadcast
		}
		frames = append(frames, frame(mac(1000), dst, i))
		for q := range want {
			if to >= others || q == to {
				want[q] = append(want[q], i)
			}
		}
	}
	in.Ingress(frames)
	for q, w := range wires {
		if got := w.taken(); !slices.Equal(got, want[q]) {
			t.Errorf("port %d got %v, want %v", q, got, want[q])
		}
	}
}

// A batch for more ports than maxEgress reaches them all, and one for fewer is one call a port.
func TestEgressBatches(t *testing.T) {
	for _, n := range []int{1, maxEgress - 1, maxEgress, maxEgress + 1, 5 * maxEgress} {
		s := New(Config{})
		in, _ := attach(s, "in", false)
		var wires []*wire
		for i := range n {
			p, w := attach(s, "", false)
			p.Pin(mac(i))
			wires = append(wires, w)
		}
		var frames []ether.Frame
		for i := range 4 * n {
			frames = append(frames, frame(mac(1000), mac(i%n), i))
		}
		in.Ingress(frames)
		for i, w := range wires {
			if got, want := w.taken(), []int{i, i + n, i + 2*n, i + 3*n}; !slices.Equal(got, want) {
				t.Errorf("%d destinations: port %d got %v, want %v", n, i, got, want)
			}
			if n <= maxEgress && w.calls != 1 {
				t.Errorf("%d destinations: port %d was called %d times, want once", n, i, w.calls)
			}
		}
		if got := s.Tally(); got[Forwarded] != uint64(4*n) {
			t.Errorf("%d destinations: %d forwarded, want %d", n, got[Forwarded], 4*n)
		}
	}
}

// What an egress port refuses counts as refused, and the frame is still forwarded.
func TestRefused(t *testing.T) {
	s := New(Config{})
	in, _ := attach(s, "in", false)
	p, w := attach(s, "p", false)
	p.Pin(mac(1))
	w.refuse = 3
	in.Ingress([]ether.Frame{
		frame(mac(2), mac(1), 0), frame(mac(2), mac(1), 0), frame(mac(2), mac(1), 0), frame(mac(2), mac(1), 0),
	})
	if st := p.Stats(); st.Offered != 4 || st.Tx != 1 || st.Refused != 3 || st.TxBytes != 64 {
		t.Errorf("counters: %+v", st)
	}
	if got := s.Tally(); got[Forwarded] != 4 || got.Rx() != 4 {
		t.Errorf("verdicts %v", got)
	}
}

func TestDetach(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, w := attach(s, "b", false)
	b.Pin(mac(2))
	b.Ingress([]ether.Frame{frame(mac(3), mac(9), 0), frame(mac(4), mac(9), 0)})
	b.Detach()
	b.Detach()
	if got := s.Ports(); !slices.Equal(got, []*Port{a}) {
		t.Errorf("%d ports are left, want one", len(got))
	}
	for e := range s.Entries() {
		t.Errorf("%s is remembered at %s", e.MAC, e.Port.Name)
	}
	if b.Pin(mac(5)) {
		t.Error("a port that has left could pin an address")
	}
	b.Ingress([]ether.Frame{frame(mac(3), mac(9), 0)})
	s.learnSource(mac(3), b) // as a batch does that was under way
	for e := range s.Entries() {
		t.Errorf("%s is remembered at %s", e.MAC, e.Port.Name)
	}
	a.show(1)
	s.learnSource(mac(1), b)
	if s.at(1) != a {
		t.Error("a station has moved to a port that has left")
	}
	a.Ingress([]ether.Frame{frame(mac(1), mac(2), 0), frame(mac(1), mac(3), 0), frame(mac(1), broadcast, 0)})
	if got := w.taken(); got != nil {
		t.Errorf("frames %v left by the detached port", got)
	}
	if got := s.Tally(); got[Flooded] != 6 || got[Detached] != 1 {
		t.Errorf("verdicts %v", got)
	}
	balanced(t, s)
}

// A run of the same addresses is judged frame by frame all the same: what differs from the first is treated as if
// it had come alone.
func TestRunIsJudged(t *testing.T) {
	good := func(n int) ether.Frame { return frame(mac(1), mac(2), n) }
	for name, odd := range map[string]ether.Frame{
		"too many segments":       super(mac(1), mac(2), 3000, 1),
		"checksum behind the end": claiming(good(9), ether.Offload{PartialChecksum: true, ChecksumStart: 60, ChecksumOffset: 16}),
		"too long":                sized(mac(1), mac(2), 9, 101),
		"segments too long":       super(mac(1), mac(2), 1000, 100-53),
		"another source":          frame(mac(3), mac(2), 9),
		"another destination":     frame(mac(1), mac(4), 9),
		"group source":            frame(broadcast, mac(2), 9),
		"runt":                    sized2(mac(1), mac(2), 13),
		"super-frame":             super(mac(1), mac(2), 1000, 100-54),
	} {
		t.Run(name, func(t *testing.T) {
			var tallies [2]Tally
			var bytes [2]uint64
			var left [2][]int
			for i := range tallies {
				s := New(Config{})
				from, _ := attach(s, "a", false)
				to, w := attach(s, "b", false)
				to.SetLimit(100)
				to.Ingress([]ether.Frame{frame(mac(2), mac(2), 0)})
				batch := []ether.Frame{good(1), odd, good(2), good(3), odd, good(4)}
				for k := range batch {
					batch[k] = ether.Lend(slices.Clone(batch[k].WithHeadroom()), batch[k].Off)
				}
				if i == 0 {
					from.Ingress(batch)
				} else {
					for k := range batch {
						from.Ingress(batch[k : k+1])
					}
				}
				tallies[i], bytes[i], left[i] = from.Stats().Rx, from.Stats().RxBytes, w.numbers
			}
			if tallies[0] != tallies[1] || bytes[0] != bytes[1] || !slices.Equal(left[0], left[1]) {
				t.Errorf("in a run %v, %d bytes, %v left; one by one %v, %d bytes, %v",
					tallies[0], bytes[0], left[0], tallies[1], bytes[1], left[1])
			}
			if tallies[0].Rx() != 6 {
				t.Errorf("%d frames were judged, want 6", tallies[0].Rx())
			}
		})
	}
}

// A network lab passes frames to link-local groups, but never pause frames.
func TestLinkLocal(t *testing.T) {
	for _, on := range []bool{false, true} {
		s := New(Config{})
		a, _ := attach(s, "a", false)
		a.SetLinkLocal(on)
		attach(s, "b", false)
		for last := range byte(16) {
			want := Flooded
			if last == 1 || last > 1 && !on {
				want = LinkLocal
			}
			if got := a.Inject(frame(mac(1), ether.MAC{1, 0x80, 0xc2, 0, 0, last}, 0)); got != want {
				t.Errorf("passed %v, to 01:80:c2:00:00:%02x: %s, want %s", on, last, got, want)
			}
		}
	}
}

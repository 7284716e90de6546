package vswitch

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// None of 10,000 frames of each kind of spoof passes, alone or in a batch, and each has the verdict of its guard; none of what honest containers send is dropped by a guard.
func TestSpoofSuite(t *testing.T) {
	const many = 10_000
	for i, k := range slices.Concat(forges, honest) {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(15, uint64(i)))
			sent := new(countingSender)
			s, ports, _ := guarded(sent)
			var frames []ether.Frame
			for n := range many {
				f := lent(k.make(r))
				if n%10 == 0 && k.want != nil {
					e, v := ports[0].Explain(&f), ports[0].Inject(f)
					if e.Verdict != v || !slices.Contains(k.want, v) {
						t.Fatalf("frame %d: %s, explained as %s, want %v: %x", n, v, e.Verdict, k.want, f.Bytes())
					}
					continue
				}
				frames = append(frames, f)
			}
			for batch := range slices.Chunk(frames, 64) {
				ports[0].Ingress(batch)
			}
			tally := s.Tally()
			if k.want == nil {
				if n := tally[Forwarded] + tally[Flooded] + tally[Hairpin]; n != many {
					t.Errorf("%d of %d honest frames pass: %v", n, many, tally.Drops())
				}
				return
			}
			n := uint64(0)
			for _, v := range k.want {
				n += tally[v]
			}
			if n != many || *sent > 0 {
				t.Errorf("%d of %d are dropped as %v, %d were sent on: %v", n, many, k.want, *sent, tally.Drops())
			}
		})
	}
}

// countingSender counts the frames that leave.
type countingSender int

func (c *countingSender) Send(frames []*ether.Frame) (sent, bytes int) {
	*c += countingSender(len(frames))
	return len(frames), 0
}

// What a policy leaves out passes: each guard alone.
func TestGuards(t *testing.T) {
	names := map[Guards]string{GuardAddrs: "addresses", GuardRA: "RA", GuardDHCP: "DHCP", GuardBPDU: "BPDU"}
	by := map[Verdict]Guards{SpoofedIP: GuardAddrs, SpoofedARP: GuardAddrs, SpoofedND: GuardAddrs, Unreadable: GuardAddrs, RA: GuardRA, DHCP: GuardDHCP, BPDU: GuardBPDU}
	for without, name := range names {
		t.Run("without "+name, func(t *testing.T) {
			_, ports, _ := guarded(discard{})
			ports[0].SetPolicy(&Policy{Guards: full.Guards &^ without})
			for i, k := range forges[1:] {
				r := rand.New(rand.NewPCG(16, uint64(i)))
				for range 100 {
					f := lent(k.make(r))
					switch e, v := ports[0].Explain(&f), ports[0].Inject(f); {
					case e.Verdict != v:
						t.Fatalf("%s: %s, explained as %s", k.name, v, e.Verdict)
					case by[k.want[0]]&without == 0 && !slices.Contains(k.want, v):
						t.Fatalf("%s: %s", k.name, v)
					case by[v]&without != 0:
						t.Fatalf("%s: %s, although that guard is off", k.name, v)
					}
				}
			}
		})
	}
}

// A batch has the verdicts of its frames one by one, whatever has passed before each.
func TestGuardedBatch(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 17))
	_, ports, up := guarded(discard{})
	ports[3].SetPolicy(nil)
	watcher := &verdictRecorder{}
	seen := Tally{}
	for range 3000 {
		p := pick(r, ports[0], ports[0], ports[1], ports[3], up)
		var frames []ether.Frame
		for range 1 + r.IntN(20) {
			b := pick(r, pick(r, forges...), pick(r, honest...)).make(r)
			if r.IntN(2) == 0 { // what is usual
				b = packets.Packet{V6: r.IntN(2) == 0, UDP: r.IntN(2) == 0, SrcMAC: mac(1), DstMAC: mac(3), SrcPort: pick[uint16](r, 0, 67, 547), DstPort: pick[uint16](r, 0, 68, 546)}.Bytes()
				if copy(b[26:30], ip(1+r.IntN(3)).AsSlice()); b[12] == 0x86 {
					copy(b[22:38], six(1+r.IntN(3)).AsSlice())
				}
			}
			for range 1 + r.IntN(3) {
				frames = append(frames, lent(b))
			}
		}
		p.sw.Watch(nil)
		var want []Verdict
		for i := range frames {
			want = append(want, p.Inject(frames[i]))
			seen[want[i]]++
		}
		p.sw.Watch(watcher)
		watcher.all = nil
		p.Ingress(frames)
		if !slices.Equal(watcher.all, want) {
			t.Fatalf("a batch has the verdicts %v, its frames one by one have %v", watcher.all, want)
		}
	}
	for v := range seen {
		if v := Verdict(v); v >= SpoofedIP && v <= Unreadable && seen[v] == 0 {
			t.Errorf("no frame was %s", v)
		}
	}
}

// An address is a port's until the port gives it back or leaves; one that another has stays there. Whose it was is remembered.
func TestPinAddrs(t *testing.T) {
	s, ports, up := guarded(discard{})
	from := func(i int, a netip.Addr) ether.Frame {
		return lent(packets.Packet{V6: a.Is6(), SrcMAC: mac(i), Src: a, DstMAC: mac(9)}.Bytes())
	}
	want := func(p *Port, f ether.Frame, want Verdict) {
		t.Helper()
		if v := p.Inject(f); v != want {
			t.Errorf("%s: %s, want %s", p.Name, v, want)
		}
	}
	want(ports[0], from(1, ip(2)), SpoofedIP)
	want(up, from(8, ip(2)), SpoofedIP)
	want(up, from(8, ip(8)), Flooded)
	if got := ports[0].Trips(); len(got) != 1 || got[0] != (Trip{SpoofedIP, 1, ports[1]}) {
		t.Errorf("trips %+v", got)
	}
	ports[0].PinAddrs(ip(1), ip(2), ip(7))
	want(ports[0], from(1, ip(2)), SpoofedIP)
	want(ports[1], from(2, ip(7)), SpoofedIP)
	want(ports[1], from(2, six(1)), Flooded)
	ports[1].PinAddrs()
	ports[0].PinAddrs(ip(2))
	want(ports[0], from(1, ip(2)), Flooded)
	want(ports[1], from(2, ip(2)), SpoofedIP)
	want(ports[1], from(2, linkLocal(1)), SpoofedIP)
	s.Detach(ports[0], ports[2])
	want(ports[1], from(2, ip(2)), Flooded)
	want(ports[1], from(2, linkLocal(1)), Flooded)
	ports[0].PinAddrs(ip(2))
	want(ports[1], from(2, ip(2)), Flooded)
	if n := len(*s.owners.Load()); n != 2 {
		t.Errorf("%d addresses are left, want those of the fourth port", n)
	}
}

// With AnyMAC a port may send with another's MAC; its own frames go where they went before, and nobody is called a spoofer.
func TestAnyMAC(t *testing.T) {
	s, ports, _ := guarded(discard{})
	f := frame(mac(2), mac(3), 0)
	if v := ports[0].Inject(f); v != Spoofed {
		t.Errorf("%s", v)
	}
	before := s.station(mac(2)).spoofed.Load()
	ports[0].SetPolicy(&Policy{AnyMAC: true})
	for _, f := range []ether.Frame{f, frame(mac(2), mac(2), 0)} {
		if e, v := ports[0].Explain(&f), ports[0].Inject(f); v != Forwarded || e.Verdict != v {
			t.Errorf("%s, explained as %+v", v, e)
		}
	}
	if s.find(mac(2)) != ports[1] || s.station(mac(2)).spoofed.Load() != before {
		t.Error("something was learned")
	}
}

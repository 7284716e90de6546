package vswitch

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// model is the switch again, as plain as can be and frame by frame.
type model struct {
	now     int
	perPort int
	ports   []*Port
	pinned  map[ether.MAC]*Port
	learned map[ether.MAC]place
	down    map[*Port]bool
	blocks  []Block
	answers book
	given   map[*atomic.Uint64]givenAnswer // which answers share a place is up to the switch
	out     map[*Port][]int
	tally   Tally
}

type givenAnswer struct {
	note uint64
	at   int
}

type place struct {
	port *Port
	seen int
}

func (m *model) learn(src ether.MAC, p *Port) {
	delete(m.learned, src)
	var oldest ether.MAC
	n := 0
	for mac, at := range m.learned {
		if at.port == p {
			if n == 0 || at.seen < m.learned[oldest].seen {
				oldest = mac
			}
			n++
		}
	}
	if n == m.perPort {
		delete(m.learned, oldest)
	}
	m.learned[src] = place{p, m.now}
}

func (m *model) ingress(p *Port, f *ether.Frame, number int) {
	v := m.judge(p, f)
	m.tally[v]++
	to := m.locate(p, f.Dst())
	for _, q := range m.ports {
		if v == Answered && q == p && !m.down[p] {
			m.out[q] = append(m.out[q], questionNumber)
		}
		if v == Forwarded && q == to || v == Flooded && q != p && !(p.Uplink && q.Uplink) && !m.down[q] && f.Len() <= int(q.limit.Load()) {
			m.out[q] = append(m.out[q], number)
		}
	}
}

func (m *model) find(mac ether.MAC) *Port {
	if p, ok := m.pinned[mac]; ok {
		return p
	}
	return m.learned[mac].port
}

// locate gives the port of an address that p sends to.
func (m *model) locate(p *Port, mac ether.MAC) *Port {
	if to := m.find(mac); to != nil || p.Uplink || mac[0] != 2 || mac[1] != 0x42 {
		return to
	}
	var best Block
	for _, b := range m.blocks {
		if b.Prefix.Contains(netip.AddrFrom4([4]byte(mac[2:]))) && (best.Port == nil || b.Prefix.Bits() > best.Prefix.Bits()) {
			best = b
		}
	}
	if m.down[best.Port] || !slices.Contains(m.ports, best.Port) {
		return nil
	}
	return best.Port
}

func (m *model) judge(p *Port, f *ether.Frame) Verdict {
	if !slices.Contains(m.ports, p) {
		return Detached
	}
	if f.Fault == ether.FaultLost {
		return Fault
	}
	src := f.Src()
	if src[0]&1 != 0 || src == (ether.MAC{}) {
		return BadSource
	}
	if owner, ok := m.pinned[src]; !ok {
		m.learn(src, p)
	} else if owner != p && p.Uplink {
		return OwnAddress
	} else if owner != p {
		return Spoofed
	}
	to := m.locate(p, f.Dst())
	switch {
	case to == nil && f.Dst().LinkLocal() && f.Dst()[5] != 0 && (f.Dst()[5] == 1 || !p.Uplink):
		return LinkLocal
	case to == nil:
		ways, up, wide := 0, 0, 0
		for _, q := range m.ports {
			if q != p && !(p.Uplink && q.Uplink) {
				ways++
				if m.down[q] {
					continue
				}
				up++
				if f.Len() <= int(q.limit.Load()) {
					wide++
				}
			}
		}
		if ways > 0 && up == 0 {
			return Down
		}
		if ways > 0 && wide == 0 {
			return MTU
		}
		if m.answered(p, f) {
			return Answered
		}
		return Flooded
	case to == p:
		return Hairpin
	case p.Uplink && to.Uplink:
		return Horizon
	case m.down[to]:
		return Down
	case f.Len() > int(to.limit.Load()):
		return MTU
	}
	return Forwarded
}

// answered tells whether the switch answers a question, and notes that.
func (m *model) answered(p *Port, f *ether.Frame) bool {
	q, ok := ether.ReadQuestion(f)
	at, known := m.answers[q.Target]
	if !ok || p.Uplink || !known || at.port == p || m.down[at.port] || !slices.Contains(m.ports, at.port) {
		return false
	}
	if seen := m.locate(p, at.mac); seen != nil && seen != at.port {
		return false
	}
	slot, note := p.sw.answers.Load().key(p, q.Target)
	if last, ok := m.given[slot]; ok && last.note == note && m.now-last.at < askAgain {
		return false
	}
	m.given[slot] = givenAnswer{note, m.now}
	return true
}

func (m *model) age(now, ageing int) {
	m.now = now
	for mac, at := range m.learned {
		if now-at.seen >= ageing {
			delete(m.learned, mac)
		}
	}
}

func (m *model) forget(p *Port) {
	m.ports = slices.DeleteFunc(m.ports, func(q *Port) bool { return q == p })
	for mac, at := range m.learned {
		if at.port == p {
			delete(m.learned, mac)
		}
	}
	for mac, q := range m.pinned {
		if q == p {
			delete(m.pinned, mac)
		}
	}
}

// random gives a frame between two of n stations, or something that is none.
func random(r *rand.Rand, n, number int) ether.Frame {
	src, dst := r.IntN(n), r.IntN(n-1)
	if dst >= src {
		dst++ // a frame to its own sender is in TestVerdicts
	}
	f := sized(mac(src), mac(dst), number, []int{60, 64, 500, 1514}[r.IntN(4)])
	switch r.IntN(20) {
	case 0:
		copy(f.Bytes(), broadcast[:])
	case 1:
		copy(f.Bytes()[6:], broadcast[:])
	case 2:
		clear(f.Bytes()[6:12])
	case 3:
		f.Fault = []ether.Fault{ether.FaultLost, ether.FaultDelayed}[r.IntN(2)]
	case 4:
		copy(f.Bytes(), []byte{1, 0x80, 0xc2, 0, 0, byte(r.IntN(4))})
	}
	return f
}

// Random frames, ports, pins and ticks: the switch does what the model does, in the model's order.
func TestModel(t *testing.T) {
	for _, tc := range []struct {
		name                string
		batch, perPort, all int // frames of a batch, learned addresses of a port, stations
	}{
		{"batches", 40, 1000, 30},
		{"few stations", 100, 1000, 4},
		{"bound, one frame a second", 1, 5, 30}, // so that no two addresses are equally old
	} {
		t.Run(tc.name, func(t *testing.T) {
			const ageing = 50
			r := rand.New(rand.NewPCG(1, 2))
			s := New(Config{PerPort: tc.perPort, Ageing: ageing * time.Second})
			m := &model{perPort: tc.perPort, pinned: map[ether.MAC]*Port{}, learned: map[ether.MAC]place{}, down: map[*Port]bool{}, given: map[*atomic.Uint64]givenAnswer{}}
			wires := map[*Port]*wire{}
			var gone []*Port
			now, number := 0, 0
			for step := range 3000 {
				if r.IntN(20) == 0 || len(m.ports) < 3 {
					p, w := attach(s, "", r.IntN(2) == 0)
					if r.IntN(3) == 0 {
						p.SetLimit(500)
					}
					wires[p] = w
					m.ports = append(m.ports, p)
				}
				p := m.ports[r.IntN(len(m.ports))]
				one := mac(r.IntN(tc.all))
				switch r.IntN(60) {
				case 0, 1, 2:
					owner, ok := m.pinned[one]
					if got := p.Pin(one); got != (!ok || owner == p) {
						t.Fatalf("step %d: pinning %s gave %v", step, one, got)
					}
					if !ok {
						m.pinned[one] = p
						delete(m.learned, one)
					}
				case 3, 4, 5, 6:
					p.Unpin(one)
					if m.pinned[one] == p {
						delete(m.pinned, one)
					}
				case 7, 8, 9:
					p.Detach()
					m.forget(p)
					gone = append(gone, p)
				case 12, 13:
					m.blocks = nil
					for range r.IntN(4) {
						in := mac(r.IntN(tc.all))
						b := Block{netip.PrefixFrom(netip.AddrFrom4([4]byte(in[2:])), 24+r.IntN(9)).Masked(), m.ports[r.IntN(len(m.ports))]}
						if !slices.ContainsFunc(m.blocks, func(c Block) bool { return c.Prefix == b.Prefix }) {
							m.blocks = append(m.blocks, b)
						}
					}
					s.SetPlaces(m.blocks, nil)
				case 14, 15:
					m.answers = book{}
					for range r.IntN(tc.all) {
						m.answers[ip(r.IntN(tc.all))] = told{mac(r.IntN(tc.all)), m.ports[r.IntN(len(m.ports))]}
					}
					s.SetAnswers(m.answers)
				case 10, 11:
					if m.down[p] = !m.down[p]; m.down[p] {
						p.SetDown(func() bool { return true })
					} else {
						p.SetDown(nil)
					}
				}
				if len(gone) > 0 && r.IntN(30) == 0 {
					p = gone[r.IntN(len(gone))]
				}
				now++
				s.Tick(time.Duration(now) * time.Second)
				m.age(now, ageing)

				frames := make([]ether.Frame, 1+r.IntN(tc.batch))
				m.out = map[*Port][]int{}
				for i := range frames {
					if frames[i] = random(r, tc.all, number); r.IntN(10) == 0 {
						frames[i] = question(r.IntN(tc.all), r.IntN(tc.all))
					}
					m.ingress(p, &frames[i], numberOf(&frames[i]))
					number++
				}
				p.Ingress(frames)
				for q, w := range wires {
					if got := w.taken(); !slices.Equal(got, m.out[q]) {
						t.Fatalf("step %d: a port got %v, want %v", step, got, m.out[q])
					}
				}
				if got := s.Tally(); got != m.tally {
					t.Fatalf("step %d: verdicts %v, want %v", step, got, m.tally)
				}
				for e := range s.Entries() {
					if m.find(e.MAC) != e.Port || !e.Pinned && e.Age != time.Duration(now-m.learned[e.MAC].seen)*time.Second {
						t.Fatalf("step %d: entry %+v is not as in the model", step, e)
					}
				}
				if _, n := m.learned[ether.MAC{}]; n || s.count != len(m.learned) {
					t.Fatalf("step %d: %d addresses learned, want %d", step, s.count, len(m.learned))
				}
			}
			for v, n := range m.tally {
				if v := Verdict(v); n == 0 && v != Runt && v != Offload && v < SpoofedIP { // nor is flapping: of each station come frames by one port in a second
					t.Errorf("no frame was ever %s", v)
				}
			}
			balanced(t, s)
		})
	}
}

// A batch does what its frames would do one by one, whatever they do to the table on the way: addresses move, also those
// that are being sent to, and go to make room for others.
func TestBatchIsItsFrames(t *testing.T) {
	for _, cfg := range []Config{{}, {PerPort: 2}, {PerPort: 100, PerNetwork: 5}} {
		r := rand.New(rand.NewPCG(8, uint64(cfg.PerPort)))
		const nPorts, stations = 4, 10
		var whole, single [nPorts]*Port
		var wholeOut, singleOut [nPorts]*wire
		a, b := New(cfg), New(cfg)
		for i := range nPorts {
			whole[i], wholeOut[i] = attach(a, "", i == 0)
			single[i], singleOut[i] = attach(b, "", i == 0)
		}
		whole[1].Pin(mac(0))
		single[1].Pin(mac(0))
		for step := range 5000 {
			in := r.IntN(nPorts)
			frames := make([]ether.Frame, 2+r.IntN(6))
			for i := range frames {
				src, dst := mac(r.IntN(stations)), mac(r.IntN(stations)) // also to itself
				if i > 0 && r.IntN(2) == 0 {
					dst = frames[i-1].Dst()
				}
				frames[i] = frame(src, dst, 10*step+i)
			}
			for i := range frames {
				f := frames[i]
				single[in].Ingress([]ether.Frame{f})
			}
			whole[in].Ingress(frames)
			if got, want := a.Tally(), b.Tally(); got != want {
				t.Fatalf("%+v, step %d: verdicts %v, one by one %v", cfg, step, got, want)
			}
			for i := range nPorts {
				if got, want := wholeOut[i].taken(), singleOut[i].taken(); !slices.Equal(got, want) {
					t.Fatalf("%+v, step %d: port %d got %v, one by one %v", cfg, step, i, got, want)
				}
			}
			if step%7 == 0 {
				now := time.Duration(step) * time.Second
				a.Tick(now)
				b.Tick(now)
			}
		}
		balanced(t, a)
	}
}

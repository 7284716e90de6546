package vswitch

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
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
	out     map[*Port][]int
	tally   Tally
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
	to := m.find(f.Dst())
	for _, q := range m.ports {
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
	} else if owner != p {
		return Spoofed
	}
	to := m.find(f.Dst())
	switch {
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
			m := &model{perPort: tc.perPort, pinned: map[ether.MAC]*Port{}, learned: map[ether.MAC]place{}, down: map[*Port]bool{}}
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
					frames[i] = random(r, tc.all, number)
					m.ingress(p, &frames[i], number)
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
				if v := Verdict(v); n == 0 && v != Runt && v != Offload {
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

// fickle is a Sender that refuses some frames, and keeps counters of its own.
type fickle struct{ given, took, bytes, calls atomic.Uint64 }

func (w *fickle) Send(frames []*ether.Frame) (sent, bytes int) {
	keep := len(frames) - int(w.calls.Add(1))%3
	for _, f := range frames[:max(0, keep)] {
		sent++
		bytes += f.Len()
	}
	w.given.Add(uint64(len(frames)))
	w.took.Add(uint64(sent))
	w.bytes.Add(uint64(bytes))
	return sent, bytes
}

// While readers, ports, pins and the clock all move, every frame gets one verdict and every frame
// sent is taken or refused.
func TestBooks(t *testing.T) {
	const readers, rounds, stations = 4, 1500, 60
	s := New(Config{PerPort: 20, PerNetwork: 50, Ageing: 3 * time.Second})
	var (
		mu    sync.Mutex
		all   = map[*Port]*fickle{}
		live  []*Port
		given sync.Map // *Port → *[2]atomic.Uint64: frames and bytes
		wg    sync.WaitGroup
		left  atomic.Int32
	)
	join := func(r *rand.Rand) {
		w := &fickle{}
		p := s.Attach("", w, r.IntN(2) == 0, plenty)
		mu.Lock()
		defer mu.Unlock()
		all[p] = w
		live = append(live, p)
		given.Store(p, &[2]atomic.Uint64{})
	}
	pick := func(r *rand.Rand) *Port {
		mu.Lock()
		defer mu.Unlock()
		return live[r.IntN(len(live))]
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 6 {
		join(r)
	}
	left.Store(readers)
	for i := range readers {
		r := rand.New(rand.NewPCG(5, uint64(i)))
		wg.Go(func() {
			defer left.Add(-1)
			for range rounds {
				p := pick(r)
				frames := make([]ether.Frame, r.IntN(40))
				bytes := 0
				for i := range frames {
					if frames[i] = random(r, stations, 0); r.IntN(30) == 0 {
						frames[i] = sized2(mac(1), mac(2), r.IntN(14))
					}
					bytes += frames[i].Len()
				}
				v, _ := given.Load(p)
				v.(*[2]atomic.Uint64)[0].Add(uint64(len(frames)))
				v.(*[2]atomic.Uint64)[1].Add(uint64(bytes))
				p.Ingress(frames)
			}
		})
	}
	meanwhile := func(seed uint64, fn func(r *rand.Rand)) {
		r := rand.New(rand.NewPCG(6, seed))
		wg.Go(func() {
			for left.Load() > 0 {
				fn(r)
			}
		})
	}
	meanwhile(1, func(r *rand.Rand) {
		join(r)
		mu.Lock()
		i := r.IntN(len(live))
		p := live[i]
		live = slices.Delete(live, i, i+1) // a reader may still hold it
		mu.Unlock()
		p.Detach()
	})
	meanwhile(2, func(r *rand.Rand) { pick(r).Pin(mac(r.IntN(stations))) })
	meanwhile(3, func(r *rand.Rand) { pick(r).Unpin(mac(r.IntN(stations))) })
	now := time.Duration(0)
	meanwhile(4, func(*rand.Rand) { now += time.Second; s.Tick(now) })
	meanwhile(5, func(r *rand.Rand) {
		for e := range s.Entries() {
			if e.Port == nil || e.Age < 0 {
				t.Errorf("entry %+v", e)
			}
		}
		if st := pick(r).Stats(); st.Offered != st.Tx+st.Refused || st.Tx > st.Offered {
			t.Errorf("a port's counters do not balance: %+v", st)
		}
		s.Tally()
	})
	meanwhile(6, func(r *rand.Rand) {
		f := random(r, stations, 0)
		if e := pick(r).Explain(&f); len(e.Steps) == 0 || e.Steps[len(e.Steps)-1].Drop != e.Verdict.Drop() {
			t.Errorf("explained as %+v", e)
		}
	})
	wg.Wait()

	var sum Tally
	var frames uint64
	for p, w := range all {
		st := p.Stats()
		for v, n := range st.Rx {
			sum[v] += n
		}
		v, _ := given.Load(p)
		in := v.(*[2]atomic.Uint64)
		frames += in[0].Load()
		if st.Rx.Rx() != in[0].Load() || st.RxBytes != in[1].Load() {
			t.Errorf("a port received %d frames, %d bytes; the counters say %d, %d", in[0].Load(), in[1].Load(), st.Rx.Rx(), st.RxBytes)
		}
		if st.Offered != w.given.Load() || st.Tx != w.took.Load() || st.Offered-st.Tx != st.Refused || st.TxBytes != w.bytes.Load() {
			t.Errorf("a port was given %d frames and took %d, %d bytes; the counters say %+v", w.given.Load(), w.took.Load(), w.bytes.Load(), st)
		}
	}
	if got := s.Tally(); got != sum || got.Rx() != frames {
		t.Errorf("the switch's verdicts are %v of %d frames; its ports' %v of %d", got, got.Rx(), sum, frames)
	}
	for _, v := range []Verdict{Forwarded, Flooded, Runt, BadSource, Spoofed} {
		if sum[v] == 0 {
			t.Errorf("no frame was ever %s", v)
		}
	}
	balanced(t, s)
	for _, p := range slices.SortedFunc(slices.Values(live), func(a, b *Port) int { return cmp.Compare(len(a.learned), len(b.learned)) }) {
		p.Detach()
	}
	for e := range s.Entries() {
		t.Errorf("%s has survived every port", e.MAC)
	}
	if s.count != 0 || len(s.learners) != 0 {
		t.Errorf("%d addresses of %d ports are left", s.count, len(s.learners))
	}
}

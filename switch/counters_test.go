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

// partialSender is a Sender that refuses some frames, and keeps counters of its own.
type partialSender struct{ given, took, bytes, calls atomic.Uint64 }

func (w *partialSender) Send(frames []*ether.Frame) (sent, bytes int) {
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
// sent is sent or refused.
func TestCountersConcurrent(t *testing.T) {
	const readers, rounds, stations = 4, 1500, 60
	s := New(Config{PerPort: 20, PerNetwork: 50, Ageing: 3 * time.Second})
	var (
		mu    sync.Mutex
		all   = map[*Port]*partialSender{}
		live  []*Port
		given sync.Map // *Port → *[2]atomic.Uint64: frames and bytes
		wg    sync.WaitGroup
		left  atomic.Int32
	)
	join := func(r *rand.Rand) {
		w := &partialSender{}
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
				if r.IntN(50) == 0 { // who pins meanwhile may not get the processor before the last round
					p.Pin(mac(r.IntN(stations)))
				}
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
	for _, p := range slices.SortedFunc(slices.Values(live), func(a, b *Port) int { return cmp.Compare(a.learned.len(), b.learned.len()) }) {
		p.Detach()
	}
	for e := range s.Entries() {
		t.Errorf("%s has survived every port", e.MAC)
	}
	if s.count != 0 || len(s.learners) != 0 {
		t.Errorf("%d addresses of %d ports are left", s.count, len(s.learners))
	}
}

package tunnel

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestPeerGood: over a sound path both ends find that out within three seconds, by real trains.
func TestPeerGood(t *testing.T) {
	p := newPath(t)
	var news []PeerState
	for range 3 {
		news = append(news, p.tick()...)
	}
	if len(news) != 2 || news[0].Result != Good || news[1].Result != Good {
		t.Fatalf("%+v", news)
	}
	if s := p.state(); s.Result != Good || !s.TestDone || s.RTT <= 0 || s.RTT > time.Minute || s.Tested != 3*time.Second || s.Why != "" {
		t.Errorf("%+v", s)
	}
	if p.trains != 2*shapes {
		t.Errorf("%d trains passed, want %d from each end", p.trains, shapes)
	}
	p.data()
	if p.trains != 2*shapes+1 {
		t.Error("the data did not go as a train")
	}
	before, trains := p.bytes, p.trains
	for range 300 { // the ends of a real path do not tick together
		p.now += time.Second
		p.a.Tick(p.now)
		p.relayAll()
		p.b.Tick(p.now + time.Second/2)
		p.relayAll()
	}
	const probes = 2 * 31 * 2 * (burstMost + 1) * (headerLen + messageHeadLen + tallyLen)
	if n := p.bytes - before; n > 20000+probes || p.trains != trains {
		t.Errorf("%d bytes and %d trains of tests within five minutes though all is well", n, p.trains-trains)
	}
	for range 400 {
		p.tick()
	}
	if p.trains != 4*shapes+1 {
		t.Errorf("%d trains, want another test by each end after ten minutes", p.trains)
	}
	for _, v := range []*VTEP{p.a, p.b} {
		if s := v.RxDropped(); s["no_peer"]+s["short"]+s["bad_header"] != 0 {
			t.Errorf("dropped: %v", s)
		}
	}
}

// TestPeerMangled: what a broken kernel does to trains is found, and from then on data goes one by one. When it has
// stopped, trains go again.
func TestPeerMangled(t *testing.T) {
	equalTail := func(train [][]byte) bool { return len(train[0]) == len(train[len(train)-1]) }
	for name, mangle := range map[string]func([][]byte) [][]byte{
		"two are one":     func(t [][]byte) [][]byte { return append([][]byte{append(t[0], t[1]...)}, t[2:]...) },
		"cut short":       func(t [][]byte) [][]byte { t[1] = t[1][:len(t[1])-1]; return t },
		"one byte wrong":  func(t [][]byte) [][]byte { t[len(t)-1][60] ^= 1; return t },
		"the first twice": func(t [][]byte) [][]byte { copy(t[1], t[0]); return t },
		"lost":            func(t [][]byte) [][]byte { return nil },
		"the last lost":   func(t [][]byte) [][]byte { return t[:len(t)-1] },
		"one as long as the others at the end": func(t [][]byte) [][]byte {
			if equalTail(t) {
				t[len(t)-1] = t[len(t)-1][:20]
			}
			return t
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPath(t)
			p.mangle = mangle
			for i := range 9 {
				if p.to.Stats().GSO.Why != nil {
					t.Fatalf("trains are off after %d seconds, before there was certainty", i)
				}
				p.tick()
			}
			s := p.state()
			if s.Result != Mangled || !s.TestDone || s.Why == "" || s.RTT <= 0 {
				t.Fatalf("%+v", s)
			}
			gso := p.to.Stats().GSO
			if !errors.Is(gso.Why, ErrMangled) || !gso.Blocked {
				t.Errorf("%+v", gso)
			}
			p.to.Retry()
			trains := p.trains
			p.data()
			if p.trains != trains {
				t.Error("data goes as a train")
			}
			later, err := p.a.Link(81, at("127.0.0.3"))
			testhost.Must(t, err)
			if !errors.Is(later.Stats().GSO.Why, ErrMangled) {
				t.Error("another network's link to the same host makes trains")
			}
			other, err := p.a.Link(81, at("127.0.0.9"))
			testhost.Must(t, err)
			if other.Stats().GSO.Why != nil {
				t.Error("a link to another host makes none")
			}

			p.mangle = nil
			for range 70 {
				p.tick()
			}
			if s := p.state(); s.Result != Good || s.Why != "" {
				t.Fatalf("the path is sound again: %+v", s)
			}
			trains = p.trains
			p.data()
			if p.trains != trains+1 || later.Stats().GSO.Why != nil {
				t.Error("and there are no trains")
			}
		})
	}
}

// TestPeerUnsure: loss that spares neither trains nor singles says nothing about trains; one bad test is none either.
func TestPeerUnsure(t *testing.T) {
	p := newPath(t)
	spoil := rand.New(rand.NewPCG(1, 2))
	lose := func(d []byte) bool { return len(d) < 300 || spoil.IntN(20) > 0 }
	p.single = lose
	p.mangle = func(t [][]byte) [][]byte { return t[1:] }
	for range 60 {
		p.tick()
	}
	// The train of two may well have both of its singles arrive, so a result there is possible, but not that all is well.
	if s := p.state(); s.Result == Good {
		t.Errorf("%+v", s)
	}

	p = newPath(t)
	bad := 0
	p.mangle = func(t [][]byte) [][]byte {
		if bad++; bad <= shapes { // the first test of one end
			return t[1:]
		}
		return t
	}
	for range 12 {
		p.tick()
		if p.to.Stats().GSO.Why != nil {
			t.Fatal("one bad test, and trains are off")
		}
	}
	if s := p.state(); s.Result != Good {
		t.Errorf("%+v", s)
	}

	p = newPath(t)
	p.single = func(d []byte) bool { return d[headerLen+15] != kindSegment }
	p.mangle = func([][]byte) [][]byte { return nil }
	for range 30 {
		p.tick()
	}
	if s := p.state(); s.Result != Untested || !s.TestDone || s.RTT <= 0 {
		t.Errorf("neither trains nor singles arrive: %+v", s)
	}
}

// TestPeerNarrow: a path that swallows the longest datagrams, and sends no ICMP, is no good one, whatever the short ones do.
func TestPeerNarrow(t *testing.T) {
	p := newPath(t)
	narrow := func(longest int) {
		p.single = func(d []byte) bool { return len(d) <= longest }
		p.mangle = func(train [][]byte) [][]byte {
			return slices.DeleteFunc(train, func(d []byte) bool { return !p.single(d) })
		}
	}
	narrow(1400)
	for range 5 {
		p.tick()
	}
	if s := p.state(); s.Result != Untested || s.Narrow != 1500 {
		t.Errorf("%+v", s)
	}
	for range 10 {
		p.tick()
	}
	const fits = 1400 + 20 + 8 // with the outer IP and UDP header
	if s := p.state(); !s.TestDone || s.Fits > fits || s.Fits < fits-searchNear {
		t.Errorf("what fits was searched: %+v, want %d", s, fits)
	}
	p.single, p.mangle = nil, nil
	p.a.Peers()[0].Test()
	for range 5 {
		p.tick()
	}
	if s := p.state(); s.Result != Good || s.Narrow != 0 || s.Fits != 0 {
		t.Errorf("the path is wide again: %+v", s)
	}
	narrow(1300)
	for range 90 { // the next keepalive finds it out
		p.tick()
	}
	if s := p.state(); s.Narrow != 1500 || s.Fits > 1328 || s.Fits < 1328-searchNear {
		t.Errorf("the path is narrow again: %+v", s)
	}
}

// TestPeerNoAnswer: a host without tapestry gets a few small datagrams, and trains go on. When tapestry comes up there,
// both know at once.
func TestPeerNoAnswer(t *testing.T) {
	host(t)
	p := &path{t: t, a: listen(t, "127.0.0.1", 1), relay: relay{arena: make([]byte, 512<<10)}}
	var err error
	p.to, err = p.a.Link(vni, at("127.0.0.2"))
	testhost.Must(t, err)
	blackhole, err := bind(at("127.0.0.2"), false)
	testhost.Must(t, err)
	p.fd = -1
	p.b = &VTEP{}
	for range 50 {
		p.tick()
	}
	if s := p.state(); s.Result != NoAnswer || !s.TestDone || s.RTT != 0 {
		t.Errorf("%+v", s)
	}
	if p.to.Stats().GSO.Why != nil {
		t.Error("trains are off")
	}
	got := 0
	for b := make([]byte, 1<<16); ; got++ {
		n, err := unix.Read(blackhole, b)
		if err != nil {
			break
		}
		if n != headerLen+messageHeadLen || !bytes.Equal(b[:headerLen], []byte{8, 0, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("%d bytes came: %x", n, b[:headerLen])
		}
	}
	if got != maxAttempts {
		t.Errorf("%d questions, want %d", got, maxAttempts)
	}
	testhost.Must(t, unix.Close(blackhole))
	p.b = listen(t, "127.0.0.2", 1)
	p.at, _ = caught(t, p.b, vni, "127.0.0.1")
	for range 5 {
		p.tick()
	}
	if s := p.state(); s.Result != Good {
		t.Errorf("tapestry came up there: %+v", s)
	}
}

// TestPeerRefused: the own kernel's refusal is not taken for the path's.
func TestPeerRefused(t *testing.T) {
	p := newPath(t)
	for _, fd := range p.a.send {
		testhost.Must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)) // makes UDP_SEGMENT EINVAL
	}
	for range 3 {
		p.tick()
	}
	if s := p.state(); s.Result != Refused || s.Why != unix.EINVAL.Error() {
		t.Errorf("%+v", s)
	}
	p.data()
	if s := p.to.Stats().GSO; !errors.Is(s.Why, unix.EINVAL) || s.Blocked {
		t.Errorf("%+v", s)
	}
}

// TestPeerOnRequest: Test makes one now, whatever is due.
func TestPeerOnRequest(t *testing.T) {
	p := newPath(t)
	for range 10 {
		p.tick()
	}
	peer := p.a.Peers()[0]
	before := p.state()
	peer.Test()
	if p.state().TestDone {
		t.Error("done before it has begun")
	}
	for range 3 {
		p.tick()
	}
	if s := p.state(); !s.TestDone || s.Tested <= before.Tested {
		t.Errorf("%+v, was %+v", s, before)
	}
}

// TestPeerEnds: a host is a peer as long as it has a link.
func TestPeerEnds(t *testing.T) {
	p := newPath(t)
	second, err := p.a.Link(81, at("127.0.0.3"))
	testhost.Must(t, err)
	p.to.Close()
	p.to.Close()
	if len(p.a.Peers()) != 1 {
		t.Error("the peer has gone with one of two links")
	}
	second.Close()
	if len(p.a.Peers()) != 0 || len(*p.a.links.Load()) != 0 {
		t.Errorf("left are %v, %v", p.a.Peers(), *p.a.links.Load())
	}
}

// TestEvaluate: what reports mean. A shape is judged by its singles.
func TestEvaluate(t *testing.T) {
	const full = 1464
	all := trainShapes(full)
	whole := func() (r report) {
		r.known = true
		for i, s := range all {
			r.intact[i] = [modes]uint64{s.all(), s.all()}
		}
		return r
	}
	const good, bad, unsure, narrow = "good", "bad", "unsure", "narrow"
	for name, tt := range map[string]struct {
		change func(r *report)
		stuck  bool
		want   string
	}{
		"all came":                               {func(r *report) {}, false, good},
		"a segment of a train is missing":        {func(r *report) { r.intact[1][inTrain] &^= 4 }, false, bad},
		"and a single elsewhere":                 {func(r *report) { r.intact[1][inTrain] &^= 4; r.intact[2][singly] &^= 1 }, false, unsure},
		"and of the same train":                  {func(r *report) { r.intact[1] = [modes]uint64{} }, false, good},
		"nothing long comes, and no short train": {func(r *report) { r.intact = [shapes][modes]uint64{3: {0, 3}} }, false, bad},
		"nothing long comes":                     {func(r *report) { r.intact = [shapes][modes]uint64{3: {3, 3}} }, false, good},
		"nothing came":                           {func(r *report) { r.intact = [shapes][modes]uint64{} }, false, unsure},
		"all but the longest came": {func(r *report) {
			r.intact[0] = [modes]uint64{1 << (all[0].n - 1), 1 << (all[0].n - 1)}
			r.intact[1] = [modes]uint64{}
		}, false, narrow},
		"one of the longest came":         {func(r *report) { r.intact[0], r.intact[1] = [modes]uint64{}, [modes]uint64{0, 2} }, false, good},
		"the longest came in trains only": {func(r *report) { r.intact[0][singly], r.intact[1][singly] = 0, 0 }, false, good},
		"not all of the longest was sent": {func(r *report) { r.intact[0], r.intact[1] = [modes]uint64{}, [modes]uint64{} }, true, unsure},
		"forgotten":                       {func(r *report) { *r = report{} }, false, unsure},
		"not all was sent":                {func(r *report) { r.intact[1][inTrain] = 0 }, true, unsure},
		"bits that are no segments":       {func(r *report) { r.intact[3] = [modes]uint64{1 << 60, 1 << 61} }, false, good},
	} {
		p := &Peer{Host: at("127.0.0.3"), v: &VTEP{gso: true}, maxFrame: full, sendFailed: tt.stuck, trains: &Link{}, singly: &Link{}}
		p.v.links.Store(&map[linkKey]*Link{})
		r := whole()
		tt.change(&r)
		p.evaluate(time.Hour, r)
		got := unsure
		if p.good == 1 {
			got = good
		}
		if p.bad == 1 {
			got = bad
		}
		if got == unsure && p.state.Narrow == full-ether.HeaderLen+Overhead(false) {
			got = narrow
		}
		if got != tt.want || p.trainsOff.Load() {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

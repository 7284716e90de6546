package poll

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

func TestDrain(t *testing.T) {
	p := newPoller(t, 2)
	before, gotBefore := echo(t)
	before.write(t, 1, 2)
	add(t, p, before)
	start(t, p)
	if got := <-gotBefore; !bytes.Equal(got, []byte{1, 2}) {
		t.Errorf("what was there before Run came as %v", got)
	}
	var arenas [2]int
	for i := range arenas {
		done := make(chan bool)
		s := newPipe(t, func(p *pipe, arena []byte) error {
			arena[0], arena[ArenaSize-1] = 1, 1
			arenas[i] = len(arena)
			p.read(arena)
			close(done)
			return nil
		})
		add(t, p, s)
		s.write(t, 1)
		<-done
	}
	if arenas != [2]int{ArenaSize, ArenaSize} {
		t.Errorf("arenas of %v bytes were lent, want %d", arenas, ArenaSize)
	}
	for i := range 100 {
		before.write(t, byte(i))
		if got := <-gotBefore; !bytes.Equal(got, []byte{byte(i)}) {
			t.Fatalf("message %d came as %v", i, got)
		}
	}
}

// Once Remove has returned there is no Drain, though the source is ready all the time and its
// descriptor's number is used again at once.
func TestRemove(t *testing.T) {
	p := newPoller(t, 2)
	start(t, p)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				var removed atomic.Bool
				drained := make(chan bool, 1)
				s := newPipe(t, func(*pipe, []byte) error {
					if removed.Load() {
						t.Error("drained after Remove had returned")
					}
					select {
					case drained <- true:
					default:
					}
					return nil
				})
				s.write(t, 1)
				h := add(t, p, s)
				<-drained
				h.Remove()
				removed.Store(true)
				h.Remove()
			}
		})
	}
	wg.Wait()
	for i, w := range p.workers {
		if n := load(w); n != 0 {
			t.Errorf("worker %d counts %d sources, want none", i, n)
		}
		w.entries.Range(func(key, _ any) bool {
			t.Errorf("worker %d remembers source %v", i, key)
			return true
		})
	}
}

// A source whose Drain fails is told so once and never drained again, however ready it is.
func TestFailed(t *testing.T) {
	p := newPoller(t, 1)
	start(t, p)
	broken := errors.New("broken")
	s := newPipe(t, func(*pipe, []byte) error { return broken })
	s.write(t, 1)
	failed := make(chan error, 2)
	var h *Handle
	added := make(chan bool)
	h, err := p.Add(s, 0, func(err error) {
		<-added
		h.Remove() // as an owner does
		failed <- err
	})
	if err != nil {
		t.Fatal(err)
	}
	close(added)
	if err := <-failed; err != broken {
		t.Errorf("failed with %v", err)
	}
	e, got := echo(t)
	add(t, p, e)
	for range 100 {
		e.write(t, 1)
		<-got
	}
	if n := s.calls.Load(); n != 1 {
		t.Errorf("the broken source was drained %d times, want once", n)
	}
	h.Remove()
	select {
	case <-failed:
		t.Error("failed was called twice")
	default:
	}
	if n := load(p.workers[0]); n != 1 {
		t.Errorf("%d sources are counted, want 1", n)
	}
}

// Failing and being removed at the same time: failed is called at most once, the accounts stay right.
func TestFailedAndRemoved(t *testing.T) {
	p := newPoller(t, 2)
	stop := start(t, p)
	for range 300 {
		var calls atomic.Int32
		s := newPipe(t, func(*pipe, []byte) error { return errors.New("broken") })
		s.write(t, 1)
		h, err := p.Add(s, 0, func(error) {
			if calls.Add(1) > 1 {
				t.Error("failed was called twice")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Remove()
		if s.calls.Load() > 1 {
			t.Error("a broken source was drained again")
		}
	}
	stop()
	for i, w := range p.workers {
		if n := load(w); n != 0 {
			t.Errorf("worker %d counts %d sources, want none", i, n)
		}
	}
}

// A source that fails while it is being removed has been removed: its owner does not hear of it.
func TestFailsInRemove(t *testing.T) {
	p := newPoller(t, 1)
	stop := start(t, p)
	entered, release := make(chan bool), make(chan bool)
	s := newPipe(t, func(*pipe, []byte) error {
		entered <- true
		<-release
		return errors.New("broken")
	})
	s.write(t, 1)
	h := add(t, p, s)
	<-entered
	var wg sync.WaitGroup
	wg.Go(h.Remove)
	for w := p.workers[0]; ; runtime.Gosched() {
		if _, there := w.entries.Load(h.key); !there {
			break
		}
	}
	release <- true
	wg.Wait()
	stop()
	if n := load(p.workers[0]); n != 0 {
		t.Errorf("%d sources are counted, want none", n)
	}
}

// Those that are always ready, more of them than one wait reports, do not keep others waiting.
func TestFairness(t *testing.T) {
	p := newPoller(t, 1)
	got := make(chan bool, 1)
	var asked int64 // busy's round when the quiet source became ready; the worker's own
	var quiet, busy *pipe
	quiet = newPipe(t, func(p *pipe, arena []byte) error {
		p.read(arena)
		if rounds := busy.calls.Load() - asked; asked > 0 && rounds > 1 {
			t.Errorf("a quiet source waited for %d rounds of a busy one", rounds)
		}
		asked = 0
		select {
		case got <- true:
		default:
		}
		return nil
	})
	busy = newPipe(t, func(p *pipe, _ []byte) error {
		if n := p.calls.Load(); n%10 == 0 && n < 1000 {
			asked = n
			_, err := unix.Write(quiet.w, []byte{1})
			return err
		}
		return nil
	})
	busy.write(t, 1)
	add(t, p, busy)
	add(t, p, quiet)
	start(t, p)
	<-got
	crowd := make([]*pipe, 200)
	for i := range crowd {
		crowd[i] = ready(t)
		add(t, p, crowd[i])
	}
	for range 200 {
		quiet.write(t, 1)
		<-got
	}
	for i, s := range crowd {
		if s.calls.Load() == 0 {
			t.Errorf("source %d of %d was never drained", i, len(crowd))
		}
	}
}

// Sources are numbered, and go round the workers by number.
func TestAddGoesRound(t *testing.T) {
	p := newPoller(t, 3)
	for i := range 7 {
		h, err := p.Add(newPipe(t, nil), i, unbroken(t))
		if err != nil {
			t.Fatal(err)
		}
		if h.w != p.workers[i%3] {
			t.Errorf("source %d is not worker %d's", i, i%3)
		}
	}
}

// load is how many sources a worker has.
func load(w *worker) (n int) {
	w.entries.Range(func(any, any) bool { n++; return true })
	return n
}

// A descriptor that cannot be watched is an error and leaves nothing behind.
func TestAddRefused(t *testing.T) {
	p := newPoller(t, 1)
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := newPipe(t, nil)
	add(t, p, s)
	for _, tc := range []struct {
		name string
		fd   int
		want error
	}{
		{"none", -1, unix.EBADF},
		{"a file", int(file.Fd()), unix.EPERM},
		{"one that is there", s.r, unix.EEXIST},
	} {
		if _, err := p.Add(&pipe{r: tc.fd}, 0, unbroken(t)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	n := 0
	p.workers[0].entries.Range(func(_, _ any) bool { n++; return true })
	if l := load(p.workers[0]); n != 1 || l != 1 {
		t.Errorf("%d sources are remembered and %d counted, want 1", n, l)
	}
}

func TestNew(t *testing.T) {
	for n, want := range map[int][2]int{-1: {1, 4}, 0: {1, 4}, 1: {1, 1}, 7: {7, 7}} {
		if got := newPoller(t, n).Workers(); got < want[0] || got > want[1] {
			t.Errorf("New(%d) has %d workers, want %v", n, got, want)
		}
	}
}

// cores are those that the thread may run on.
func cores(t *testing.T) (set unix.CPUSet) {
	t.Helper()
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Error(err)
	}
	return set
}

// Each pinned worker has a core, another one as long as there are others, and takes it along when it ends.
func TestPin(t *testing.T) {
	all := cores(t)
	p := newPoller(t, 3)
	if err := p.Pin(); err != nil {
		t.Fatal(err)
	}
	stop := start(t, p)
	used := make(map[unix.CPUSet]bool)
	for i := range 3 {
		got := make(chan unix.CPUSet)
		s := newPipe(t, func(s *pipe, arena []byte) error {
			s.read(arena)
			got <- cores(t)
			return nil
		})
		h, err := p.Add(s, i, unbroken(t))
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, 1)
		set := <-got
		if set.Count() != 1 {
			t.Errorf("worker %d may run on %d cores, want 1", i, set.Count())
		}
		used[set] = true
		h.Remove()
	}
	if want := min(3, all.Count()); len(used) != want {
		t.Errorf("the workers have %d cores, want %d", len(used), want)
	}
	stop()
	for range 50 {
		seen := make(chan unix.CPUSet)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			seen <- cores(t)
		}()
		if set := <-seen; set != all {
			t.Fatalf("a thread of a pinned worker lives on: it may run on %d cores of %d", set.Count(), all.Count())
		}
	}
}

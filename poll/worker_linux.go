// Package poll runs what reads frames: a few workers, each one locked thread with an epoll set and
// an arena of its own.
//
// A source belongs to one worker from Add to Remove, so what it reads stays in order. An idle source
// holds neither a thread nor a buffer. Workers read and write non-blocking descriptors with raw
// system calls, so that Go's scheduler does not take the thread's processor away in the middle.
package poll

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ArenaSize is the number of bytes a worker lends to Drain: room for a few super-frames, or for a
// batch of ordinary ones, and small enough to stay in a core's cache.
const ArenaSize = 512 << 10

// A Source is something with a descriptor that frames can be read from.
type Source interface {
	// Fd is the descriptor, non-blocking and open until Remove has returned.
	Fd() int
	// Drain reads until the descriptor is empty or a budget is spent, using arena as it likes for
	// the length of the call. An error means that the source is broken for good: it is removed.
	Drain(arena []byte) error
}

// A Poller is a set of workers.
type Poller struct {
	workers []*worker
	cores   []int // that Pin found
}

type worker struct {
	epoll, wake int
	entries     sync.Map // int32 → *entry, by key

	// Only run uses these.
	spins int // how often wait looks before it sleeps

	mu      sync.Mutex
	running bool
	next    int32
	pending []chan struct{} // closed by the worker between two rounds
}

type entry struct {
	source Source
	failed func(error)
}

// rawWaitMs is how long a worker waits for more frames in its processor's name, in milliseconds.
const rawWaitMs = 2

// A worker looks at most maxLooks times before it sleeps, and not longer than longLook; whenever it was
// woken after less than shortSleep, it looks oftener the next time.
const (
	maxSpins    = 64
	maxSpinTime = 200 * time.Microsecond
	shortSleep  = 100 * time.Microsecond
)

// wakeKey stands for the worker's eventfd among the keys of its sources.
const wakeKey = 0

// New makes a Poller of n workers. With n = 0 it takes half of the cores, at most four, and at least
// two if there are two: the others belong to those who make the traffic.
func New(n int) (*Poller, error) {
	if n <= 0 {
		n = min(4, max(min(2, runtime.NumCPU()), runtime.NumCPU()/2))
	}
	p := &Poller{}
	for range n {
		w, err := newWorker()
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.workers = append(p.workers, w)
	}
	return p, nil
}

func newWorker() (*worker, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, os.NewSyscallError("eventfd", err)
	}
	w := &worker{epoll: ep, wake: wake, next: wakeKey + 1}
	if err := w.control(unix.EPOLL_CTL_ADD, wake, wakeKey); err != nil {
		unix.Close(ep)
		unix.Close(wake)
		return nil, err
	}
	return w, nil
}

func (w *worker) control(op, fd int, key int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: key}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(w.epoll, op, fd, &ev))
}

// Pin gives each worker a core for itself, of those that the process may use (sched_setaffinity(2)): who wanders
// leaves what it has just read in another core's cache. Others may still use the core, and the scheduler moves
// them away while a worker is busy. It is called before Run.
func (p *Poller) Pin() error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	for core := 0; len(p.cores) < set.Count(); core++ {
		if set.IsSet(core) {
			p.cores = append(p.cores, core)
		}
	}
	return nil
}

// pin moves the thread to the core of worker i. Workers are spread: cores that are neighbours may be one core's threads.
func (p *Poller) pin(i int) {
	if len(p.cores) == 0 {
		return
	}
	var set unix.CPUSet
	set.Set(p.cores[i*max(1, len(p.cores)/len(p.workers))%len(p.cores)])
	_ = unix.SchedSetaffinity(0, &set) // the core may have gone since: then the thread wanders
}

// Workers is the number of workers.
func (p *Poller) Workers() int { return len(p.workers) }

// A Handle is a source's place at its worker.
type Handle struct {
	w   *worker
	key int32
	fd  int
}

// Add gives s to a worker, counted round: whoever has a source for each of them numbers them. failed is
// called once, on a goroutine of its own, if Drain returns an error; s has then left its worker.
func (p *Poller) Add(s Source, worker int, failed func(error)) (*Handle, error) {
	w := p.workers[worker%len(p.workers)]
	w.mu.Lock()
	defer w.mu.Unlock()
	h := &Handle{w: w, key: w.next, fd: s.Fd()}
	w.next++
	w.entries.Store(h.key, &entry{s, failed})
	if err := w.control(unix.EPOLL_CTL_ADD, h.fd, h.key); err != nil {
		w.entries.Delete(h.key)
		return nil, fmt.Errorf("have a worker read descriptor %d: %w", h.fd, explain(err))
	}
	return h, nil
}

// explain says what to do where the kernel lets no more be watched (epoll(7)).
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("this user watches as many descriptors as it may: raise sysctl fs.epoll.max_user_watches (%w)", err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("the kernel has no memory left for it: see free -m, and the limit of the daemon's cgroup (%w)", err)
	}
	return err
}

// Remove takes the source from its worker. When it returns the worker does not use the source any
// more and never will, so its descriptor may be closed. A second Remove does nothing. It must not be
// called from Drain.
func (h *Handle) Remove() {
	w := h.w
	if _, was := w.entries.LoadAndDelete(h.key); was {
		_ = w.control(unix.EPOLL_CTL_DEL, h.fd, h.key)
	}
	w.sync()
}

// Sync returns when each worker has ended the round it was in. Whoever could not be found any more
// when Sync was called is not in use when it returns: this is how a port's way out is closed under
// readers that take no lock. It must not be called from Drain.
func (p *Poller) Sync() {
	for _, w := range p.workers {
		w.sync()
	}
}

func (w *worker) sync() {
	w.mu.Lock()
	if !w.running {
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	w.pending = append(w.pending, done)
	w.mu.Unlock()
	w.wakeUp()
	<-done
}

func (w *worker) wakeUp() {
	one := [8]byte{1}
	_, _ = unix.Write(w.wake, one[:]) // full means that a wake-up is already due
}

// Run works until ctx ends or a worker cannot go on, then waits for the workers' last rounds. It is
// called once.
func (p *Poller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, w := range p.workers {
		w.mu.Lock()
		w.running = true
		w.mu.Unlock()
	}
	errs := make([]error, len(p.workers))
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		for _, w := range p.workers {
			w.wakeUp()
		}
	})
	for i, w := range p.workers {
		wg.Go(func() {
			defer cancel()         // what one worker had would be silent
			runtime.LockOSThread() // and never unlocked: a pinned thread ends with its worker
			p.pin(i)
			errs[i] = w.run(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (w *worker) run(ctx context.Context) error {
	defer w.endRound(true)
	arena, err := unix.Mmap(-1, 0, ArenaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	defer func() { _ = unix.Munmap(arena) }()
	var events [64]unix.EpollEvent
	for {
		n, err := w.wait(events[:])
		if err != nil {
			return os.NewSyscallError("epoll_wait", err)
		}
		for i := range events[:n] {
			if events[i].Fd == wakeKey {
				var b [8]byte
				_, _ = unix.Read(w.wake, b[:])
				if ctx.Err() != nil {
					return nil
				}
				continue
			}
			v, ok := w.entries.Load(events[i].Fd)
			if !ok {
				continue
			}
			e := v.(*entry)
			if err := e.source.Drain(arena); err != nil {
				w.removeFailed(events[i].Fd, e, err)
			}
		}
		w.endRound(false)
	}
}

// wait gives what is ready. First it looks, again and again, and lets others have the processor in
// between: a processor that has fallen asleep takes longer to wake up than a frame to pass. It looks as
// often as has paid lately, so a quiet network costs nothing. Then, for lingerMs after the last frames, it
// sleeps without telling Go's scheduler, which would hand the thread's processor on, and wake others to
// look for work, between any two frames; a collection of garbage interrupts that sleep by a signal.
// Then it sleeps in earnest.
func (w *worker) wait(events []unix.EpollEvent) (int, error) {
	var begun time.Time
	if w.spins > 0 {
		begun = time.Now()
	}
	for range w.spins {
		if n, errno := w.epollWait(events, 0); n > 0 || errno != 0 {
			w.spins = min(maxSpins, w.spins+1)
			return n, ignoreEINTR(errno)
		}
		_, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		if time.Since(begun) > maxSpinTime { // others need the processor
			break
		}
	}
	w.spins /= 2
	asleep := time.Now()
	if n, errno := w.epollWait(events, rawWaitMs); n > 0 || errno != 0 && errno != syscall.EINTR {
		if time.Since(asleep) < shortSleep {
			w.spins = min(maxSpins, 4*w.spins+4)
		}
		return n, ignoreEINTR(errno)
	}
	n, err := unix.EpollWait(w.epoll, events, -1)
	if err == syscall.EINTR {
		return 0, nil
	}
	return n, err
}

// epollWait is epoll_wait as a raw system call.
func (w *worker) epollWait(events []unix.EpollEvent, ms uintptr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), ms, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func ignoreEINTR(errno syscall.Errno) error {
	if errno == 0 || errno == syscall.EINTR {
		return nil
	}
	return errno
}

// removeFailed takes a broken source out; its owner hears of it on a goroutine, since the owner will want to
// Remove it, and Remove waits for this worker.
func (w *worker) removeFailed(key int32, e *entry, err error) {
	if _, was := w.entries.LoadAndDelete(key); !was {
		return
	}
	_ = w.control(unix.EPOLL_CTL_DEL, e.source.Fd(), key)
	go e.failed(err)
}

// endRound answers those who wait in Remove; between two rounds no source is in use.
func (w *worker) endRound(last bool) {
	w.mu.Lock()
	if last {
		w.running = false
	}
	pending := w.pending
	w.pending = nil
	w.mu.Unlock()
	for _, done := range pending {
		close(done)
	}
}

// Close gives the workers' descriptors back. Run must have returned or never been called.
func (p *Poller) Close() error {
	var errs []error
	for _, w := range p.workers {
		errs = append(errs, unix.Close(w.epoll), unix.Close(w.wake))
	}
	p.workers = nil
	return errors.Join(errs...)
}

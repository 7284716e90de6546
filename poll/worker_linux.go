// Package poll runs the workers that read frames. Each is one locked thread with an epoll set and an arena of its own.
//
// A source belongs to one worker from Add to Remove, so what it reads stays in order. An idle source needs neither a thread
// nor a buffer. Workers read and write non-blocking descriptors with raw system calls: during an ordinary one, Go's
// scheduler could give the thread's processor (its P) to another thread.
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

// ArenaSize is the size of the buffer that a worker lends to Drain, in bytes: enough for a few super-frames or a batch of
// ordinary frames, and small enough to stay in a core's cache.
const ArenaSize = 512 << 10

// A Source has a descriptor from which frames can be read.
type Source interface {
	// Fd is the descriptor, non-blocking and open until Remove has returned.
	Fd() int
	// Drain reads until the descriptor has no more data, or up to a limit of its own. It may use arena during the call.
	// An error means that the source cannot be read any more: it is removed.
	Drain(arena []byte) error
}

// A Poller is a set of workers.
type Poller struct {
	workers []*worker
	cores   []int // for the workers, see Pin; nil: no pinning
}

type worker struct {
	epoll, wake int
	entries     sync.Map // int32 → *entry, by key

	spins int // how often wait polls before it sleeps; only run uses it

	mu      sync.Mutex      // guards what follows
	running bool            // run has begun and not ended
	next    int32           // key of the next source
	pending []chan struct{} // closed by the worker between two rounds
}

type entry struct {
	source Source
	failed func(error)
}

// rawWaitMs is how long a worker sleeps in a raw system call before it sleeps in an ordinary one, in milliseconds.
const rawWaitMs = 2

// A worker polls at most maxSpins times before it sleeps, and not longer than maxSpinTime. After a sleep of less than
// shortSleep, it polls more often the next time.
const (
	maxSpins    = 64
	maxSpinTime = 200 * time.Microsecond
	shortSleep  = 100 * time.Microsecond
)

// wakeKey is the key of the worker's eventfd; those of sources are greater.
const wakeKey = 0

// New makes a Poller of n workers. n = 0 means half of the cores, at most four, and at least two if there are two: the
// other cores are for the programs that make the traffic.
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

// Pin binds each worker to a core, of those that the process may use (sched_setaffinity(2)): a thread that moves to another
// core leaves the data that it has read in the old one's cache. Other threads may still use the core; the scheduler
// moves them away while the worker is busy. Pin must be called before Run.
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

// pin binds the calling thread to the core of worker i. Workers are spread, since neighbours may be hyperthreads of one core.
func (p *Poller) pin(i int) {
	if len(p.cores) == 0 {
		return
	}
	var set unix.CPUSet
	set.Set(p.cores[i*max(1, len(p.cores)/len(p.workers))%len(p.cores)])
	_ = unix.SchedSetaffinity(0, &set) // it fails if the core went offline: then the thread is not bound
}

// Workers is the number of workers.
func (p *Poller) Workers() int { return len(p.workers) }

// A Handle is a source's registration with its worker.
type Handle struct {
	w   *worker
	key int32
	fd  int
}

// Add registers s with a worker, by its number modulo the number of workers. If Drain returns an error, s is removed, and
// failed is called once, on a goroutine of its own.
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

// explain says what to do if the kernel can watch no more descriptors (epoll(7)).
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("this user watches as many descriptors as it may: raise sysctl fs.epoll.max_user_watches (%w)", err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("the kernel has no memory left for it: see free -m, and the limit of the daemon's cgroup (%w)", err)
	}
	return err
}

// Remove removes the source from its worker. When it returns, the worker does not use the source any more, so its
// descriptor may be closed. A second Remove does nothing. It must not be called from Drain.
func (h *Handle) Remove() {
	w := h.w
	if _, was := w.entries.LoadAndDelete(h.key); was {
		_ = w.control(unix.EPOLL_CTL_DEL, h.fd, h.key)
	}
	w.sync()
}

// Sync returns when each worker has ended the round in which it was. What workers could not find any more when Sync was
// called, such as a detached port, is not in use when it returns: so a device can be closed although the data path takes
// no lock (as with synchronize_rcu in Linux). It must not be called from Drain.
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
	_, _ = unix.Write(w.wake, one[:]) // it fails if the counter is full: then a wake-up is pending
}

// Run runs the workers until ctx ends or a worker fails, and waits for their last rounds. It must be called once.
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
			defer cancel()         // without one worker its sources would not be read
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

// wait returns what is ready, in three steps. First it polls, and yields the processor after each poll, since waking up a
// sleeping processor takes longer than handling a frame. The number of polls depends on whether they were successful
// lately, so an idle network costs nothing. Then it sleeps for rawWaitMs in a raw system call: Go's scheduler does not know
// of it, and so does not give the P to another thread between two frames. A garbage collection interrupts that sleep by a
// signal. At last it sleeps in an ordinary system call.
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
		if time.Since(begun) > maxSpinTime { // other threads need the processor
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

// removeFailed removes a source whose Drain has failed. failed gets a goroutine, since it may call Remove, which waits for
// this worker.
func (w *worker) removeFailed(key int32, e *entry, err error) {
	if _, was := w.entries.LoadAndDelete(key); !was {
		return
	}
	_ = w.control(unix.EPOLL_CTL_DEL, e.source.Fd(), key)
	go e.failed(err)
}

// endRound wakes those who wait in sync: between two rounds no source is in use.
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

// Close closes the workers' descriptors. Run must have returned, or never been called.
func (p *Poller) Close() error {
	var errs []error
	for _, w := range p.workers {
		errs = append(errs, unix.Close(w.epoll), unix.Close(w.wake))
	}
	p.workers = nil
	return errors.Join(errs...)
}

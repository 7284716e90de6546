package bed

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/bench/results"
)

// measureCosts measures what a system call, a copy and a wake-up cost. It takes some 100 ms.
func measureCosts() (c results.Costs, err error) {
	c.SyscallNS = fastest(100, func(n int) {
		for range n {
			_, _, _ = syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
	})
	from, to := make([]byte, 64<<10), make([]byte, 64<<10)
	c.CopyGBs = float64(len(from)) / fastest(10, func(n int) {
		for range n {
			copy(to, from)
		}
	})
	c.WakeUS, err = wakeTime(1000)
	return c, err
}

// fastest calls do many times, and returns the time of one of n, in ns, in the fastest call. Disturbances only add time, and
// a call is shorter than a time slice of the scheduler, so even on a busy machine some calls are not disturbed.
func fastest(n int, do func(n int)) float64 {
	least := math.Inf(1)
	for range 500 {
		began := time.Now()
		do(n)
		least = min(least, float64(time.Since(began))/float64(n))
	}
	return least
}

// wakeTime is the time of a round trip between threads on two cores, in µs: each sleeps until the other one wakes it. It is 0
// where only one core can be used.
func wakeTime(trips int) (us float64, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, os.NewSyscallError("sched_getaffinity", err)
	}
	if set.Count() < 2 || runtime.GOMAXPROCS(0) < 2 { // with GOMAXPROCS=1 Go's scheduler would be measured
		return 0, nil
	}
	var cores []int
	for core := 0; len(cores) < 2; core++ {
		if set.IsSet(core) {
			cores = append(cores, core)
		}
	}
	var there, back [2]int // read from the first, write to the second
	if err := unix.Pipe2(there[:], unix.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe", err)
	}
	defer unix.Close(there[0])
	if err := unix.Pipe2(back[:], unix.O_CLOEXEC); err != nil {
		unix.Close(there[1])
		return 0, os.NewSyscallError("pipe", err)
	}
	defer unix.Close(back[0])

	b := make([]byte, 1)
	answered := onCore(cores[1], func() error {
		defer unix.Close(back[1]) // so that the other one does not wait for ever
		for range trips {
			if err := errors.Join(readByte(there[0], b), writeByte(back[1], b)); err != nil {
				return err
			}
		}
		return nil
	})
	var took time.Duration
	asked := onCore(cores[0], func() error {
		defer unix.Close(there[1])
		b, began := make([]byte, 1), time.Now()
		for range trips {
			if err := errors.Join(writeByte(there[1], b), readByte(back[0], b)); err != nil {
				return err
			}
		}
		took = time.Since(began)
		return nil
	})
	if err := errors.Join(<-asked, <-answered); err != nil {
		return 0, fmt.Errorf("pass a byte between two cores: %w", err)
	}
	return float64(took.Nanoseconds()) / 1e3 / float64(trips), nil
}

// onCore runs do on a thread that is bound to a core. The thread stays locked, so it ends with do and no other goroutine
// gets it.
func onCore(core int, do func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var set unix.CPUSet
		set.Set(core)
		err := unix.SchedSetaffinity(0, &set)
		done <- errors.Join(do(), err)
	}()
	return done
}

func writeByte(fd int, b []byte) error {
	_, err := unix.Write(fd, b)
	return err
}

// readByte waits in a system call that Go's scheduler knows of. A garbage collection stops all threads: it would wait for a
// thread that sleeps in a raw system call, which in turn waits for the other, stopped thread.
func readByte(fd int, b []byte) error {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
		case err == nil && n == 0:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}

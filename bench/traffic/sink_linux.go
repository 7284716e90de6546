package traffic

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A tally is what a sink has seen of a trial. All but Nanos are datagrams.
type tally struct {
	Received   int   `json:"received"` // each once
	Duplicates int   `json:"duplicates"`
	Reordered  int   `json:"reordered"` // came after one of the same flow that was sent after them
	Late       int   `json:"late"`      // of an earlier trial, but in order
	Foreign    int   `json:"foreign"`   // not of this bench
	Nanos      int64 `json:"nanos"`     // from the first to the last
}

// maxSeen bounds the numbers that a sink remembers for each flow: 25 million a second for the length of a trial.
const maxSeen = 1 << 23

// A ledger holds the numbers that came against those that can have been sent.
type ledger struct {
	tally
	trial uint32
	flows []struct {
		last int64 // the highest number that came, -1: none
		seen []uint64
	}
}

func newLedger(flows int) *ledger {
	l := new(ledger)
	l.flows = make([]struct {
		last int64
		seen []uint64
	}, flows)
	for i := range l.flows {
		l.flows[i].seen = make([]uint64, maxSeen/64)
	}
	return l
}

// begin starts a trial, which is later than the one before.
func (l *ledger) begin(trial uint32) {
	l.tally, l.trial = tally{}, trial
	for i := range l.flows {
		f := &l.flows[i]
		if used := min(f.last/64+1, maxSeen/64); f.last >= 0 {
			clear(f.seen[:used])
		}
		f.last = -1
	}
}

// note enters a datagram.
func (l *ledger) note(b []byte) {
	if len(b) < headerSize {
		l.Foreign++
		return
	}
	trial, flow, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), int64(binary.BigEndian.Uint32(b[8:]))
	if trial > l.trial || int(flow) >= len(l.flows) || n >= maxSeen {
		l.Foreign++
		return
	}
	f := &l.flows[flow]
	word, bit := &f.seen[n/64], uint64(1)<<(n%64)
	switch {
	case trial < l.trial && f.last < 0:
		l.Late++
	case trial < l.trial:
		l.Reordered++
	case *word&bit != 0:
		l.Duplicates++
	default:
		*word |= bit
		l.Received++
		if n < f.last {
			l.Reordered++
		}
		f.last = max(f.last, n)
	}
}

const (
	sinkNap = 50 * time.Microsecond // far less than its buffer holds
	silence = 50 * time.Millisecond // without a datagram: no more will come
)

// sinkServer receives trials until the asking agent has gone.
func sinkServer(c control, j Job) error {
	fd, port, err := boundSocket(c.local())
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	r, err := newReceiver(fd, j.Train > 1)
	if err != nil {
		return err
	}
	if err := c.tell(note{Port: port}); err != nil {
		return err
	}
	tell := func(int) error { return nil }
	if j.Kind == "order" {
		tell = func(received int) error { return c.tell(note{Progress: int64(received)}) }
	}
	l := newLedger(max(1, j.Flows))
	for trial := uint32(1); ; trial++ {
		if _, err := c.hear(); err != nil {
			return nil // the search is over
		}
		l.begin(trial)
		if err := c.tell(note{}); err != nil {
			return err
		}
		var sent atomic.Int64
		sent.Store(-1)
		done := make(chan error, 1)
		go func() { done <- onThread(func() error { return l.fill(r, &sent, tell, window*j.Train/4) }) }()
		n, err := c.hear()
		sent.Store(n.Sent) // 0 when the other has gone: it ends soon
		if filled := <-done; filled != nil {
			return filled
		}
		if err != nil {
			return err
		}
		if err := c.tell(note{Tally: l.tally}); err != nil {
			return err
		}
	}
}

// fill receives until as many have come as were sent, or it has become quiet. sent is negative until it is known. After
// every step datagrams, and when there is a pause, it tells how many have come.
//
// It looks for datagrams from time to time: to wake a sink that waits costs whoever brings one more than all the rest.
func (l *ledger) fill(r *receiver, sent *atomic.Int64, tell func(received int) error, step int) error {
	if err := exactSleep(); err != nil {
		return err
	}
	nap := unix.NsecToTimespec(sinkNap.Nanoseconds())
	var first time.Time
	last := time.Now()
	for told := 0; ; {
		errno := r.receive(l.note)
		now := time.Now()
		switch errno {
		case 0:
			last = now
			if first.IsZero() {
				first = now
			}
			l.Nanos = last.Sub(first).Nanoseconds()
		case syscall.EAGAIN:
			unix.Nanosleep(&nap, nil) // cut short by a signal: it looks sooner
		case syscall.EINTR:
		default:
			return fmt.Errorf("receive datagrams: %w", os.NewSyscallError("recvmmsg", errno))
		}
		if news := l.Received - told; news >= step || news > 0 && errno != 0 {
			told = l.Received
			if err := tell(told); err != nil {
				return err
			}
		}
		if n := sent.Load(); n >= 0 && (int64(l.Received) >= n || now.Sub(last) > silence) {
			return nil
		}
	}
}

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

// A tally is what a receiver has counted in a trial. All but Nanos are numbers of datagrams.
type tally struct {
	Received   int   `json:"received"` // each once
	Duplicates int   `json:"duplicates"`
	Reordered  int   `json:"reordered"` // arrived after one of the same flow that was sent later
	Late       int   `json:"late"`      // of an earlier trial, but in order
	Foreign    int   `json:"foreign"`   // not of this bench
	Nanos      int64 `json:"nanos"`     // from the first to the last
}

// maxSeen limits the numbers that a receiver remembers of each flow: 25 million a second for the length of a trial.
const maxSeen = 1 << 23

// sequences are the numbers of the datagrams that arrived in a trial, of each flow.
type sequences struct {
	tally
	trial uint32
	flows []struct {
		last int64 // the highest number that arrived, -1: none
		seen []uint64
	}
}

func newSequences(flows int) *sequences {
	s := new(sequences)
	s.flows = make([]struct {
		last int64
		seen []uint64
	}, flows)
	for i := range s.flows {
		s.flows[i].seen = make([]uint64, maxSeen/64)
	}
	return s
}

// begin starts a trial; its number is higher than that of the one before.
func (s *sequences) begin(trial uint32) {
	s.tally, s.trial = tally{}, trial
	for i := range s.flows {
		f := &s.flows[i]
		if used := min(f.last/64+1, maxSeen/64); f.last >= 0 {
			clear(f.seen[:used])
		}
		f.last = -1
	}
}

// count counts a datagram.
func (s *sequences) count(b []byte) {
	if len(b) < headerSize {
		s.Foreign++
		return
	}
	trial, flow, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), int64(binary.BigEndian.Uint32(b[8:]))
	if trial > s.trial || int(flow) >= len(s.flows) || n >= maxSeen {
		s.Foreign++
		return
	}
	f := &s.flows[flow]
	word, bit := &f.seen[n/64], uint64(1)<<(n%64)
	switch {
	case trial < s.trial && f.last < 0:
		s.Late++
	case trial < s.trial:
		s.Reordered++
	case *word&bit != 0:
		s.Duplicates++
	default:
		*word |= bit
		s.Received++
		if n < f.last {
			s.Reordered++
		}
		f.last = max(f.last, n)
	}
}

const (
	pollInterval = 50 * time.Microsecond // far less than its buffer holds
	quietTime    = 50 * time.Millisecond // after that time without a datagram, no more is expected
)

// datagramServer receives trials until the other agent closes the control connection.
func datagramServer(c control, j Job) error {
	fd, port, err := boundSocket(c.local())
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	r, err := newReceiver(fd, j.Train > 1)
	if err != nil {
		return err
	}
	if err := c.send(message{Port: port}); err != nil {
		return err
	}
	report := func(int) error { return nil }
	if j.Kind == "order" {
		report = func(received int) error { return c.send(message{Progress: int64(received)}) }
	}
	s := newSequences(max(1, j.Flows))
	for trial := uint32(1); ; trial++ {
		if _, err := c.receive(); err != nil {
			return nil // the search is over
		}
		s.begin(trial)
		if err := c.send(message{}); err != nil {
			return err
		}
		var sent atomic.Int64
		sent.Store(-1)
		done := make(chan error, 1)
		go func() { done <- onThread(func() error { return s.receive(r, &sent, report, window*j.Train/4) }) }()
		m, err := c.receive()
		sent.Store(m.Sent) // 0 if the other agent has ended: then receive ends soon
		if filled := <-done; filled != nil {
			return filled
		}
		if err != nil {
			return err
		}
		if err := c.send(message{Tally: s.tally}); err != nil {
			return err
		}
	}
}

// receive receives until as many datagrams have arrived as were sent, or none for quietTime. sent is negative until it is
// known. After every step datagrams, and in a pause, it reports how many have arrived.
//
// It polls: if it slept in a system call, to wake it would cost the thread that delivers a datagram more than all else.
func (s *sequences) receive(r *receiver, sent *atomic.Int64, report func(received int) error, step int) error {
	if err := exactSleep(); err != nil {
		return err
	}
	nap := unix.NsecToTimespec(pollInterval.Nanoseconds())
	var first time.Time
	last := time.Now()
	for reported := 0; ; {
		errno := r.receive(s.count)
		now := time.Now()
		switch errno {
		case 0:
			last = now
			if first.IsZero() {
				first = now
			}
			s.Nanos = last.Sub(first).Nanoseconds()
		case syscall.EAGAIN:
			unix.Nanosleep(&nap, nil) // a signal may shorten it, which does no harm
		case syscall.EINTR:
		default:
			return fmt.Errorf("receive datagrams: %w", os.NewSyscallError("recvmmsg", errno))
		}
		if news := s.Received - reported; news >= step || news > 0 && errno != 0 {
			reported = s.Received
			if err := report(reported); err != nil {
				return err
			}
		}
		if n := sent.Load(); n >= 0 && (int64(s.Received) >= n || now.Sub(last) > quietTime) {
			return nil
		}
	}
}

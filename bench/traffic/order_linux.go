package traffic

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// window limits the messages in flight in the order job: fewer than the queue of a TAP holds, so that few are lost. The
	// order of lost datagrams cannot be checked.
	window = 384
	// lostAfter is the time without an arrival after which all messages in flight count as lost.
	lostAfter = 50 * time.Millisecond
)

// order sends j.Frames datagrams of j.Size bytes in j.Flows flows, in trains of j.Train, and counts those that were reordered,
// duplicated or lost.
func order(c control, data string, j Job) (Answer, error) {
	s, err := newSender(data, j.Flows, j.Size, j.Train)
	if err != nil {
		return Answer{}, err
	}
	defer s.close()
	if err := c.send(message{Trial: 1}); err != nil {
		return Answer{}, err
	}
	if _, err := c.receive(); err != nil { // it listens
		return Answer{}, err
	}
	before, err := CPUSeconds()
	if err != nil {
		return Answer{}, err
	}
	var arrived atomic.Int64
	var last message
	ended := make(chan error, 1)
	go func() {
		for {
			m, err := c.receive()
			if err != nil || m.Progress == 0 {
				last = m
				ended <- err
				return
			}
			arrived.Store(m.Progress)
		}
	}()
	t := trial{}
	err = onThread(func() error {
		if err := pinThread(); err != nil {
			return err
		}
		var err error
		t.Sent, err = s.sendWindowed(j.Frames, time.Now().Add(j.For), &arrived)
		return err
	})
	if err == nil {
		err = c.send(message{Sent: int64(t.Sent)})
	}
	if err == nil {
		err = <-ended
	}
	if err != nil {
		return Answer{}, err
	}
	after, err := CPUSeconds()
	t.tally = last.Tally
	a := Answer{CPU: after - before, Packets: float64(t.tally.Received), Bytes: float64(t.tally.Received * j.Size)}
	a.count(t)
	return a, err
}

// sendWindowed sends a number of datagrams, the flows in turn, or as many as it can until deadline.
func (s *sender) sendWindowed(frames int, deadline time.Time, arrived *atomic.Int64) (sent int, err error) {
	nap := unix.NsecToTimespec((50 * time.Microsecond).Nanoseconds())
	turn, lost, before, since := 0, 0, int64(0), time.Now()
	for sent < frames {
		now, here := time.Now(), arrived.Load()
		if here != before {
			before, since = here, now
		}
		room := window - (sent-lost-int(here))/s.train
		switch {
		case now.After(deadline):
			return sent, nil
		case room > 0:
			missing := (frames - sent + s.train - 1) / s.train
			n, err := s.send(1, turn, min(room, missing))
			if err != nil {
				return sent, err
			}
			sent += n
			turn = (turn + 1) % len(s.fds)
		case now.Sub(since) > lostAfter:
			lost, since = sent-int(here), now
		default:
			unix.Nanosleep(&nap, nil) // cut short by a signal: the loop sees
		}
	}
	return sent, nil
}

// pinThread binds the thread to one processor. veth has a backlog for each processor: a sender that moves to another one would
// reorder its own frames there, before they reach any switch.
func pinThread() error {
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return fmt.Errorf("ask for the thread's processors: %w", err)
	}
	for n := range len(may) * 64 { // the last one: the first one has more interrupts
		if may.IsSet(n) {
			one.Zero()
			one.Set(n)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("bind the thread to a processor: %w", err)
	}
	return nil
}

package traffic

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// window bounds the messages that are under way in the order job: fewer than the queue of a TAP takes, so that
	// what is lost was lost by the way, not by impatience. Who lost cannot show its order.
	window = 384
	// stuck is how long nothing arrives before what is under way counts as lost.
	stuck = 50 * time.Millisecond
)

// order sends j.Frames datagrams of j.Size bytes in j.Flows flows, in trains where j.Train says so, and counts what
// came in another order and what came twice; loss too, which its window keeps small.
func order(c control, data string, j Job) (Answer, error) {
	s, err := newSender(data, j.Flows, j.Size, j.Train)
	if err != nil {
		return Answer{}, err
	}
	defer s.close()
	if err := c.tell(note{Trial: 1}); err != nil {
		return Answer{}, err
	}
	if _, err := c.hear(); err != nil { // it listens
		return Answer{}, err
	}
	before, err := CPUSeconds()
	if err != nil {
		return Answer{}, err
	}
	var arrived atomic.Int64
	var last note
	ended := make(chan error, 1)
	go func() {
		for {
			n, err := c.hear()
			if err != nil || n.Progress == 0 {
				last = n
				ended <- err
				return
			}
			arrived.Store(n.Progress)
		}
	}()
	t := trial{}
	err = onThread(func() error {
		if err := stay(); err != nil {
			return err
		}
		var err error
		t.Sent, err = s.sendWindowed(j.Frames, time.Now().Add(j.For), &arrived)
		return err
	})
	if err == nil {
		err = c.tell(note{Sent: int64(t.Sent)})
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

// sendWindowed sends so many datagrams, or as many as go until late, the flows in turn.
func (s *sender) sendWindowed(frames int, late time.Time, arrived *atomic.Int64) (sent int, err error) {
	nap := unix.NsecToTimespec((50 * time.Microsecond).Nanoseconds())
	turn, lost, before, since := 0, 0, int64(0), time.Now()
	for sent < frames {
		now, here := time.Now(), arrived.Load()
		if here != before {
			before, since = here, now
		}
		room := window - (sent-lost-int(here))/s.train
		switch {
		case now.After(late):
			return sent, nil
		case room > 0:
			missing := (frames - sent + s.train - 1) / s.train
			n, err := s.send(1, turn, min(room, missing))
			if err != nil {
				return sent, err
			}
			sent += n
			turn = (turn + 1) % len(s.fds)
		case now.Sub(since) > stuck:
			lost, since = sent-int(here), now
		default:
			unix.Nanosleep(&nap, nil) // cut short by a signal: the loop sees
		}
	}
	return sent, nil
}

// stay binds the thread to one processor: veth keeps a backlog for each, and a sender that moves to another overtakes
// itself there, before any switch has seen its frames.
func stay() error {
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return fmt.Errorf("ask for the thread's processors: %w", err)
	}
	for n := range len(may) * 64 { // the last one: the first has the more interrupts
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

package traffic

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A trial is datagrams at one rate, and what became of them.
type trial struct {
	Rate     float64 `json:"rate"`     // datagrams/s that were to be sent, 0: as fast as it goes
	Sent     int     `json:"sent"`     //
	Offered  float64 `json:"offered"`  // datagrams/s that were sent
	Arrived  float64 `json:"arrived"`  // datagrams/s that were received, each counted once
	Received int     `json:"received"` //
	CPU      float64 `json:"cpu"`      // seconds of the whole machine
	tally    tally
}

// count adds up what became of datagrams.
func (a *Answer) count(t trial) {
	a.Sent += t.Sent
	a.Received += t.tally.Received
	a.Duplicates += t.tally.Duplicates
	a.Reordered += t.tally.Reordered
	a.Late += t.tally.Late
	a.Foreign += t.tally.Foreign
}

const lossBound = 0.005

// holds tells whether little enough was lost.
func (t trial) holds() bool { return t.Sent > 0 && t.loss() < lossBound }

// kept tells whether the sender sent as fast as it was to.
func (t trial) kept() bool { return t.Offered > 0.97*t.Rate }

func (t trial) loss() float64 { return 1 - float64(t.Received)/float64(max(1, t.Sent)) }

const (
	trialTime = 200 * time.Millisecond
	tick      = 97 * time.Microsecond // between bursts; no divisor of the kernel's own, which samples processor time
	tolerated = time.Millisecond      // a sender that was kept from sending makes up for no more
)

// A generator is the sending end of trials.
type generator struct {
	c     control
	s     *sender
	trial uint32
}

// try sends at a rate for d, and asks what has arrived.
func (g *generator) try(rate float64, d time.Duration) (trial, error) {
	g.trial++
	g.s.reset()
	t := trial{Rate: rate}
	if err := g.c.tell(note{Trial: g.trial}); err != nil {
		return t, err
	}
	if _, err := g.c.hear(); err != nil { // it listens
		return t, err
	}
	before, err := CPUSeconds()
	if err != nil {
		return t, err
	}
	var took time.Duration
	err = onThread(func() (err error) {
		if err := exactSleep(); err != nil {
			return err
		}
		t.Sent, took, err = g.pace(rate, d)
		return err
	})
	if err != nil {
		return t, err
	}
	if err := g.c.tell(note{Sent: int64(t.Sent)}); err != nil {
		return t, err
	}
	n, err := g.c.hear()
	if err != nil {
		return t, err
	}
	after, err := CPUSeconds()
	if err != nil {
		return t, err
	}
	t.tally, t.Received, t.CPU = n.Tally, n.Tally.Received, after-before
	t.Offered = float64(t.Sent) / took.Seconds()
	if t.Received > 0 {
		t.Arrived = float64(t.Received) / max(took, time.Duration(t.tally.Nanos)).Seconds()
	}
	return t, nil
}

// exactSleep makes the thread sleep no longer than it wants to; the kernel may add 50 µs otherwise.
func exactSleep() error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set the thread's timer slack: %w", err)
	}
	return nil
}

// pace sends what is due every tick. Between ticks it sleeps: on a machine of few processors a sender
// that watches the clock takes one from those who carry the packets.
func (g *generator) pace(rate float64, d time.Duration) (sent int, took time.Duration, err error) {
	began := time.Now()
	forgone, next := 0.0, time.Duration(0)
	for now := time.Duration(0); now < d; now = time.Since(began) {
		due := burst
		if rate > 0 {
			if now < next {
				nap := unix.NsecToTimespec((next - now).Nanoseconds())
				unix.Nanosleep(&nap, nil) // cut short by a signal: the loop sees
				continue
			}
			behind := rate*now.Seconds() - forgone - float64(sent)
			if most := rate*tolerated.Seconds() + 1; behind > most {
				forgone += behind - most
				behind = most
			}
			if due = min(due, int(behind)); due < 1 {
				next = now + tick
				continue
			}
		}
		n, err := g.s.send(g.trial, 0, due)
		if err != nil {
			return sent, 0, err
		}
		sent += n
	}
	return sent, time.Since(began), nil
}

// packets searches the highest rate that holds, with datagrams of j.Size bytes of UDP payload in one flow: of each
// trial it counts what arrived. It takes about j.For.
func packets(c control, data string, j Job) (Answer, error) {
	s, err := newSender(data, 1, j.Size, 1)
	if err != nil {
		return Answer{}, err
	}
	defer s.close()
	g := generator{c: c, s: s}
	late := time.Now().Add(j.For)
	a := Answer{}
	each := min(trialTime, j.For/(2*confirmed))
	best, err := search(func(rate float64) (trial, error) {
		t, err := g.try(rate, each)
		if err != nil {
			return t, err
		}
		a.Rates = append(a.Rates, t)
		a.count(t)
		if t.holds() {
			a.CPU += t.CPU
			a.Packets += float64(t.Received)
			a.Bytes += float64(t.Received * j.Size)
		}
		return t, nil
	}, func() bool { return time.Until(late) > (confirmed+1)*each })
	a.Value, a.Flood = best.Arrived, best.Rate == 0
	return a, err
}

// What a search ends with on a machine that is too busy to hold any rate for as long as a trial takes.
var (
	errNoRate       = errors.New("no rate was found at which less than 0.5 % was lost")
	errNotConfirmed = errors.New("no rate held in two of three trials")
)

// confirmed is how many trials a rate's figure is the median of, most of which have to hold.
const confirmed = 3

// search finds the highest rate that holds, and gives the trial in the middle of those at it. A flood shows what the
// sender can and about what the way can; if floods hold, the sender is the slower one. Else the rate is searched for, as
// long as there is more time, and then confirmed in the same way; one that does not hold gives way to a lower one.
func search(try func(rate float64) (trial, error), more func() bool) (best trial, err error) {
	flood, err := try(0)
	if err != nil {
		return best, err
	}
	if flood.holds() {
		best, flood, err = confirm([]trial{flood}, 0, try)
		if err != nil || best.holds() {
			return best, err
		}
	}
	rate, err := paced(flood, try, more)
	for _, less := range []float64{0.97, 0.95, 0.9, 0.8, 0.6, 0} { // one trial that held may have been luck
		if err != nil {
			return best, err
		}
		if best, _, err = confirm(nil, rate, try); err != nil || best.holds() {
			return best, err
		}
		rate *= less
	}
	if err == nil {
		err = errNotConfirmed
	}
	return best, err
}

// confirm tries a rate three times, less often if two do not hold. It gives the middle one of those that hold if these
// are most, and the last that did not hold.
func confirm(trials []trial, rate float64, try func(rate float64) (trial, error)) (middle, lost trial, err error) {
	var held []trial
	again := confirmed // a sender that did not keep the rate says nothing of it
	for n := 0; n < confirmed && n-len(held) <= confirmed/2; n++ {
		if n == len(trials) {
			t, err := try(rate)
			if err != nil {
				return middle, lost, err
			}
			if t.holds() && !t.kept() && again > 0 {
				again--
				n--
				continue
			}
			trials = append(trials, t)
		}
		if trials[n].holds() {
			held = append(held, trials[n])
		} else {
			lost = trials[n]
		}
	}
	if 2*len(held) > confirmed {
		slices.SortFunc(held, slower)
		middle = held[(len(held)-1)/2]
	}
	return middle, lost, nil
}

func slower(a, b trial) int { return cmp.Compare(a.Arrived, b.Arrived) }

// paced is the search below a flood that did not hold: the rate is halved in the logarithm. One that was missed by
// little, or that the sender could not keep, gets a second chance: one miss may be the machine's, two are the way's.
func paced(flood trial, try func(rate float64) (trial, error), more func() bool) (best float64, err error) {
	low, high := 0.0, flood.Offered
	rate, missed := flood.Arrived, false
	for more() && low < high*0.98 && rate > 1 {
		t, err := try(rate)
		if err != nil {
			return best, err
		}
		if t.holds() {
			if low = max(low, t.Offered); t.kept() {
				low = rate
			}
			best = max(best, low)
		}
		if !(t.holds() && t.kept()) {
			if missed = !missed; missed && t.loss() < 0.05 {
				continue
			}
			high = rate
		}
		missed = false
		if rate = math.Sqrt(low * high); low == 0 {
			rate = high * 0.7
		}
	}
	if best == 0 {
		return best, errNoRate
	}
	return best, nil
}

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

// A trial is datagrams that were sent at one rate, and how many arrived.
type trial struct {
	Rate     float64 `json:"rate"`     // datagrams/s that should be sent, 0: as fast as possible
	Sent     int     `json:"sent"`     //
	Offered  float64 `json:"offered"`  // datagrams/s that were sent
	Arrived  float64 `json:"arrived"`  // datagrams/s that were received, each counted once
	Received int     `json:"received"` //
	CPU      float64 `json:"cpu"`      // seconds of processor time of the whole machine
	tally    tally
}

// count adds the datagrams of a trial.
func (a *Answer) count(t trial) {
	a.Sent += t.Sent
	a.Received += t.tally.Received
	a.Duplicates += t.tally.Duplicates
	a.Reordered += t.tally.Reordered
	a.Late += t.tally.Late
	a.Foreign += t.tally.Foreign
}

const maxLoss = 0.005

// passes says whether few enough were lost.
func (t trial) passes() bool { return t.Sent > 0 && t.loss() < maxLoss }

// atRate says whether the sender sent about as fast as it should.
func (t trial) atRate() bool { return t.Offered > 0.97*t.Rate }

func (t trial) loss() float64 { return 1 - float64(t.Received)/float64(max(1, t.Sent)) }

const (
	trialTime  = 200 * time.Millisecond
	tick       = 97 * time.Microsecond // between bursts; no divisor of the kernel's tick, which samples processor time
	maxCatchUp = time.Millisecond      // a sender that could not run catches up by that much at most
)

// A generator is the sending end of trials.
type generator struct {
	c     control
	s     *sender
	trial uint32
}

// try sends at a rate for d, and asks the receiver what has arrived.
func (g *generator) try(rate float64, d time.Duration) (trial, error) {
	g.trial++
	g.s.reset()
	t := trial{Rate: rate}
	if err := g.c.send(message{Trial: g.trial}); err != nil {
		return t, err
	}
	if _, err := g.c.receive(); err != nil { // it is ready
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
		t.Sent, took, err = g.sendAtRate(rate, d)
		return err
	})
	if err != nil {
		return t, err
	}
	if err := g.c.send(message{Sent: int64(t.Sent)}); err != nil {
		return t, err
	}
	m, err := g.c.receive()
	if err != nil {
		return t, err
	}
	after, err := CPUSeconds()
	if err != nil {
		return t, err
	}
	t.tally, t.Received, t.CPU = m.Tally, m.Tally.Received, after-before
	t.Offered = float64(t.Sent) / took.Seconds()
	if t.Received > 0 {
		t.Arrived = float64(t.Received) / max(took, time.Duration(t.tally.Nanos)).Seconds()
	}
	return t, nil
}

// exactSleep makes the thread's sleeps exact; by default the kernel may add 50 µs.
func exactSleep() error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set the thread's timer slack: %w", err)
	}
	return nil
}

// sendAtRate sends what is due at each tick, and sleeps in between: on a machine with few processors a sender that spins would
// take one from the threads that forward the packets.
func (g *generator) sendAtRate(rate float64, d time.Duration) (sent int, took time.Duration, err error) {
	began := time.Now()
	forgone, next := 0.0, time.Duration(0)
	for now := time.Duration(0); now < d; now = time.Since(began) {
		due := burst
		if rate > 0 {
			if now < next {
				nap := unix.NsecToTimespec((next - now).Nanoseconds())
				unix.Nanosleep(&nap, nil) // a signal may shorten it: the loop checks
				continue
			}
			behind := rate*now.Seconds() - forgone - float64(sent)
			if most := rate*maxCatchUp.Seconds() + 1; behind > most {
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

// packets searches the highest rate at which a trial passes, with datagrams of j.Size bytes of UDP payload in one flow. It
// takes about j.For.
func packets(c control, data string, j Job) (Answer, error) {
	s, err := newSender(data, 1, j.Size, 1)
	if err != nil {
		return Answer{}, err
	}
	defer s.close()
	g := generator{c: c, s: s}
	deadline := time.Now().Add(j.For)
	a := Answer{}
	each := min(trialTime, j.For/(2*confirmed))
	best, err := search(func(rate float64) (trial, error) {
		t, err := g.try(rate, each)
		if err != nil {
			return t, err
		}
		a.Rates = append(a.Rates, t)
		a.count(t)
		if t.passes() {
			a.CPU += t.CPU
			a.Packets += float64(t.Received)
			a.Bytes += float64(t.Received * j.Size)
		}
		return t, nil
	}, func() bool { return time.Until(deadline) > (confirmed+1)*each })
	a.Value, a.Flood = best.Arrived, best.Rate == 0
	return a, err
}

// Errors of a search on a machine that is too busy to keep any rate for the time of a trial.
var (
	errNoRate       = errors.New("no rate was found at which less than 0.5 % was lost")
	errNotConfirmed = errors.New("at no rate two of three trials lost less than 0.5 %")
)

// confirmed is the number of trials of which a rate's figure is the median; most of them have to pass.
const confirmed = 3

// search finds the highest rate at which trials pass, and returns their median. A flood, which has no rate, shows what the
// sender can do, and about what the receiver gets. If floods pass, the sender is the limit. Otherwise it searches the rate,
// as long as more is true, and confirms it by trials; if they do not pass, it tries lower rates.
func search(try func(rate float64) (trial, error), more func() bool) (best trial, err error) {
	flood, err := try(0)
	if err != nil {
		return best, err
	}
	if flood.passes() {
		best, flood, err = confirm([]trial{flood}, 0, try)
		if err != nil || best.passes() {
			return best, err
		}
	}
	rate, err := searchRate(flood, try, more)
	for _, less := range []float64{0.97, 0.95, 0.9, 0.8, 0.6, 0} { // one trial that passed may have been luck
		if err != nil {
			return best, err
		}
		if best, _, err = confirm(nil, rate, try); err != nil || best.passes() {
			return best, err
		}
		rate *= less
	}
	if err == nil {
		err = errNotConfirmed
	}
	return best, err
}

// confirm makes three trials at a rate, fewer if two do not pass; trials are those that were made already. It returns the
// median of those that passed, if they are the majority, and the last one that did not pass.
func confirm(trials []trial, rate float64, try func(rate float64) (trial, error)) (middle, lost trial, err error) {
	var passed []trial
	again := confirmed // retries: a trial below its rate proves nothing about the rate
	for n := 0; n < confirmed && n-len(passed) <= confirmed/2; n++ {
		if n == len(trials) {
			t, err := try(rate)
			if err != nil {
				return middle, lost, err
			}
			if t.passes() && !t.atRate() && again > 0 {
				again--
				n--
				continue
			}
			trials = append(trials, t)
		}
		if trials[n].passes() {
			passed = append(passed, trials[n])
		} else {
			lost = trials[n]
		}
	}
	if 2*len(passed) > confirmed {
		slices.SortFunc(passed, byArrived)
		middle = passed[(len(passed)-1)/2]
	}
	return middle, lost, nil
}

func byArrived(a, b trial) int { return cmp.Compare(a.Arrived, b.Arrived) }

// searchRate searches below a flood that did not pass, by bisection of the rate's logarithm. A rate that failed by little, or
// that the sender did not reach, is tried a second time: the machine may be the reason for one failure, but hardly for two.
func searchRate(flood trial, try func(rate float64) (trial, error), more func() bool) (best float64, err error) {
	low, high := 0.0, flood.Offered
	rate, missed := flood.Arrived, false
	for more() && low < high*0.98 && rate > 1 {
		t, err := try(rate)
		if err != nil {
			return best, err
		}
		if t.passes() {
			if low = max(low, t.Offered); t.atRate() {
				low = rate
			}
			best = max(best, low)
		}
		if !(t.passes() && t.atRate()) {
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

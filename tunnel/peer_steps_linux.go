package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// This file asks: the tests of a peer's trains, step by step, as VTEP.Tick drives them. peer_linux.go answers.

// startTick prepares a Tick, and returns the result before it.
func (p *Peer) startTick(now time.Duration) TestResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budgetLeft = budget
	if p.hasAsked {
		p.hasAsked, p.lastAsked = false, now
	} else if now-p.lastAsked > maxAttempts*keepaliveEvery { // it may be another host by now
		p.mayRemoteSum.Store(false)
	}
	fresh := p.state.Result != NoAnswer && now-p.state.Tested < retryEvery/2
	if p.testSoon && p.phase == idle && !fresh {
		p.due, p.trainsDue = 0, 0
	}
	p.testSoon = false
	return p.state.Result
}

// step continues the test, and tells whether it has sent something.
func (p *Peer) step(now time.Duration) bool {
	answer, answered := p.answer()
	switch {
	case p.phase == idle && now < p.due:
		return false
	case p.phase == idle:
		p.keepalive = now < p.trainsDue
		p.startTest()
	case p.phase == opening && answered && now < p.trainsDue:
		p.unanswered = 0
		p.negotiate(answer)
		p.askLong(now)
	case p.phase == padding && answered:
		p.endTest(now, keepaliveEvery)
		return false
	case p.phase == padding && p.attempts == maxAttempts: // is the path narrow?
		p.phase, p.due, p.trainsDue = idle, now, 0
		return false
	case p.phase == opening && answered:
		p.unanswered = 0
		p.negotiate(answer)
		if p.search != nil {
			p.sendSizes()
		} else {
			p.sendTrains(now)
		}
	case p.phase == trying && answered && p.search != nil:
		p.evaluateSizes(now, answer)
		return false
	case p.phase == trying && answered:
		p.negotiate(answer)
		p.evaluate(now, answer)
		return false
	case p.attempts == maxAttempts:
		p.handleTimeout(now)
		return false
	case p.phase == opening:
		p.sendQuestion(kindOpen)
	default:
		p.sendQuestion(kindAsk)
	}
	return true
}

func (p *Peer) answer() (report, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report, p.answered
}

// startTest begins a test, with a new nonce.
func (p *Peer) startTest() {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	p.mu.Lock()
	p.nonce, p.testDone = binary.BigEndian.Uint64(nonce[:]), false
	p.mu.Unlock()
	p.phase, p.attempts = opening, 0
	p.sendQuestion(kindOpen)
}

func (p *Peer) sendQuestion(kind uint8) {
	p.attempts++
	p.mu.Lock()
	p.ask++
	p.asked, p.answered, p.timed = time.Now(), false, kind == kindOpen // the answer to kindAsk waits behind the trains
	m := message{kind: kind, ask: p.ask, nonce: p.nonce}
	if p.keepalive {
		m.shape = keepaliveOnly
	}
	p.partialSent = p.state.Features&featureRemoteSum != 0 && !p.v.CompleteChecksums && p.phase != padding
	p.mu.Unlock()
	if p.phase == padding {
		m.body = make([]byte, p.maxFrame-messageHeadLen)
	}
	if p.partialSent { // the partial one first, since the first answer counts
		m.partial = true
		p.sendMessages(m)
		m.partial = false
	}
	p.sendMessages(m)
}

// sendMessages sends messages, each by itself.
func (p *Peer) sendMessages(messages ...message) {
	frames := make([]*ether.Frame, len(messages))
	for i := range messages {
		frames[i] = messages[i].frame()
	}
	p.singly.Send(frames)
}

// probe continues the burst of probes to the host, or begins one; nothing goes to a host that does not answer them.
func (p *Peer) probe(now time.Duration, size int) {
	p.mu.Lock()
	var messages []message
	if p.answers && p.state.Features&featureProbes != 0 {
		messages = p.prober.step(now, size)
	} else {
		p.prober = prober{}
	}
	p.mu.Unlock()
	if len(messages) > 0 {
		p.sendMessages(messages...)
	}
}

// sendTrains sends the trains of a test, each as the data path would and then datagram by datagram.
func (p *Peer) sendTrains(now time.Duration) {
	var err error
	p.maxFrame, err = p.fullFrame()
	if err != nil || p.maxFrame < 2*messageHeadLen {
		p.endTest(now, retestEvery)
		return
	}
	if p.v.gso {
		p.trains.gso.Enable()
	} else {
		p.trains.gso.Block(offload.ErrUnsupported)
	}
	body := make([]byte, p.maxFrame-messageHeadLen)
	_, _ = rand.Read(body)
	before := p.unsent()
	for i, s := range trainShapes(p.maxFrame) {
		for mode, l := range [modes]*Link{p.trains, p.singly} {
			l.Send(s.frames(message{kind: kindSegment, shape: uint8(i), mode: uint8(mode), nonce: p.nonce}, body[:s.size-messageHeadLen]))
		}
	}
	p.sendFailed = p.unsent() != before
	p.phase, p.attempts = trying, 0
	p.sendQuestion(kindAsk)
}

// unsent is the number of datagrams that the kernel has refused.
func (p *Peer) unsent() (n uint64) {
	for _, l := range []*Link{p.trains, p.singly} {
		s := l.Stats()
		n += s.Full + s.Long + s.Failed
	}
	return n
}

// evaluate evaluates the answer to a test.
func (p *Peer) evaluate(now time.Duration, r report) {
	narrow := 0
	if r.known && !p.sendFailed && r.narrow(p.maxFrame) {
		narrow = p.outerLen(trainShapes(p.maxFrame)[0].size)
	}
	p.mu.Lock()
	p.state.Narrow = narrow
	p.mu.Unlock()
	refused := p.trains.gso.Status().Why // then the datagrams of the trains went singly, too
	if refused != nil {
		p.setResult(now, Refused, refused.Error())
	}
	if narrow > 0 { // full-size trains cannot be tested
		p.search, p.phase, p.due = &search{min(searchFloor, p.maxFrame-1), trainShapes(p.maxFrame)[0].size}, idle, now
		return
	}
	p.setFits(0)
	if refused != nil {
		p.endTest(now, retryEvery)
		return
	}
	sent, came, sound, whole := 0, 0, 0, 0
	for i, s := range trainShapes(p.maxFrame) {
		if r.intact[i][singly]&s.all() != s.all() {
			continue // the path loses datagrams, or does not carry this length
		}
		n := bits.OnesCount64(r.intact[i][inTrain] & s.all())
		sent, came, sound = sent+s.n, came+n, sound+1
		if n == s.n {
			whole++
		}
	}
	lossy := sound < shapes && whole > 0 // datagrams are lost, so a train may be lost for the same reason
	switch {
	case !r.known || sound == 0 || p.sendFailed:
		p.endTest(now, retestEvery)
		return
	case came == sent:
		p.good, p.bad = p.good+1, 0
	case lossy:
		p.endTest(now, retestEvery)
		return
	default:
		p.good, p.bad = 0, p.bad+1
	}
	why := fmt.Sprintf("%d of %d segments of trains arrived as they were sent, and every one that was sent singly", came, sent)
	off := p.trainsOff.Load()
	switch {
	case off && p.good > 0 && p.good < maxAttempts, !off && p.bad > 0 && p.bad < maxAttempts:
		p.phase, p.due = idle, now // another test, to be sure
		return
	case p.good > 0:
		p.trainsOff.Store(false)
		p.setResult(now, Good, "")
		p.trainsDue = now + testEvery
		p.endTest(now, keepaliveEvery)
	default:
		p.trainsOff.Store(true)
		p.setResult(now, Mangled, why)
		p.endTest(now, retryEvery)
	}
	if off != p.trainsOff.Load() {
		p.updateLinks()
	}
}

// negotiate decides whether checksums are left partial: the host says that it completes them, and the flag reaches it.
func (p *Peer) negotiate(r report) {
	before := p.remoteSum.Enabled()
	p.mu.Lock()
	says := p.state.Features&featureRemoteSum != 0
	switch {
	case !says:
		p.remoteSumTested = false
		p.remoteSum.Block(ErrFlagLost)
	case !p.partialSent || !r.known: // this answer says nothing about it
	case r.partial:
		p.remoteSumTested = true
		p.remoteSum.Enable()
	default:
		p.remoteSumTested = true
		p.remoteSum.Block(ErrFlagLost)
	}
	p.mu.Unlock()
	if p.remoteSum.Enabled() != before {
		p.updateLinks()
	}
}

// handleTimeout ends a question that got no answer.
func (p *Peer) handleTimeout(now time.Duration) {
	if p.phase == trying { // it answered the first question
		p.search = nil
		p.endTest(now, retestEvery)
		return
	}
	p.mu.Lock()
	p.state.RTT, p.state.Features, p.state.Narrow, p.state.Fits, p.answers = 0, 0, 0, 0, false
	p.mu.Unlock()
	p.search = nil
	p.negotiate(report{})
	p.trainsDue = 0
	if p.unanswered++; p.unanswered == maxUnanswered && p.trainsOff.Swap(false) { // it may be another host by now
		p.updateLinks()
	}
	if !p.trainsOff.Load() {
		p.setResult(now, NoAnswer, "")
	}
	p.endTest(now, retryEvery)
}

func (p *Peer) setResult(now time.Duration, v TestResult, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Result, p.state.Why, p.state.Tested = v, why, now
}

func (p *Peer) endTest(now, again time.Duration) {
	p.phase, p.due = idle, now+again
	p.mu.Lock()
	defer p.mu.Unlock()
	p.testDone = true
}

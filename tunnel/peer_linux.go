package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// Kernels have been shipped that mangle trains, and their sender cannot tell. So peers test each other:
// trains of known content, and the same datagrams singly for comparison. Where the singles arrive and
// the trains do not, three times in a row, no trains are sent to that host until three in a row have
// arrived. Where neither arrives there is nothing to be said. Everything is driven by VTEP.Tick.

// How often, by Tick's clock.
const (
	testEvery      = 10 * time.Minute // while all is well
	keepaliveEvery = time.Minute      // between, whether it still understands us: one small datagram
	retryEvery     = time.Minute      // of trains that are off, and to a host that does not answer: one small datagram
	retestEvery    = 10 * time.Second // after a test that showed nothing
)

const (
	maxUnanswered = 10   // silences in a row after which what was known of a host's trains is forgotten
	maxAttempts   = 3    // of each question, and tests in a row that change the verdict
	maxPerTick    = 32   // peers that one Tick talks to at most
	openTests     = 4    // of a peer's that are remembered
	budget        = 1024 // messages from a peer that are heard between two Ticks: a test is some 150
)

// A Verdict says what is known of the trains to a host.
type Verdict string

// The verdicts.
const (
	Untested Verdict = "untested"
	Good     Verdict = "ok"
	Mangled  Verdict = "mangled"
	Refused  Verdict = "refused"   // by this host's kernel
	NoAnswer Verdict = "no answer" // unreachable, or no tapestry there
)

// A Peer is one host that has links, as a partner in talk between hosts.
type Peer struct {
	Host netip.AddrPort

	v              *VTEP
	trains, singly *Link // of VNI 0: as the data path sends, and one by one
	trainsOff      atomic.Bool
	remoteSum      offload.Feature // it adds up what we leave open

	// What Receiver.receive goes by.
	isTapestry   atomic.Bool // it is a tapestry: each datagram that it sends has one frame
	multipleVNIs atomic.Bool // it has links of more than one VNI
	mayRemoteSum atomic.Bool // it was told that we add up what it leaves open

	// Guarded by v.mu.
	links     int       // with this address, to any port
	otherPort int       // of these, to other ports than Host's
	receiver  *Receiver // takes what comes from the host, and no trains; nil: there is none

	// Only Tick and Test use these.
	phase      phase
	due        time.Duration
	trainsDue  time.Duration // a test before that is over with its first answer
	attempts   int           // of the question that is open
	maxFrame   int           // frame of the test's longest datagrams
	sendFailed bool          // some datagrams of the test did not leave this host
	openSent   bool          // the question that is open went as an open message too
	good, bad  int           // tests in a row
	keepalive  bool          // the question is whether it is still there: no trains will follow
	unanswered int           // questions in a row that got no answer

	mu                   sync.Mutex // guards what follows
	state                PeerState
	settled              bool
	answers              bool // the last question was answered: it is a tapestry
	hasAsked             bool // us, since the last Tick
	remoteSumTested      bool // sums tells something
	testSoon             bool // the peer seems to be new
	nonce                uint64
	ask                  uint8
	asked                time.Time
	answered             bool
	timed                bool // the answer tells the round trip time
	report               report
	peerTests            [openTests]peerTest
	nextTest, budgetLeft int           // in theirs; of the budget
	lastAsked            time.Duration // by Tick's clock, about
}

type phase uint8

const (
	idle phase = iota
	opening
	trying
)

// peerTest is a test that the peer makes of us.
type peerTest struct {
	nonce uint64
	report
}

// PeerState is what is known of a Peer.
type PeerState struct {
	Host     netip.AddrPort
	Verdict  Verdict
	Why      string        // of Mangled and Refused
	RTT      time.Duration // of the last answer, 0: none
	Tested   time.Duration // when the test ended, by Tick's clock; 0: never
	Settled  bool          // no test is under way
	Answers  bool          // it answered the last question, and is asked each minute: it is there, and a tapestry
	Features uint16        // what the host says that it understands, in answers that we asked for; 0 while there is none

	// Narrow is the length of outer IP packets, in bytes, none of which arrived in the last test though the kernel takes
	// the path to be that wide and shorter ones did arrive. 0: they do, or nothing is known.
	Narrow int
	// RemoteSum is whether checksums stay open on the way there; nil: the host has not said that it finishes them, it was
	// not tried yet, or they never do (FinishSums).
	RemoteSum *offload.Status
}

func (v *VTEP) newPeer(host netip.AddrPort) (*Peer, error) {
	header, err := template(hostVNI)
	if err != nil {
		return nil, fmt.Errorf("write the VXLAN header of VNI 0: %w", err)
	}
	p := &Peer{Host: host, v: v, budgetLeft: budget, state: PeerState{Host: host, Verdict: Untested}}
	p.trains = &Link{Host: host, v: v, to: rawSockaddr(host), header: header}
	p.singly = &Link{Host: host, v: v, to: rawSockaddr(host), header: header}
	p.singly.gso.Block(offload.ErrUnsupported)
	p.singly.remoteSum.Store(true) // of the messages that want it
	p.trains.SetMTU(1<<16 - 1)     // nothing in talk is a super-frame
	p.remoteSum.Block(ErrFlagLost) // until it was tried
	p.trains.peer.Store(p)
	p.trains.Bind(p.handle)
	return p, nil
}

// Peers are the hosts that have links, in no order.
func (v *VTEP) Peers() []*Peer {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]*Peer, 0, len(v.peers))
	for _, p := range v.peers {
		all = append(all, p)
	}
	return all
}

// State is what is known.
func (p *Peer) State() PeerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	s.Settled, s.Answers = p.settled, p.answers
	if p.remoteSumTested {
		g := p.remoteSum.Status()
		s.RemoteSum = &g
	}
	return s
}

// Test has the next Tick begin a test anew. It is not to be called during Tick.
func (p *Peer) Test() {
	p.phase, p.due, p.trainsDue = idle, 0, 0
	p.mu.Lock()
	p.settled = false
	p.mu.Unlock()
}

// Tick drives the tests; it is called about once a second. now is the time since some fixed moment. It
// gives the peers of whom something new is known.
func (v *VTEP) Tick(now time.Duration) (news []PeerState) {
	talks := 0
	for _, p := range v.Peers() {
		before := p.startTick(now)
		if talks < maxPerTick && p.step(now) {
			talks++
		}
		if after := p.State(); after.Verdict != before {
			news = append(news, after)
		}
		v.mu.Lock()
		if v.peers[p.Host.Addr()] == p {
			p.updateReceiver()
		}
		v.mu.Unlock()
	}
	return news
}

// addDatagram gives what was known at the last Tick.
func (p *Peer) startTick(now time.Duration) Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budgetLeft = budget
	if p.hasAsked {
		p.hasAsked, p.lastAsked = false, now
	} else if now-p.lastAsked > maxAttempts*keepaliveEvery { // another host by now, for all we know
		p.mayRemoteSum.Store(false)
	}
	fresh := p.state.Verdict != NoAnswer && now-p.state.Tested < retryEvery/2
	if p.testSoon && p.phase == idle && !fresh {
		p.due, p.trainsDue = 0, 0
	}
	p.testSoon = false
	return p.state.Verdict
}

// step goes on with a test, and tells whether it has sent something.
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
		p.endTest(now, keepaliveEvery)
		return false
	case p.phase == opening && answered:
		p.unanswered = 0
		p.negotiate(answer)
		p.sendTrains(now)
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

// readFlag begins a test.
func (p *Peer) startTest() {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	p.mu.Lock()
	p.nonce, p.settled = binary.BigEndian.Uint64(nonce[:]), false
	p.mu.Unlock()
	p.phase, p.attempts = opening, 0
	p.sendQuestion(kindOpen)
}

func (p *Peer) sendQuestion(kind uint8) {
	p.attempts++
	p.mu.Lock()
	p.ask++
	p.asked, p.answered, p.timed = time.Now(), false, kind == kindOpen // an ask waits behind the trains
	m := message{kind: kind, ask: p.ask, nonce: p.nonce}
	if p.keepalive {
		m.shape = keepaliveOnly
	}
	p.openSent = p.state.Features&featureRemoteSum != 0 && !p.v.CompleteChecksums
	p.mu.Unlock()
	if p.openSent { // the open one first: what is answered first counts
		m.open = true
		p.sendMessage(m, nil)
		m.open = false
	}
	p.sendMessage(m, nil)
}

// sendMessage sends one message.
func (p *Peer) sendMessage(m message, body []byte) {
	frames := shape{n: 1, size: messageHeadLen + len(body), last: messageHeadLen + len(body)}.frames(m, body)
	if m.open {
		frames[0].Off = ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16} // as TCP over IPv4
	}
	p.singly.Send(frames)
}

// sendTrains sends the trains, each as the data path would and then singly.
func (p *Peer) sendTrains(now time.Duration) {
	mtu, err := p.v.PathMTU(p.Host.Addr())
	p.maxFrame = mtu - Overhead(p.Host.Addr().Is6()) + ether.HeaderLen
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
		for way, l := range [ways]*Link{p.trains, p.singly} {
			l.Send(s.frames(message{kind: kindSegment, shape: uint8(i), way: uint8(way), nonce: p.nonce}, body[:s.size-messageHeadLen]))
		}
	}
	p.sendFailed = p.unsent() != before
	p.phase, p.attempts = trying, 0
	p.sendQuestion(kindAsk)
}

// unsent counts datagrams that the kernel did not take.
func (p *Peer) unsent() (n uint64) {
	for _, l := range []*Link{p.trains, p.singly} {
		s := l.Stats()
		n += s.Full + s.Long + s.Failed
	}
	return n
}

// evaluate draws the conclusion from an answer.
func (p *Peer) evaluate(now time.Duration, r report) {
	narrow := 0
	if r.known && !p.sendFailed && r.narrow(p.maxFrame) {
		narrow = trainShapes(p.maxFrame)[0].size + Overhead(p.Host.Addr().Is6()) - ether.HeaderLen
	}
	p.mu.Lock()
	p.state.Narrow = narrow
	p.mu.Unlock()
	if why := p.trains.gso.Status().Why; why != nil { // then those went singly too
		p.setVerdict(now, Refused, why.Error())
		p.endTest(now, retryEvery)
		return
	}
	sent, came, sound, whole := 0, 0, 0, 0
	for i, s := range trainShapes(p.maxFrame) {
		if r.intact[i][singly]&s.all() != s.all() {
			continue // the network loses datagrams, or they are too long for it
		}
		n := bits.OnesCount64(r.intact[i][inTrain] & s.all())
		sent, came, sound = sent+s.n, came+n, sound+1
		if n == s.n {
			whole++
		}
	}
	if narrow > 0 { // nothing can be said of the trains that matter
		p.endTest(now, retryEvery)
		return
	}
	lossy := sound < shapes && whole > 0 // and then a train may be lost as anything else is
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
		p.setVerdict(now, Good, "")
		p.trainsDue = now + testEvery
		p.endTest(now, keepaliveEvery)
	default:
		p.trainsOff.Store(true)
		p.setVerdict(now, Mangled, why)
		p.endTest(now, retryEvery)
	}
	if off != p.trainsOff.Load() {
		p.updateLinks()
	}
}

// negotiate has the links do what the host says that it understands, and the way there lets through.
func (p *Peer) negotiate(r report) {
	before := p.remoteSum.Enabled()
	p.mu.Lock()
	says := p.state.Features&featureRemoteSum != 0
	switch {
	case !says:
		p.remoteSumTested = false
		p.remoteSum.Block(ErrFlagLost)
	case !p.openSent || !r.known: // this answer tells nothing of it
	case r.open:
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

// handleTimeout ends a test that got no answer.
func (p *Peer) handleTimeout(now time.Duration) {
	if p.phase == trying { // it did speak
		p.endTest(now, retestEvery)
		return
	}
	p.mu.Lock()
	p.state.RTT, p.state.Features, p.state.Narrow, p.answers = 0, 0, 0, false
	p.mu.Unlock()
	p.negotiate(report{})
	p.trainsDue = 0
	if p.unanswered++; p.unanswered == maxUnanswered && p.trainsOff.Swap(false) { // it may be another host by now
		p.updateLinks()
	}
	if !p.trainsOff.Load() {
		p.setVerdict(now, NoAnswer, "")
	}
	p.endTest(now, retryEvery)
}

func (p *Peer) setVerdict(now time.Duration, v Verdict, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Verdict, p.state.Why, p.state.Tested = v, why, now
}

func (p *Peer) endTest(now, again time.Duration) {
	p.phase, p.due = idle, now+again
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = true
}

// handle takes in what a peer says, on the worker's thread.
func (p *Peer) handle(frames []ether.Frame) {
	for i := range frames {
		m, intact, ok := parse(frames[i].Bytes())
		if !ok || !p.allow() {
			p.v.rxDropped[noPeer].Add(1)
			continue
		}
		var body [reportLen]byte
		m.open = frames[i].Off.PartialChecksum
		if p.handleMessage(m, intact, &body) {
			p.mayRemoteSum.Store(true)
			p.sendMessage(message{kind: kindAnswer, ask: m.ask, features: features, nonce: m.nonce}, body[:])
		}
	}
}

// allow bounds what a peer can make us do.
func (p *Peer) allow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budgetLeft--
	return p.budgetLeft >= 0
}

// handleMessage notes a message, and tells whether to answer with the body.
func (p *Peer) handleMessage(m message, intact bool, body *[reportLen]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.kind == kindAnswer {
		var r report
		if intact && m.nonce == p.nonce && m.ask == p.ask && !p.answered && r.decode(m.body) {
			p.report, p.answered, p.answers, p.state.Features = r, true, true, m.features
			if p.timed {
				p.state.RTT = time.Since(p.asked)
			}
		}
		return false
	}
	var t *peerTest
	for i := range p.peerTests {
		if p.peerTests[i].known && p.peerTests[i].nonce == m.nonce {
			t = &p.peerTests[i]
		}
	}
	switch {
	case m.kind == kindSegment && t != nil:
		t.countSegment(m, intact)
	case !intact:
	case m.kind == kindOpen:
		p.hasAsked = true
		if t == nil {
			t = &p.peerTests[p.nextTest]
			p.nextTest = (p.nextTest + 1) % openTests
			*t = peerTest{m.nonce, report{known: true}}
			p.testSoon = m.shape != keepaliveOnly
		}
		t.open = t.open || m.open
		t.encode(body[:])
		return true
	case m.kind == kindAsk:
		p.hasAsked = true
		var none report
		if t != nil {
			t.open = t.open || m.open
			none = t.report
		}
		none.encode(body[:])
		return true
	}
	return false
}

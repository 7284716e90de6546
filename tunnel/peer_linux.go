package tunnel

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// Kernels have been shipped that damage trains (UDP_SEGMENT), which their sender cannot see. So peers test each other: they
// send trains of known content, and the same datagrams singly for comparison. If the single datagrams arrive and the
// trains do not, three times in a row, no trains are sent to that host until three tests in a row are good. If neither
// arrives, the test shows nothing. VTEP.Tick drives the tests.

// Intervals, by Tick's clock.
const (
	testEvery      = 10 * time.Minute // of tests, while they are good
	keepaliveEvery = time.Minute      // of keepalives between tests: a small datagram, and one of full length
	retryEvery     = time.Minute      // of tests while trains are off, and of questions to a host that does not answer: one small datagram
	retestEvery    = 10 * time.Second // of tests, after one that showed nothing
)

const (
	maxUnanswered = 10   // questions in a row without answer, after which the result of earlier tests is forgotten
	maxAttempts   = 3    // of each question; also how many tests in a row change the result
	maxPerTick    = 32   // peers that one Tick sends to
	openTests     = 4    // tests of one peer that are remembered
	budget        = 1024 // messages of one peer that are handled between two Ticks; a test has about 150
)

// A TestResult is the result of the tests of trains to a host.
type TestResult string

// The results.
const (
	Untested TestResult = "untested"
	Good     TestResult = "ok"
	Mangled  TestResult = "mangled"
	Refused  TestResult = "refused"   // by this host's kernel
	NoAnswer TestResult = "no answer" // unreachable, or no tapestry runs there
)

// A Peer is a remote host that has links, as the other side of the messages between hosts (message.go).
type Peer struct {
	Host netip.AddrPort

	v              *VTEP
	trains, singly *Link // of VNI 0: one sends trains as the data path does, the other one datagram at a time
	trainsOff      atomic.Bool
	remoteSum      offload.Feature // whether it completes the checksums that we leave partial

	// For Receiver.receive.
	isTapestry   atomic.Bool // it is a tapestry: each datagram that it sends holds one frame
	multipleVNIs atomic.Bool // it has links of more than one VNI
	mayRemoteSum atomic.Bool // it was told that we complete the checksums that it leaves partial

	// Guarded by VTEP.mu.
	links     []*Link   // to this address, of any UDP port
	otherPort int       // of these, to other UDP ports than Host's
	receiver  *Receiver // a socket for this host only, without UDP_GRO; nil: none, see updateReceiver

	// Only Tick and Test use these; the caller does not run both at once.
	phase       phase
	due         time.Duration
	trainsDue   time.Duration // before this time no trains are sent: the first answer ends the test
	attempts    int           // to get an answer to the current question
	maxFrame    int           // length of the frame in the test's longest datagrams, in bytes
	sendFailed  bool          // the kernel refused datagrams of the test
	partialSent bool          // the current question was sent with a partial checksum, too
	good, bad   int           // tests in a row
	keepalive   bool          // the current question is a keepalive: no trains follow
	unanswered  int           // questions in a row without answer
	search      *search       // for what fits; nil: none is under way
	toldFits    int           // to OnFits; -1: nothing yet

	mu                   sync.Mutex // guards what follows
	state                PeerState
	testDone             bool
	answers              bool                // it answered the last question: it is a tapestry
	hasAsked             bool                // it has sent a question since the last Tick
	remoteSumTested      bool                // remoteSum is known
	testSoon             bool                // the peer seems to have restarted
	nonce                uint64              // of the test that this host makes
	ask                  uint8               // number of the current question
	asked                time.Time           // when it was sent
	answered             bool                // the current question was answered
	timed                bool                // the time until the answer is the round trip time
	report               report              // of the last answer
	peerTests            [openTests]peerTest // tests that the peer makes
	prober               prober              // of bursts to the peer
	heard                burst               // from the peer
	nextTest, budgetLeft int                 // index in peerTests; messages left of budget
	lastAsked            time.Duration       // when it sent a question, by Tick's clock, to a second
}

type phase uint8

const (
	idle phase = iota
	opening
	trying
	padding // a question of full length, see askLong
)

// A peerTest is a test that the peer makes, as received here.
type peerTest struct {
	nonce uint64
	report
}

// PeerState is what is known of a Peer.
type PeerState struct {
	Host     netip.AddrPort
	Result   TestResult
	Why      string        // for Mangled and Refused
	RTT      time.Duration // of the last answer, 0: none
	Tested   time.Duration // when the test ended, by Tick's clock; 0: never
	TestDone bool          // no test is under way
	Answers  bool          // it answered the last question, which is at most about a minute old: a tapestry runs there
	Features uint16        // of its last answer, see featureRemoteSum; 0: none

	// Narrow is an MTU of the path, in bytes of outer IP packet, that is wrong: the kernel gives it, but in the last test no
	// packet of that length arrived, and shorter ones did. 0: such packets arrive, or nothing is known.
	Narrow int
	// Fits is, where Narrow is not 0, the longest outer IP packet in bytes that has arrived, to 8 bytes; 0: not known yet.
	Fits int
	// RemoteSum tells whether checksums may be left partial for the host to complete; nil: not known yet, or the host
	// does not complete them, or this one always does (CompleteChecksums).
	RemoteSum *offload.Status
	// Health is what the bursts of the last minute have shown; nil: nothing, as HealthWhy tells.
	Health    *Health
	HealthWhy string
}

func (v *VTEP) newPeer(host netip.AddrPort) *Peer {
	p := &Peer{Host: host, v: v, budgetLeft: budget, toldFits: -1, state: PeerState{Host: host, Result: Untested}}
	p.trains = &Link{Host: host, v: v, to: rawSockaddr(host), header: v.messages}
	p.singly = &Link{Host: host, v: v, to: rawSockaddr(host), header: v.messages}
	p.singly.gso.Block(offload.ErrUnsupported)
	p.singly.remoteSum.Store(true) // for messages with a partial checksum
	p.trains.SetMTU(1<<16 - 1)     // no message is a super-frame
	p.remoteSum.Block(ErrFlagLost) // until it was tested
	p.trains.peer.Store(p)
	p.trains.Bind(p.handle)
	return p
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

// State gives what is known of the host.
func (p *Peer) State() PeerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	s.TestDone, s.Answers = p.testDone, p.answers
	switch s.Health = p.prober.health(); {
	case s.Health != nil:
	case s.Result == NoAnswer:
		s.HealthWhy = "no tapestry answers there"
	case s.Answers && s.Features&featureProbes == 0:
		s.HealthWhy = "the tapestry there is an older one, which answers no probes"
	default:
		s.HealthWhy = "not measured yet"
	}
	if p.remoteSumTested {
		g := p.remoteSum.Status()
		s.RemoteSum = &g
	}
	return s
}

// Test makes the next Tick begin a new test. It must not be called during Tick.
func (p *Peer) Test() {
	p.phase, p.due, p.trainsDue = idle, 0, 0
	p.mu.Lock()
	p.testDone = false
	p.mu.Unlock()
}

// Tick drives the tests. It is to be called about once a second; now is the time since some fixed moment. It returns the
// peers whose result has changed.
func (v *VTEP) Tick(now time.Duration) (news []PeerState) {
	talks := 0
	peers := v.Peers()
	for _, p := range peers {
		before := p.startTick(now)
		if talks < maxPerTick && p.step(now) {
			talks++
		}
		p.probe(now, burstOf(len(peers)))
		after := p.State()
		if after.Result != before {
			news = append(news, after)
		}
		if after.Fits != p.toldFits && v.OnFits != nil {
			p.toldFits = after.Fits
			v.OnFits(p.Host.Addr(), after.Fits)
		}
		v.mu.Lock()
		if v.peers[p.Host.Addr()] == p {
			p.updateReceiver()
		}
		v.mu.Unlock()
	}
	return news
}

// handle handles messages from the peer. It runs on a worker's thread.
func (p *Peer) handle(frames []ether.Frame) {
	var answers []message
	for i := range frames {
		m, intact, ok := parse(frames[i].Bytes())
		if !ok || !p.allow() {
			p.v.rxDropped[noPeer].Add(1)
			continue
		}
		m.partial = frames[i].Off.PartialChecksum
		if answer, ok := p.handleMessage(m, intact); ok {
			answers = append(answers, answer)
			if answer.kind == kindAnswer {
				p.mayRemoteSum.Store(true)
			}
		}
	}
	if len(answers) > 0 {
		p.sendMessages(answers...)
	}
}

// allow limits the number of messages that are handled between two Ticks.
func (p *Peer) allow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budgetLeft--
	return p.budgetLeft >= 0
}

// handleMessage handles one message, and tells whether to answer it and what.
func (p *Peer) handleMessage(m message, intact bool) (answer message, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case m.kind == kindSegment:
		if t := p.findTest(m.nonce); t != nil {
			t.countSegment(m, intact)
		}
	case !intact:
	case m.kind == kindAnswer:
		p.hearAnswer(m)
	case m.kind == kindEcho:
		if rtt := p.prober.hear(m); rtt > 0 {
			p.state.RTT = rtt
		}
	case m.kind == kindProbe:
		return p.heard.answer(m)
	case m.kind == kindOpen || m.kind == kindAsk:
		return message{kind: kindAnswer, ask: m.ask, features: features, nonce: m.nonce, body: p.reportOn(m)}, true
	}
	return message{}, false
}

// findTest is the test of a nonce that the peer makes; nil: it is not known. The lock is held, here and in what follows.
func (p *Peer) findTest(nonce uint64) *peerTest {
	for i := range p.peerTests {
		if p.peerTests[i].known && p.peerTests[i].nonce == nonce {
			return &p.peerTests[i]
		}
	}
	return nil
}

// hearAnswer takes an answer to this host's question.
func (p *Peer) hearAnswer(m message) {
	var r report
	if m.nonce != p.nonce || m.ask != p.ask || p.answered || !r.decode(m.body) {
		return
	}
	p.report, p.answered, p.answers, p.state.Features = r, true, true, m.features
	if p.timed {
		p.state.RTT = time.Since(p.asked)
	}
}

// reportOn is the answer's body to a question of the peer's, which may begin a test.
func (p *Peer) reportOn(m message) []byte {
	p.hasAsked = true
	t := p.findTest(m.nonce)
	if t == nil && m.kind == kindOpen {
		t = &p.peerTests[p.nextTest]
		p.nextTest = (p.nextTest + 1) % openTests
		*t = peerTest{m.nonce, report{known: true}}
		p.testSoon = m.shape != keepaliveOnly
	}
	var r report
	if t != nil {
		t.partial = t.partial || m.partial
		r = t.report
	}
	body := make([]byte, reportLen)
	r.encode(body)
	return body
}

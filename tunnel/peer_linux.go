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
	testEvery   = 10 * time.Minute // while all is well
	askEvery    = time.Minute      // between, whether it still understands us: one small datagram
	doubtEvery  = time.Minute      // of trains that are off, and to a host that does not answer: one small datagram
	unsureEvery = 10 * time.Second // after a test that showed nothing
)

const (
	enough    = 10   // silences in a row after which what was known of a host's trains is forgotten
	tries     = 3    // of each question, and tests in a row that change the verdict
	rush      = 32   // peers that one Tick talks to at most
	openTests = 4    // of a peer's that are remembered
	budget    = 1024 // messages from a peer that are heard between two Ticks: a test is some 150
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
	off            atomic.Bool
	sums           offload.Feature // it adds up what we leave open

	// What Receiver.receive goes by.
	cuts    atomic.Bool // it is a tapestry: each datagram that it sends has one frame
	several atomic.Bool // it has links of more than one VNI
	told    atomic.Bool // it was told that we add up what it leaves open

	// Guarded by v.mu.
	links   int       // with this address, to any port
	foreign int       // of these, to other ports than Host's
	own     *Receiver // takes what comes from the host, and no trains; nil: there is none

	// Only Tick and Test use these.
	phase     phase
	due       time.Duration
	trainsDue time.Duration // a test before that is over with its first answer
	asks      int           // of the question that is open
	full      int           // frame of the test's longest datagrams
	stuck     bool          // some datagrams of the test did not leave this host
	twice     bool          // the question that is open went as an open message too
	good, bad int           // tests in a row
	still     bool          // the question is whether it is still there: no trains will follow
	silence   int           // questions in a row that got no answer

	mu         sync.Mutex // guards what follows
	state      PeerState
	settled    bool
	answers    bool // the last question was answered: it is a tapestry
	hasAsked   bool // us, since the last Tick
	tried      bool // sums tells something
	wish       bool // the peer seems to be new
	nonce      uint64
	ask        uint8
	asked      time.Time
	answered   bool
	timed      bool // the answer tells the round trip time
	report     report
	theirs     [openTests]theirTest
	next, left int           // in theirs; of the budget
	lastAsked  time.Duration // by Tick's clock, about
}

type phase uint8

const (
	idle phase = iota
	opening
	trying
)

// theirTest is a test that the peer makes of us.
type theirTest struct {
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
	p := &Peer{Host: host, v: v, left: budget, state: PeerState{Host: host, Verdict: Untested}}
	p.trains = &Link{Host: host, v: v, to: rawSockaddr(host), header: header}
	p.singly = &Link{Host: host, v: v, to: rawSockaddr(host), header: header}
	p.singly.gso.Block(offload.ErrUnsupported)
	p.singly.remoteSum.Store(true) // of the messages that want it
	p.trains.SetMTU(1<<16 - 1)     // nothing in talk is a super-frame
	p.sums.Block(ErrFlagLost)      // until it was tried
	p.trains.peer.Store(p)
	p.trains.Bind(p.hear)
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
	if p.tried {
		g := p.sums.Status()
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
		before := p.begin(now)
		if talks < rush && p.step(now) {
			talks++
		}
		if after := p.State(); after.Verdict != before {
			news = append(news, after)
		}
		v.mu.Lock()
		if v.peers[p.Host.Addr()] == p {
			p.divide()
		}
		v.mu.Unlock()
	}
	return news
}

// begin gives what was known at the last Tick.
func (p *Peer) begin(now time.Duration) Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = budget
	if p.hasAsked {
		p.hasAsked, p.lastAsked = false, now
	} else if now-p.lastAsked > tries*askEvery { // another host by now, for all we know
		p.told.Store(false)
	}
	fresh := p.state.Verdict != NoAnswer && now-p.state.Tested < doubtEvery/2
	if p.wish && p.phase == idle && !fresh {
		p.due, p.trainsDue = 0, 0
	}
	p.wish = false
	return p.state.Verdict
}

// step goes on with a test, and tells whether it has sent something.
func (p *Peer) step(now time.Duration) bool {
	answer, answered := p.answer()
	switch {
	case p.phase == idle && now < p.due:
		return false
	case p.phase == idle:
		p.still = now < p.trainsDue
		p.open()
	case p.phase == opening && answered && now < p.trainsDue:
		p.silence = 0
		p.agree(answer)
		p.end(now, askEvery)
		return false
	case p.phase == opening && answered:
		p.silence = 0
		p.agree(answer)
		p.send(now)
	case p.phase == trying && answered:
		p.agree(answer)
		p.weigh(now, answer)
		return false
	case p.asks == tries:
		p.silent(now)
		return false
	case p.phase == opening:
		p.question(kindOpen)
	default:
		p.question(kindAsk)
	}
	return true
}

func (p *Peer) answer() (report, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report, p.answered
}

// open begins a test.
func (p *Peer) open() {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	p.mu.Lock()
	p.nonce, p.settled = binary.BigEndian.Uint64(nonce[:]), false
	p.mu.Unlock()
	p.phase, p.asks = opening, 0
	p.question(kindOpen)
}

func (p *Peer) question(kind uint8) {
	p.asks++
	p.mu.Lock()
	p.ask++
	p.asked, p.answered, p.timed = time.Now(), false, kind == kindOpen // an ask waits behind the trains
	m := message{kind: kind, ask: p.ask, nonce: p.nonce}
	if p.still {
		m.shape = stillThere
	}
	p.twice = p.state.Features&featureRemoteSum != 0 && !p.v.FinishSums
	p.mu.Unlock()
	if p.twice { // the open one first: what is answered first counts
		m.open = true
		p.say(m, nil)
		m.open = false
	}
	p.say(m, nil)
}

// say sends one message.
func (p *Peer) say(m message, body []byte) {
	frames := shape{n: 1, size: messageHead + len(body), last: messageHead + len(body)}.frames(m, body)
	if m.open {
		frames[0].Off = ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16} // as TCP over IPv4
	}
	p.singly.Send(frames)
}

// send sends the trains, each as the data path would and then singly.
func (p *Peer) send(now time.Duration) {
	mtu, err := p.v.PathMTU(p.Host.Addr())
	p.full = mtu - Overhead(p.Host.Addr().Is6()) + ether.HeaderLen
	if err != nil || p.full < 2*messageHead {
		p.end(now, unsureEvery)
		return
	}
	if p.v.gso {
		p.trains.gso.Enable()
	} else {
		p.trains.gso.Block(offload.ErrUnsupported)
	}
	body := make([]byte, p.full-messageHead)
	_, _ = rand.Read(body)
	before := p.unsent()
	for i, s := range trainShapes(p.full) {
		for way, l := range [ways]*Link{p.trains, p.singly} {
			l.Send(s.frames(message{kind: kindSegment, shape: uint8(i), way: uint8(way), nonce: p.nonce}, body[:s.size-messageHead]))
		}
	}
	p.stuck = p.unsent() != before
	p.phase, p.asks = trying, 0
	p.question(kindAsk)
}

// unsent counts datagrams that the kernel did not take.
func (p *Peer) unsent() (n uint64) {
	for _, l := range []*Link{p.trains, p.singly} {
		s := l.Stats()
		n += s.Full + s.Long + s.Failed
	}
	return n
}

// weigh draws the conclusion from an answer.
func (p *Peer) weigh(now time.Duration, r report) {
	narrow := 0
	if r.known && !p.stuck && r.narrow(p.full) {
		narrow = trainShapes(p.full)[0].size + Overhead(p.Host.Addr().Is6()) - ether.HeaderLen
	}
	p.mu.Lock()
	p.state.Narrow = narrow
	p.mu.Unlock()
	if why := p.trains.gso.Status().Why; why != nil { // then those went singly too
		p.set(now, Refused, why.Error())
		p.end(now, doubtEvery)
		return
	}
	sent, came, sound, whole := 0, 0, 0, 0
	for i, s := range trainShapes(p.full) {
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
		p.end(now, doubtEvery)
		return
	}
	lossy := sound < shapes && whole > 0 // and then a train may be lost as anything else is
	switch {
	case !r.known || sound == 0 || p.stuck:
		p.end(now, unsureEvery)
		return
	case came == sent:
		p.good, p.bad = p.good+1, 0
	case lossy:
		p.end(now, unsureEvery)
		return
	default:
		p.good, p.bad = 0, p.bad+1
	}
	why := fmt.Sprintf("%d of %d segments of trains arrived as they were sent, and every one that was sent singly", came, sent)
	off := p.off.Load()
	switch {
	case off && p.good > 0 && p.good < tries, !off && p.bad > 0 && p.bad < tries:
		p.phase, p.due = idle, now // another test, to be sure
		return
	case p.good > 0:
		p.off.Store(false)
		p.set(now, Good, "")
		p.trainsDue = now + testEvery
		p.end(now, askEvery)
	default:
		p.off.Store(true)
		p.set(now, Mangled, why)
		p.end(now, doubtEvery)
	}
	if off != p.off.Load() {
		p.judgeAll()
	}
}

// agree has the links do what the host says that it understands, and the way there lets through.
func (p *Peer) agree(r report) {
	before := p.sums.Enabled()
	p.mu.Lock()
	says := p.state.Features&featureRemoteSum != 0
	switch {
	case !says:
		p.tried = false
		p.sums.Block(ErrFlagLost)
	case !p.twice || !r.known: // this answer tells nothing of it
	case r.open:
		p.tried = true
		p.sums.Enable()
	default:
		p.tried = true
		p.sums.Block(ErrFlagLost)
	}
	p.mu.Unlock()
	if p.sums.Enabled() != before {
		p.judgeAll()
	}
}

// silent ends a test that got no answer.
func (p *Peer) silent(now time.Duration) {
	if p.phase == trying { // it did speak
		p.end(now, unsureEvery)
		return
	}
	p.mu.Lock()
	p.state.RTT, p.state.Features, p.state.Narrow, p.answers = 0, 0, 0, false
	p.mu.Unlock()
	p.agree(report{})
	p.trainsDue = 0
	if p.silence++; p.silence == enough && p.off.Swap(false) { // it may be another host by now
		p.judgeAll()
	}
	if !p.off.Load() {
		p.set(now, NoAnswer, "")
	}
	p.end(now, doubtEvery)
}

func (p *Peer) set(now time.Duration, v Verdict, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Verdict, p.state.Why, p.state.Tested = v, why, now
}

func (p *Peer) end(now, again time.Duration) {
	p.phase, p.due = idle, now+again
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = true
}

// hear takes in what a peer says, on the worker's thread.
func (p *Peer) hear(frames []ether.Frame) {
	for i := range frames {
		m, intact, ok := parse(frames[i].Bytes())
		if !ok || !p.heed() {
			p.v.strangers[noPeer].Add(1)
			continue
		}
		var body [reportLen]byte
		m.open = frames[i].Off.PartialChecksum
		if p.enter(m, intact, &body) {
			p.told.Store(true)
			p.say(message{kind: kindAnswer, ask: m.ask, features: features, nonce: m.nonce}, body[:])
		}
	}
}

// heed bounds what a peer can make us do.
func (p *Peer) heed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
	return p.left >= 0
}

// enter notes a message, and tells whether to answer with the body.
func (p *Peer) enter(m message, intact bool, body *[reportLen]byte) bool {
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
	var t *theirTest
	for i := range p.theirs {
		if p.theirs[i].known && p.theirs[i].nonce == m.nonce {
			t = &p.theirs[i]
		}
	}
	switch {
	case m.kind == kindSegment && t != nil:
		t.note(m, intact)
	case !intact:
	case m.kind == kindOpen:
		p.hasAsked = true
		if t == nil {
			t = &p.theirs[p.next]
			p.next = (p.next + 1) % openTests
			*t = theirTest{m.nonce, report{known: true}}
			p.wish = m.shape != stillThere
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

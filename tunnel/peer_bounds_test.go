package tunnel

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestPeerPorts: what one daemon says holds for no other at its address, and when its links have gone the other is asked.
func TestPeerPorts(t *testing.T) {
	p := newPath(t)
	other, err := p.a.Link(81, netip.AddrPortFrom(p.to.Host.Addr(), 8472))
	testhost.Must(t, err)
	for range 5 {
		p.tick()
	}
	if !p.to.Stats().RemoteSum || other.Stats().RemoteSum {
		t.Errorf("checksums are left partial for the daemon asked: %v; for the other: %v", p.to.Stats().RemoteSum, other.Stats().RemoteSum)
	}
	p.to.Close()
	peers := p.a.Peers()
	if len(peers) != 1 || peers[0].Host != other.Host {
		t.Errorf("the peers are %v, want %v", peers, other.Host)
	}
	other.Close()
	if len(p.a.Peers()) != 0 || len(*p.a.links.Load()) != 0 {
		t.Errorf("left are %v, %v", p.a.Peers(), *p.a.links.Load())
	}
}

// TestPeerBounds: whatever a peer sends, it can have only so many tests open, and be answered only so often.
func TestPeerBounds(t *testing.T) {
	p := newPath(t)
	peer := p.b.Peers()[0]
	answers := func(kind uint8, nonce uint64) (answered int) {
		m := message{kind: kind, nonce: nonce}
		b := make([]byte, messageHeadLen)
		m.encode(b)
		f := ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})
		before := peer.singly.Stats().WireTx
		peer.handle([]ether.Frame{f})
		return int(peer.singly.Stats().WireTx - before)
	}
	for i := range uint64(budget) {
		if answers(kindOpen, i) != 1 {
			t.Fatalf("question %d is not answered", i)
		}
	}
	if answers(kindOpen, 99999) != 0 {
		t.Error("more than the budget is answered")
	}
	if n := p.b.RxDropped()["no_peer"]; n != 1 {
		t.Errorf("%d dropped", n)
	}
	open := 0
	for _, th := range peer.peerTests {
		if th.known && th.nonce >= budget-openTests {
			open++
		}
	}
	if open != openTests {
		t.Errorf("%+v", peer.peerTests)
	}
	p.b.Tick(time.Hour)
	if answers(kindAsk, 1) != 1 {
		t.Error("no answer after a Tick")
	}
}

// TestAnswersForged: an answer counts with the test's nonce only.
func TestAnswersForged(t *testing.T) {
	p := newPath(t)
	p.single = func(d []byte) bool { return d[headerLen+15] != kindAnswer }
	p.tick()
	peer := p.a.Peers()[0]
	var r report
	r.known = true
	body := make([]byte, reportLen)
	r.encode(body)
	forge := func(m message) {
		b := append(make([]byte, messageHeadLen), body...)
		m.encode(b)
		testhost.Must(t, unix.Sendto(p.fd, encapsulated(t, hostVNI, b), 0, toSockaddr(p.a.Local)))
		p.relayAll()
	}
	forge(message{kind: kindAnswer, nonce: peer.nonce ^ 1, ask: peer.ask, features: 1})
	forge(message{kind: kindAnswer, nonce: peer.nonce, ask: peer.ask ^ 1, features: 1})
	forge(message{kind: kindOpen, nonce: 5, features: 1})
	if _, answered := peer.answer(); answered {
		t.Error("a forged answer counts")
	}
	if s := peer.State(); s.Features != 0 {
		t.Errorf("it has features: %+v", s)
	}
	forge(message{kind: kindAnswer, nonce: peer.nonce, ask: peer.ask, features: 6})
	if _, answered := peer.answer(); !answered || peer.State().Features != 6 {
		t.Errorf("a true one does not: %+v", peer.State())
	}
}

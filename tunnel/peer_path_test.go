package tunnel

import (
	"bytes"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// path is two VTEPs that reach each other through a relay of the test's own, at 127.0.0.3.
type path struct {
	t    testing.TB
	a, b *VTEP
	to   *Link  // from a
	at   *catch // b
	now  time.Duration
	relay
}

// relay passes datagrams on, and does to trains what broken kernels do.
type relay struct {
	fd     int
	in     receiver
	arena  []byte
	trains int
	bytes  int
	mangle func(train [][]byte) [][]byte // nil: as they are
	single func(datagram []byte) bool    // whether to pass it on; nil: yes
}

func newPath(t testing.TB) *path {
	t.Helper()
	host(t)
	testhost.Must(t, netlink.LinkSetMTU(lo(t), 1500))
	p := &path{t: t, a: listen(t, "127.0.0.1", 1), b: listen(t, "127.0.0.2", 1)}
	var err error
	p.to, err = p.a.Link(vni, at("127.0.0.3"))
	testhost.Must(t, err)
	p.at, _ = caught(t, p.b, vni, "127.0.0.3")
	p.fd, err = bind(at("127.0.0.3"), false)
	testhost.Must(t, err)
	t.Cleanup(func() { unix.Close(p.fd) })
	testhost.Must(t, unix.SetsockoptInt(p.fd, unix.SOL_UDP, unix.UDP_GRO, 1))
	p.arena = make([]byte, 512<<10)
	return p
}

// tick is a second: both ends do what is due, and all that is on its way arrives.
func (p *path) tick() (news []PeerState) {
	p.t.Helper()
	p.now += time.Second
	news = append(p.a.Tick(p.now), p.b.Tick(p.now)...)
	p.relayAll()
	return news
}

func (p *path) relayAll() {
	p.t.Helper()
	for busy := true; busy; {
		settled(p.t)
		busy = p.pass()
		for _, v := range []*VTEP{p.a, p.b} {
			for _, r := range v.Receivers() {
				n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}, 0)
				busy = busy || n > 0
				if err != unix.EINTR {
					testhost.Must(p.t, err)
				}
				testhost.Must(p.t, r.Drain(p.arena))
			}
		}
	}
}

// pass relays what has come, from a to b and back.
func (p *path) pass() bool {
	n, errno := p.in.recv(p.fd, p.arena)
	if errno != 0 {
		return false
	}
	for i := range n {
		train, _, from := p.in.train(i, p.arena)
		to := p.b
		if from.addr() == p.b.Local.Addr() {
			to = p.a
		}
		p.bytes += len(train.rest)
		var datagrams [][]byte
		for many := len(train.rest) > train.size; len(train.rest) > 0; {
			d := bytes.Clone(train.next())
			if many && train.size > 0 || p.single == nil || p.single(d) {
				datagrams = append(datagrams, d)
			}
		}
		if len(datagrams) > 1 {
			if p.trains++; p.mangle != nil {
				datagrams = p.mangle(datagrams)
			}
		}
		for _, d := range datagrams {
			testhost.Must(p.t, unix.Sendto(p.fd, d, 0, toSockaddr(to.Local)))
		}
	}
	return true
}

// state is what a knows of b.
func (p *path) state() PeerState {
	p.a.mu.Lock()
	peer := p.a.peers[p.to.Host.Addr()]
	p.a.mu.Unlock()
	return peer.State()
}

// data sends a super-frame from a and wants its segments at b.
func (p *path) data() {
	p.t.Helper()
	q := packet{Payload: packets.Data(20300)}
	if sent, _ := p.to.Send([]*ether.Frame{q.super(p.t, 1000)}); sent != 1 {
		p.t.Fatal("refused")
	}
	p.relayAll()
	same(p.t, p.at.frames, q.segments(p.t, 1000))
	p.at.frames = nil
}

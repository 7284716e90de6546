package etcd

import (
	"net"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A proxy is the network between a host and etcd.
type proxy struct {
	t      testing.TB
	addr   string // HOST:PORT
	target string
	all    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	listen net.Listener
	conns  map[net.Conn]bool
	mute   chan struct{} // nil: bytes pass; else none does until it is closed
	lost   bool          // what etcd says is thrown away
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{t: t, target: target, conns: make(map[net.Conn]bool)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	testhost.Must(t, err)
	p.addr = l.Addr().String()
	p.serve(l)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) serve(l net.Listener) {
	p.mu.Lock()
	p.listen = l
	p.mu.Unlock()
	p.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.pass(c) })
		}
	})
}

// pass carries one connection.
func (p *proxy) pass(c net.Conn) {
	defer c.Close()
	p.await()
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer to.Close()
	p.mu.Lock()
	p.conns[c], p.conns[to] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
		delete(p.conns, to)
	}()
	var both sync.WaitGroup
	carry := func(to, from net.Conn) {
		defer to.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := from.Read(b)
			p.await()
			p.mu.Lock()
			lost := p.lost && to == c
			p.mu.Unlock()
			if n > 0 && !lost {
				if _, err := to.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	both.Go(func() { carry(to, c) })
	both.Go(func() { carry(c, to) })
	both.Wait()
}

func (p *proxy) await() {
	p.mu.Lock()
	mute := p.mute
	p.mu.Unlock()
	if mute != nil {
		<-mute
	}
}

// silent makes it swallow all, without a word; with false all goes on.
func (p *proxy) silent(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on && p.mute == nil {
		p.mute = make(chan struct{})
	} else if !on && p.mute != nil {
		close(p.mute)
		p.mute = nil
	}
}

// deaf makes it throw away what etcd says; with false the connections end, and new ones are as before.
func (p *proxy) deaf(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = on
	if !on {
		for c := range p.conns {
			c.Close()
		}
	}
}

// refuse ends all connections and takes none; with false it takes them again.
func (p *proxy) refuse(on bool) {
	p.t.Helper()
	p.mu.Lock()
	l := p.listen
	if on {
		p.listen = nil
		for c := range p.conns {
			c.Close()
		}
	}
	p.mu.Unlock()
	if on && l != nil {
		l.Close()
	}
	if !on && l == nil {
		l, err := net.Listen("tcp", p.addr)
		testhost.Must(p.t, err)
		p.serve(l)
	}
}

func (p *proxy) close() {
	p.silent(false)
	p.refuse(true)
	p.all.Wait()
}

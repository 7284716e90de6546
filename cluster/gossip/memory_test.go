package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A memory is a network without sockets, for tests in virtual time (testing/synctest).
type memory struct {
	*links
	mu    sync.Mutex // guards what follows
	hosts map[netip.AddrPort]*memoryHost
}

func newMemory() *memory {
	return &memory{links: newLinks(), hosts: make(map[netip.AddrPort]*memoryHost)}
}

// at is one host's place in it.
func (m *memory) at(a netip.Addr) wire { return memoryWire{m, a} }

type memoryWire struct {
	m *memory
	a netip.Addr
}

type memoryHost struct {
	m       *memory
	a       netip.AddrPort
	packets chan memoryPacket
	streams chan net.Conn
	once    sync.Once
	ended   chan struct{}
}

type memoryPacket struct {
	b    []byte
	from net.Addr
}

func (w memoryWire) listen(at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	h := &memoryHost{m: w.m, a: at, packets: make(chan memoryPacket, 1000), streams: make(chan net.Conn), ended: make(chan struct{})}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.m.hosts[at] != nil {
		return nil, nil, errors.New("address already in use")
	}
	w.m.hosts[at] = h
	return memoryUDP{h}, memoryTCP{h}, nil
}

func (m *memory) host(at netip.AddrPort) *memoryHost {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hosts[at]
}

// dial is refused by a host without a listener; who is cut off gets no answer.
func (w memoryWire) dial(ctx context.Context, _ netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if w.m.away(w.a, to.Addr()) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	h := w.m.host(to)
	if h == nil {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.a, 40000))
	select {
	case h.streams <- w.m.opened(named{b, from}, w.a, to.Addr()):
		return w.m.opened(named{a, net.TCPAddrFromAddrPort(to)}, w.a, to.Addr()), nil
	case <-h.ended:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type named struct {
	net.Conn
	remote net.Addr
}

func (n named) RemoteAddr() net.Addr { return n.remote }

func (h *memoryHost) Close() error {
	h.once.Do(func() {
		close(h.ended)
		h.m.mu.Lock()
		delete(h.m.hosts, h.a)
		h.m.mu.Unlock()
	})
	return nil
}

type memoryUDP struct{ *memoryHost }

func (u memoryUDP) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-u.packets:
		return copy(b, p.b), p.from, nil
	case <-u.ended:
		return 0, nil, net.ErrClosed
	}
}

func (u memoryUDP) WriteTo(b []byte, to net.Addr) (int, error) {
	at := to.(*net.UDPAddr).AddrPort()
	u.m.sees(u.a.Addr(), at.Addr(), b)
	if h := u.m.host(at); h != nil && !u.m.away(u.a.Addr(), at.Addr()) {
		select {
		case h.packets <- memoryPacket{append([]byte(nil), b...), net.UDPAddrFromAddrPort(u.a)}:
		default:
		}
	}
	return len(b), nil
}

func (u memoryUDP) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(u.a) }
func (u memoryUDP) SetDeadline(time.Time) error      { return nil }
func (u memoryUDP) SetReadDeadline(time.Time) error  { return nil }
func (u memoryUDP) SetWriteDeadline(time.Time) error { return nil }

type memoryTCP struct{ *memoryHost }

func (t memoryTCP) Accept() (net.Conn, error) {
	select {
	case c := <-t.streams:
		return c, nil
	case <-t.ended:
		return nil, net.ErrClosed
	}
}

func (t memoryTCP) Addr() net.Addr { return net.TCPAddrFromAddrPort(t.a) }

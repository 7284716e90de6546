package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/tapestry-net/tapestry/cluster"
)

// Bounds of connections from outside. memberlist reads a message as a whole before it knows who sent it.
const (
	eachHost  = 16                        // of one host that was seen in the cluster
	strangers = 64                        // of all other addresses together
	mostKnown = cluster.MaxRecord + 1<<20 // bytes of one message, with its envelope
	mostOther = 4 << 20                   // the same of a stranger: who joins brings the metadata of those that it knows
	queue     = 256                       // packets that memberlist has not taken yet; more are lost, as packets are
	packet    = 64 << 10                  // bytes of the longest UDP datagram
)

// A wire is a network: the machine's, or a test's.
type wire interface {
	listen(at netip.AddrPort) (net.PacketConn, net.Listener, error)
	dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
}

type machine struct{}

func (machine) listen(at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		u.Close()
		return nil, nil, err
	}
	_ = u.SetReadBuffer(1 << 20) // what the kernel gives
	return u, l, nil
}

func (machine) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if !from.IsUnspecified() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, "tcp", to.String())
}

// A transport is memberlist's way to other hosts.
type transport struct {
	e       *Engine
	self    netip.AddrPort // as others reach this host
	udp     net.PacketConn
	tcp     net.Listener
	packets chan *memberlist.Packet
	streams chan net.Conn
	ended   chan struct{}
	wg      sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[*conn]netip.Addr
	in    map[netip.Addr]int // connections from each address; of strangers under the zero one
	down  bool
}

func newTransport(e *Engine, self netip.AddrPort) (*transport, error) {
	t := &transport{e: e, self: self, packets: make(chan *memberlist.Packet, queue), streams: make(chan net.Conn), ended: make(chan struct{}),
		conns: make(map[*conn]netip.Addr), in: make(map[netip.Addr]int)}
	var err error
	if t.udp, t.tcp, err = e.cfg.wire.listen(e.cfg.Bind); err != nil {
		return nil, err
	}
	t.wg.Go(t.receive)
	t.wg.Go(t.accept)
	return t, nil
}

// hostOf is an address's IP address.
func hostOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// receive gives memberlist the packets that are of this cluster.
func (t *transport) receive() {
	buf := make([]byte, packet)
	for {
		n, from, err := t.udp.ReadFrom(buf)
		if err != nil {
			if t.pause(err) {
				continue
			}
			return
		}
		if err := t.e.seal.packet(buf[:n]); err != nil {
			t.refuse(err, from)
			continue
		}
		if a, ok := from.(*net.UDPAddr); ok {
			at := a.AddrPort()
			t.e.hailed(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: time.Now()}:
		default:
		}
	}
}

// accept gives memberlist the connections that are not too many.
func (t *transport) accept() {
	for {
		nc, err := t.tcp.Accept()
		if err != nil {
			if t.pause(err) {
				continue
			}
			return
		}
		c := t.admit(nc)
		if c == nil {
			nc.Close()
			continue
		}
		select {
		case t.streams <- c:
		case <-t.ended:
			c.Close()
		}
	}
}

// pause waits after an error, so that one that comes again and again does not take a processor, and tells whether to go on.
func (t *transport) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-t.ended:
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}

// admit counts a connection from outside; nil: there are too many.
func (t *transport) admit(nc net.Conn) *conn {
	from, most := hostOf(nc.RemoteAddr()), mostKnown
	limit := eachHost
	if !t.e.known(from) {
		from, most, limit = netip.Addr{}, mostOther, strangers
	}
	c := &conn{Conn: nc, t: t, dialed: true, most: most}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down {
		return nil
	}
	if t.in[from] >= limit {
		t.e.tell("crowd "+from.String(), "too many connections to the gossip's port at once", "from", nc.RemoteAddr())
		t.e.crowded.Add(1)
		return nil
	}
	t.in[from]++
	t.conns[c] = from
	return c
}

// closed forgets a connection.
func (t *transport) closed(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from, ok := t.conns[c]
	if !ok {
		return
	}
	delete(t.conns, c)
	if c.dialed {
		if t.in[from]--; t.in[from] == 0 {
			delete(t.in, from)
		}
	}
}

// refuse counts what is not of this cluster, and tells who sent it.
func (t *transport) refuse(err error, from net.Addr) {
	host := hostOf(from).String()
	switch {
	case errors.Is(err, errCluster):
		t.e.tell("cluster "+host, "what comes from an address is of another cluster, or of none, and is ignored", "from", from, "cluster", t.e.cfg.Cluster)
		t.e.otherCluster.Add(1)
	case errors.Is(err, errKey):
		t.e.tell("key "+host, "what comes from an address is ignored: it has another key than this host, or only one of both has any", "from", from)
		t.e.wrongKey.Add(1)
	}
}

// FinalAdvertiseAddr is where others reach this host.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.self.Addr().AsSlice(), int(t.self.Port()), nil
}

// WriteTo sends a packet.
func (t *transport) WriteTo(b []byte, to string) (time.Time, error) {
	a, err := netip.ParseAddrPort(to)
	if err != nil {
		return time.Time{}, err
	}
	n, err := t.udp.WriteTo(b, net.UDPAddrFromAddrPort(a))
	t.e.packetsSent.Add(1)
	t.e.packetBytes.Add(uint64(n))
	return time.Now(), err
}

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, to.Addr)
}

// PacketCh has the packets that were received.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh has the connections from other hosts.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout connects to another host.
func (t *transport) DialTimeout(to string, limit time.Duration) (net.Conn, error) {
	a, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.e.ctx, min(limit, t.e.cfg.timing.dial))
	defer cancel()
	nc, err := t.e.cfg.wire.dial(ctx, t.e.cfg.Bind.Addr(), a)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(t.e.cfg.timing.stream)) // memberlist sets none before it sends a message
	c := &conn{Conn: nc, t: t, most: mostKnown}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down {
		nc.Close()
		return nil, net.ErrClosed
	}
	t.conns[c] = netip.Addr{}
	return c, nil
}

// DialAddressTimeout connects to another host.
func (t *transport) DialAddressTimeout(to memberlist.Address, limit time.Duration) (net.Conn, error) {
	return t.DialTimeout(to.Addr, limit)
}

// Shutdown closes the sockets and all connections.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	if t.down {
		t.mu.Unlock()
		return nil
	}
	t.down = true
	var open []net.Conn
	for c := range t.conns {
		open = append(open, c.Conn)
	}
	t.mu.Unlock()
	close(t.ended)
	err := errors.Join(t.udp.Close(), t.tcp.Close())
	for _, c := range open {
		c.Close()
	}
	t.wg.Wait()
	return err
}

// Package tunnel is this host's end of every VXLAN tunnel (RFC 7348): the VTEP, and a Link for each
// remote host of each network.
//
// A datagram's way in: Receiver.Drain (vtep_linux.go), decode (vxlan.go), the Link's bound function.
// A frame's way out: Link.Send (link_linux.go), which cuts super-frames and sends whole trains.
package tunnel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/gopacket/layers"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"golang.org/x/sys/unix"
)

// senders is the number of sending sockets: as many underlay flows can be told apart by routers and
// network cards (RFC 7348 section 5: the source port is a hash of the inner headers).
const senders = 16

// The range that RFC 7348 section 5 recommends for source ports, RFC 6335's dynamic ports.
const firstPort, lastPort = 49152, 65535

// bufferSize is asked for each socket, in bytes: some ten milliseconds of 10 Gb/s.
const bufferSize = 8 << 20

// A VTEP is one underlay address with its UDP sockets.
type VTEP struct {
	Local netip.AddrPort // where datagrams arrive

	// CompleteChecksums has every inner checksum finished here, also for hosts that would do it (see remoteSum). It
	// may be set before the first link.
	CompleteChecksums bool

	receivers []*Receiver
	send      [senders]int
	gso       bool // the kernel has UDP_SEGMENT
	gro       offload.Feature
	failSend  func(hdrs []mmsghdr) (n int, errno syscall.Errno) // of tests: stands before the kernel
	links     atomic.Pointer[map[linkKey]*Link]
	rxDropped [dropReasons]atomic.Uint64
	drops     atomic.Uint64 // of receivers that are closed
	atOpen    kernelUDP     // as it was when the VTEP was opened

	// StartReceiver has a worker read a receiver that is opened later than Listen, until stop has returned (see Peer.divide).
	// It may be set before the first link; without it, Receivers has to be asked again after each change of links.
	StartReceiver func(*Receiver) (stop func(), err error)

	mu    sync.Mutex // changes of links
	peers map[netip.Addr]*Peer
}

type linkKey struct {
	vni  uint32
	host netip.Addr
}

// Listen binds the VXLAN port, with as many receiving sockets as there are workers to read them.
// A port that is taken is EADDRINUSE.
func Listen(local netip.AddrPort, sockets int) (*VTEP, error) {
	v := &VTEP{Local: local, peers: make(map[netip.Addr]*Peer)}
	v.atOpen, _ = readKernelUDP(local.Addr().Is6()) // zero: so are the counts
	v.links.Store(&map[linkKey]*Link{})
	for i := range v.send {
		v.send[i] = -1
	}
	if err := v.open(sockets); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func (v *VTEP) open(sockets int) error {
	// SO_REUSEPORT would let us share the port with a stranger that asks for it too: the first
	// socket is bound without, to see that nobody is there.
	fd, err := bind(v.Local, false)
	if err != nil {
		return err
	}
	unix.Close(fd)
	for range sockets {
		fd, err := bindReceiver(v.Local)
		if err != nil {
			return err
		}
		v.enableGRO(fd)
		v.receivers = append(v.receivers, &Receiver{v: v, fd: fd})
	}
	v.steerFlows()
	for i := range v.send {
		fd, err := bindSender(v.Local.Addr(), firstPort, lastPort)
		if err != nil {
			return err
		}
		v.send[i] = fd
	}
	v.probeSenders()
	return nil
}

func bind(local netip.AddrPort, share bool) (int, error) {
	family := unix.AF_INET
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, explainSocket(err)
	}
	if share {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, toSockaddr(local))
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind UDP %s: %w", local, explainBind(err))
	}
	for _, opt := range []struct{ force, plain int }{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.force, bufferSize) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.plain, bufferSize)
		}
	}
	return fd, nil
}

// steerFlows has the kernel give datagrams to the receiving sockets by their source port, which peers choose
// by the inner flow: so both directions of a flow are read by one worker, which also reads that flow from
// the containers' TAPs. Without it the kernel goes by a hash of its own, and any choice is right.
func (v *VTEP) steerFlows() {
	n := uint32(len(v.receivers))
	const netOff = 1<<32 - 0x100000   // SKF_NET_OFF of linux/filter.h: from the IP header on
	sourcePort := uint32(netOff + 20) // behind an IPv4 header without options
	if v.Local.Addr().Is6() {
		sourcePort += 20
	}
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: sourcePort},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: n},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	_ = unix.SetsockoptSockFprog(v.receivers[0].fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

func toSockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// bindSender opens a socket on a free port from first to last. It never fragments (RFC 7348
// section 4.3), and takes nothing in: answers go to the VXLAN port.
func bindSender(local netip.Addr, first, last int) (int, error) {
	start := os.Getpid() // anywhere; daemons of one host begin at different places
	for i := range last - first + 1 {
		port := first + (start*senders+i)%(last-first+1)
		fd, err := bind(netip.AddrPortFrom(local, uint16(port)), false)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		} else if err != nil {
			return -1, err
		}
		if local.Is4() {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		} else {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		}
		if err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("forbid fragments on UDP %s: %w", local, err)
		}
		none := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		_ = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none[0]})
		return fd, nil
	}
	// No EADDRINUSE, which Listen says of the VXLAN port.
	return -1, fmt.Errorf("no UDP port from %d to %d is free at %s to send from: see who holds them: ss -uanp", first, last, local)
}

// Receivers are the sources of datagrams, for the workers: first as many as Listen was asked for.
func (v *VTEP) Receivers() []*Receiver {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := slices.Clone(v.receivers)
	for _, p := range v.peers {
		if p.receiver != nil {
			all = append(all, p.receiver)
		}
	}
	return all
}

// RxDropped counts the datagrams that reached no link, by reason: overflow is those that came faster
// than they were read.
func (v *VTEP) RxDropped() map[string]uint64 {
	m := make(map[string]uint64)
	for r := short; r < dropReasons; r++ {
		m[dropReasonNames[r]] = v.rxDropped[r].Load()
	}
	m["overflow"], _, _ = v.kernelDrops()
	return m
}

// Close closes the sockets. No Drain and no Send may run any more.
func (v *VTEP) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, p := range v.peers {
		errs = append(errs, p.receiver.close())
		p.receiver = nil
	}
	for _, r := range v.receivers {
		errs = append(errs, r.close())
	}
	v.receivers = nil
	for i, fd := range v.send {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
			v.send[i] = -1
		}
	}
	return errors.Join(errs...)
}

func (v *VTEP) changeLinks(fn func(map[linkKey]*Link) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	links := maps.Clone(*v.links.Load())
	if err := fn(links); err != nil {
		return err
	}
	v.links.Store(&links)
	return nil
}

// A Receiver is one socket on the VXLAN port. Only its worker calls Drain.
type Receiver struct {
	v          *VTEP
	fd         int
	stopWorker func() // ends what Attend began; nil: there was none
	in         receiver
	vx         layers.VXLAN
	links      map[linkKey]*Link // as they were when Drain began
	link       *Link             // of the lot
	key        linkKey
	frames     [recvMsgs * maxTrain]ether.Frame
	used       int
}

// Fd is the socket, non-blocking.
func (r *Receiver) Fd() int { return r.fd }

// Drain reads what has arrived, up to a budget, and lends each link its frames.
func (r *Receiver) Drain(arena []byte) error {
	n, errno := r.in.recv(r.fd, arena)
	switch errno {
	case 0:
	case syscall.EAGAIN:
		return nil
	case syscall.EBADF, syscall.ENOTSOCK, syscall.EFAULT, syscall.EINVAL:
		return fmt.Errorf("read from UDP %s: %w", r.v.Local, errno)
	default:
		return nil // an ICMP error or want of memory: it concerns one datagram, not the socket
	}
	r.links, r.link = *r.v.links.Load(), nil
	for i := range n {
		train, from := r.in.train(i, arena)
		r.receive(train, from.addr())
	}
	r.flush()
	r.links, r.link = nil, nil
	return nil
}

// receive takes apart what came from host in one piece. Where it says a segment size it is one of two things, and
// nothing in it or about it tells which, since a container can write what looks like either:
//
//   - a train: datagrams of one size, of any VNI, that this host's kernel or a network card joined (UDP_GRO), or the
//     sender's did not cut (UDP_SEGMENT);
//   - one datagram with an inner UDP super-frame that no device has cut, as from a kernel VTEP over a virtual wire. The
//     size is of that one's segments, and what stands where a next datagram would begin is payload of a container's.
//
// So it depends on the host. One that is a tapestry cuts what it sends: its trains are trains, and each datagram in them
// stands for itself. Of another the kernel cuts for us if it has several networks here (see Peer.divide). If it has but
// one there is no other network to be reached, and the inner lengths decide.
func (r *Receiver) receive(t segments, host netip.Addr) {
	segment, look := 0, true
	if t.size > 0 && len(t.rest) > t.size {
		talk := r.links[linkKey{hostVNI, host}]
		if talk == nil {
			r.v.rxDropped[noPeer].Add(t.count())
			return
		}
		switch p := talk.peer.Load(); {
		case p.isTapestry.Load():
			look = false
		case p.multipleVNIs.Load(): // it came before the kernel was told to cut
			r.v.rxDropped[ambiguous].Add(t.count())
			return
		case t.maybeUnsegmented():
			segment, t.size = t.size, 0
		}
	}
	for first := true; first || len(t.rest) > 0; first = false {
		d := t.next()
		why := decode(d, &r.vx)
		if why == accepted {
			if r.setLink(r.vx.VNI, host); r.link == nil {
				why = noPeer
			}
		}
		if why != accepted {
			r.v.rxDropped[why].Add(1)
			continue
		}
		// The spent VXLAN header is the frame's headroom.
		off, open, mtu := r.link.readFlag(d), flagged(d), int(r.link.mtu.Load())
		f := &r.frames[r.used]
		*f = ether.Lend(d, off)
		long := segment > 0 || len(d)-headerLen-ether.HeaderLen > mtu
		if look && (long || !off.PartialChecksum) || open && !off.PartialChecksum {
			f.Off = ether.Offload{} // RestoreOffload finds an open checksum as well, and what has not been cut
			if f.RestoreOffload(mtu, segment); f.Off == (ether.Offload{}) {
				f.Off = off
			}
		}
		if r.used++; r.used == len(r.frames) {
			r.flush()
		}
	}
}

// setLink makes the link of the next frames the current one, and delivers those of the one before.
func (r *Receiver) setLink(vni uint32, host netip.Addr) {
	if k := (linkKey{vni, host}); r.link == nil || k != r.key {
		r.flush()
		r.link, r.key = r.links[k], k
	}
}

func (r *Receiver) flush() {
	if r.used == 0 {
		return
	}
	r.link.deliver(r.frames[:r.used])
	clear(r.frames[:r.used])
	r.used = 0
}

// close closes the socket, once.
func (r *Receiver) close() error {
	if r == nil || r.fd < 0 {
		return nil
	}
	if r.stopWorker != nil {
		r.stopWorker()
	}
	r.v.drops.Add(socketDrops(r.fd))
	err := unix.Close(r.fd)
	r.fd = -1 // the number may be another file's at once
	return err
}

// Package tunnel is this host's end of every VXLAN tunnel (RFC 7348): the VTEP, and a Link for each
// remote host of each network.
//
// Receiving: Receiver.Drain (vtep_linux.go), decode (vxlan.go), then the function that Link.Bind was given.
// Sending: Link.Send (link_linux.go), which cuts super-frames and sends trains of datagrams with UDP_SEGMENT.
package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// DefaultPort is VXLAN's UDP port (IANA, RFC 7348 section 8).
const DefaultPort = 4789

// senders is the number of sending sockets, and so of outer flows that routers and network cards can distinguish
// (RFC 7348 section 5: the source port is a hash of the inner headers).
const senders = 16

// The range that RFC 7348 section 5 recommends for source ports, RFC 6335's dynamic ports.
const firstPort, lastPort = 49152, 65535

// bufferSize is the buffer that is requested for each socket, in bytes: about ten milliseconds at 10 Gb/s.
const bufferSize = 8 << 20

// A VTEP is one underlay address with its UDP sockets (RFC 7348 section 3).
type VTEP struct {
	Local netip.AddrPort // where datagrams arrive

	// CompleteChecksums makes this host complete all inner checksums, also for hosts that would do it (see remoteSum).
	// It may be set before the first link.
	CompleteChecksums bool

	// OnFits is called by Tick when it is known anew what fits a path whose MTU the kernel has wrong (PeerState.Fits; 0: that is right again),
	// and of a new peer, of which nothing is known yet, 0. It may be set before the first link; nil: nobody is told.
	OnFits func(host netip.Addr, fits int)

	receivers []*Receiver // guarded by mu once Listen has returned
	send      [senders]int
	gso       bool // the kernel has UDP_SEGMENT
	gro       offload.Feature
	failSend  func(hdrs []mmsghdr) (n int, errno syscall.Errno) // set by tests: how many messages the kernel gets, and the error if none
	links     atomic.Pointer[map[linkKey]*Link]                 // an immutable map, replaced by changeLinks
	messages  [headerLen]byte                                   // the VXLAN header of messages between hosts
	rxDropped [dropReasons]atomic.Uint64                        // datagrams, by reason
	drops     atomic.Uint64                                     // drops of receivers that are closed
	atOpen    kernelUDP                                         // the kernel's counters when the VTEP was opened

	// StartReceiver makes a worker read a receiver that is opened after Listen (see Peer.updateReceiver), until stop has
	// returned. It may be set before the first link. If it is nil, Receivers has to be read again after each change of links.
	StartReceiver func(*Receiver) (stop func(), err error)

	mu     sync.Mutex                 // guards receivers, peers and the fields of Peer that say so; held while links is replaced
	peers  map[netip.Addr]*Peer       // guarded by mu
	groups map[netip.Addr]*membership // guarded by mu
}

type linkKey struct {
	vni  uint32
	host netip.Addr
}

// Listen binds the VXLAN port with a number of receiving sockets, one for each worker. The error is EADDRINUSE if the
// port is in use.
func Listen(local netip.AddrPort, sockets int) (*VTEP, error) {
	v := &VTEP{Local: local, peers: make(map[netip.Addr]*Peer), groups: make(map[netip.Addr]*membership)}
	v.atOpen, _ = readKernelUDP(local.Addr().Is6()) // on an error zero: then the counts start at the kernel's
	v.links.Store(&map[linkKey]*Link{})
	var err error
	if v.messages, err = template(hostVNI); err != nil {
		return nil, fmt.Errorf("write the VXLAN header of VNI 0: %w", err)
	}
	for i := range v.send {
		v.send[i] = -1
	}
	if err := v.open(sockets); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func (v *VTEP) open(sockets int) error {
	// With SO_REUSEPORT we would share the port with another program that also sets it. So the first socket is bound
	// without it, to find out that the port is free.
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

// steerFlows makes the kernel select the receiving socket by the source port, which peers choose by the inner flow: so
// one worker reads both directions of a flow, from the tunnel and from the TAPs. If it fails, the kernel selects the
// socket by a hash of its own, which is correct as well.
func (v *VTEP) steerFlows() {
	n := uint32(len(v.receivers))
	const netOff = 1<<32 - 0x100000   // SKF_NET_OFF of linux/filter.h: from the IP header on
	sourcePort := uint32(netOff + 20) // after an IPv4 header without options
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
	zone, _ := strconv.ParseUint(a.Addr().Zone(), 10, 32) // of a group: its link
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: uint32(zone)}
}

// bindSender opens a sending socket on a free port from first to last. It never fragments (RFC 7348 section 4.3) and
// receives nothing: answers go to the VXLAN port.
func bindSender(local netip.Addr, first, last int) (int, error) {
	start := os.Getpid() // any start will do; daemons of one host should not try the same ports first
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
	// Not EADDRINUSE, by which Listen means the VXLAN port.
	return -1, fmt.Errorf("no UDP port from %d to %d is free at %s to send from: see who holds them: ss -uanp", first, last, local)
}

// Receivers are all receiving sockets, for the workers: first those of Listen, in order, then those of single hosts.
func (v *VTEP) Receivers() []*Receiver {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := slices.Clone(v.receivers)
	for _, p := range v.peers {
		if p.receiver != nil {
			all = append(all, p.receiver)
		}
	}
	for _, m := range v.groups {
		all = append(all, m.receiver)
	}
	return all
}

// RxDropped counts the received datagrams that belong to no link, by reason. overflow is those that came faster than
// they were read.
func (v *VTEP) RxDropped() map[string]uint64 {
	m := make(map[string]uint64)
	for r := short; r < dropReasons; r++ {
		m[dropReasonNames[r]] = v.rxDropped[r].Load()
	}
	m["overflow"], _, _ = v.kernelDrops()
	return m
}

// Close closes the sockets. No Drain and no Send may be in progress, nor follow.
func (v *VTEP) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, p := range v.peers {
		errs = append(errs, p.receiver.close())
		p.receiver = nil
	}
	for _, m := range v.groups {
		errs = append(errs, m.receiver.close())
	}
	clear(v.groups)
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

// A Receiver is one socket on the VXLAN port. One worker calls Drain; only it uses the fields below vx.
type Receiver struct {
	v          *VTEP
	fd         int
	stopWorker func() // returned by VTEP.StartReceiver; nil: it was not called
	in         receiver
	vx         layers.VXLAN
	links      map[linkKey]*Link // a snapshot for one Drain
	link       *Link             // of frames
	key        linkKey
	frames     [recvMsgs * maxTrain]ether.Frame
	used       int
}

// Fd is the non-blocking socket.
func (r *Receiver) Fd() int { return r.fd }

// Drain reads the datagrams that have arrived, up to a limit, and delivers their frames to their links, lent for the call.
func (r *Receiver) Drain(arena []byte) error {
	n, errno := r.in.recv(r.fd, arena)
	switch errno {
	case 0:
	case syscall.EAGAIN:
		return nil
	case syscall.EBADF, syscall.ENOTSOCK, syscall.EFAULT, syscall.EINVAL:
		return fmt.Errorf("read from UDP %s: %w", r.v.Local, errno)
	default:
		return nil // an ICMP error, or no memory: that concerns one datagram, not the socket
	}
	r.links, r.link = *r.v.links.Load(), nil
	for i := range n {
		train, about, from := r.in.train(i, arena)
		r.receive(train, about, from.addr())
	}
	r.flush()
	r.links, r.link = nil, nil
	return nil
}

// receive splits one message from host into frames. If the message has a segment size, it is one of two things. Its bytes
// do not tell which, since a container can write what looks like either:
//
//   - a train: datagrams of one size, of any VNI, that this host's kernel or a network card has joined (UDP_GRO), or that
//     the sender's has not cut (UDP_SEGMENT);
//   - one datagram with an inner UDP super-frame that no device has cut, as from a kernel VTEP over a veth. The size is
//     that of its segments, and where a next datagram would begin there is a container's payload.
//
// So it depends on the host. A tapestry cuts what it sends: its trains are trains of independent datagrams. For another
// host that has several networks here, the kernel cuts (see Peer.updateReceiver). If it has only one network, no other
// network can be reached, and the inner lengths decide.
func (r *Receiver) receive(t segments, about received, host netip.Addr) {
	segment, restore := 0, true
	if t.size > 0 && len(t.rest) > t.size {
		peerLink := r.links[linkKey{hostVNI, host}]
		if peerLink == nil { // nor is known what this host sends
			if first := t; decode(first.next(), &r.vx) == accepted {
				r.groupLink(r.vx.VNI, host)
			}
			r.v.rxDropped[noPeer].Add(t.count())
			return
		}
		switch p := peerLink.peer.Load(); {
		case p.isTapestry.Load():
			restore = false
		case p.multipleVNIs.Load(): // it was received before the kernel was told to cut
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
			} else {
				why = r.link.admit(d, &about)
			}
		}
		if why != accepted {
			r.v.rxDropped[why].Add(1)
			continue
		}
		// The VXLAN header, which is not needed any more, becomes the frame's headroom.
		off, partial, mtu := r.link.readFlag(d), flagged(d), int(r.link.mtu.Load())
		f := &r.frames[r.used]
		*f = ether.Lend(d, off)
		long := segment > 0 || len(d)-headerLen-ether.HeaderLen > mtu
		if restore && (long || !off.PartialChecksum) || partial && !off.PartialChecksum {
			f.Off = ether.Offload{} // RestoreOffload finds a partial checksum as well, and an uncut super-frame
			if f.RestoreOffload(mtu, segment); f.Off == (ether.Offload{}) {
				f.Off = off
			}
		}
		if r.used++; r.used == len(r.frames) {
			r.flush()
		}
	}
}

// setLink sets the link of the next frames, and delivers those of the previous one.
func (r *Receiver) setLink(vni uint32, host netip.Addr) {
	if k := (linkKey{vni, host}); r.link == nil || k != r.key {
		r.flush()
		if r.link, r.key = r.links[k], k; r.link == nil {
			r.link = r.groupLink(vni, host)
		}
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
	r.fd = -1 // the number may be reused for another file
	return err
}

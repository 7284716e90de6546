package tunnel

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"golang.org/x/sys/unix"
)

// ErrMangled is why no trains are sent to a host though the kernel takes them.
var ErrMangled = errors.New("the peer does not get them as they were sent")

// ErrFlagLost is why checksums are completed here though the host would do it.
var ErrFlagLost = errors.New("the way there does not keep their flag")

// probeSenders sees whether the kernel has UDP_SEGMENT (since Linux 4.18).
func (v *VTEP) probeSenders() {
	v.gso = unix.SetsockoptInt(v.send[0], unix.SOL_UDP, unix.UDP_SEGMENT, 0) == nil
}

// enableGRO asks for UDP_GRO (since Linux 5.0) on a receiving socket. Without it, datagrams come one by one.
func (v *VTEP) enableGRO(fd int) {
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		v.gro.Block(fmt.Errorf("set UDP_GRO: %w: %w", err, offload.ErrUnsupported))
	}
}

// transmit is sendmmsg on one of the sending sockets.
func (v *VTEP) transmit(socket int, hdrs []mmsghdr) (int, syscall.Errno) {
	if v.failSend != nil {
		n, errno := v.failSend(hdrs)
		if n == 0 {
			return 0, errno
		}
		hdrs = hdrs[:n]
	}
	return sendmmsg(v.send[socket], hdrs)
}

// GRO tells whether the kernel hands trains over as they came.
func (v *VTEP) GRO() offload.Status { return v.gro.Status() }

// addPeer makes a new link's host a Peer, if it is none yet, and tells the link what is known of trains there.
func (v *VTEP) addPeer(l *Link, links map[linkKey]*Link) error {
	p := v.peers[l.Host.Addr()]
	if p == nil {
		var err error
		if p, err = v.newPeer(l.Host); err != nil {
			return err
		}
		v.peers[l.Host.Addr()] = p
		links[linkKey{hostVNI, l.Host.Addr()}] = p.trains
	}
	p.links++
	if l.Host != p.Host {
		p.otherPort++
	}
	l.peer.Store(p)
	p.updateLink(l)
	p.updateReceiver()
	return nil
}

// removePeer ends a Peer with the last link to its port.
func (v *VTEP) removePeer(l *Link, links map[linkKey]*Link) error {
	var rest []*Link
	p := v.peers[l.Host.Addr()]
	if p == nil {
		return nil
	}
	p.links--
	if l.Host != p.Host {
		p.otherPort--
	}
	for k, other := range links {
		if k.host != l.Host.Addr() || k.vni == hostVNI {
			continue
		}
		if other.Host == p.Host {
			p.updateReceiver()
			return nil
		}
		rest = append(rest, other)
	}
	delete(links, linkKey{hostVNI, l.Host.Addr()})
	delete(v.peers, l.Host.Addr())
	if p.receiver != nil {
		p.receiver.drainAndClose()
	}
	for _, other := range rest { // at another port of the same address: another daemon, for all we know
		if err := v.addPeer(other, links); err != nil {
			return err
		}
	}
	return nil
}

// readFlag reads from a header what the host left open: if it was told that we add it up. From all others those bits are
// reserved, and RFC 7348 section 5 wants them ignored. In talk the flag is only looked at.
func (l *Link) readFlag(header []byte) ether.Offload {
	if !flagged(header) || l.VNI != hostVNI && !l.peer.Load().mayRemoteSum.Load() {
		return ether.Offload{}
	}
	return remoteSum(header)
}

// updateLink brings a link's trains and open checksums in line with what is known of its host. Of another
// port at the host's address nothing is known.
func (p *Peer) updateLink(l *Link) {
	same := l.Host == p.Host
	l.remoteSum.Store(same && p.remoteSum.Enabled() && !p.v.CompleteChecksums)
	switch {
	case !p.v.gso:
		l.gso.Block(offload.ErrUnsupported)
	case same && p.trainsOff.Load():
		l.gso.Block(ErrMangled)
	default:
		l.gso.Enable()
	}
}

// updateLinks does so for every link to the host.
func (p *Peer) updateLinks() {
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	for k, l := range *p.v.links.Load() {
		if k.host == p.Host.Addr() && k.vni != hostVNI {
			p.updateLink(l)
		}
	}
}

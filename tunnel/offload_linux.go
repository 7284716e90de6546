package tunnel

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// ErrMangled is why no trains are sent to a host though the kernel takes them.
var ErrMangled = errors.New("the peer does not receive trains as they were sent")

// ErrFlagLost is why checksums are completed here though the host would do it.
var ErrFlagLost = errors.New("the path does not keep the flag that such checksums need")

// probeSenders finds out whether the kernel has UDP_SEGMENT (since Linux 4.18).
func (v *VTEP) probeSenders() {
	v.gso = unix.SetsockoptInt(v.send[0], unix.SOL_UDP, unix.UDP_SEGMENT, 0) == nil
}

// enableGRO sets UDP_GRO (since Linux 5.0) on a receiving socket. Without it, datagrams are received one by one.
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

// GRO tells whether the kernel passes trains to us as one message.
func (v *VTEP) GRO() offload.Status { return v.gro.Status() }

// addPeer makes the Peer of a new link's host, if there is none yet, and sets the link's offloads. v.mu is held.
func (v *VTEP) addPeer(l *Link, links map[linkKey]*Link) {
	p := v.peers[l.Host.Addr()]
	if p == nil {
		p = v.newPeer(l.Host)
		v.peers[l.Host.Addr()] = p
		links[linkKey{hostVNI, l.Host.Addr()}] = p.trains
	}
	p.links = append(p.links, l)
	if l.Host != p.Host {
		p.otherPort++
	}
	l.peer.Store(p)
	p.updateLink(l)
	p.updateReceiver()
}

// removePeer removes the Peer of a closed link, if that was the last link to the Peer's port. v.mu is held.
func (v *VTEP) removePeer(l *Link, links map[linkKey]*Link) {
	p := v.peers[l.Host.Addr()]
	if p == nil {
		return
	}
	p.links = slices.DeleteFunc(p.links, func(other *Link) bool { return other == l })
	if l.Host != p.Host {
		p.otherPort--
	}
	if len(p.links) > p.otherPort {
		p.updateReceiver()
		return
	}
	delete(links, linkKey{hostVNI, l.Host.Addr()})
	delete(v.peers, l.Host.Addr())
	if p.receiver != nil {
		p.receiver.drainAndClose()
	}
	for _, other := range p.links { // at another port of the same address, which may be another daemon
		v.addPeer(other, links)
	}
}

// readFlag reads from a VXLAN header which checksum is partial, if the host was told that we complete them. From all
// other hosts these bits are reserved and must be ignored (RFC 7348 section 5). In messages between hosts it is always read.
func (l *Link) readFlag(header []byte) ether.Offload {
	if !flagged(header) || l.VNI != hostVNI && !l.peer.Load().mayRemoteSum.Load() {
		return ether.Offload{}
	}
	return remoteSum(header)
}

// updateLink enables or disables a link's trains and partial checksums by what is known of its host. Of another port at
// the host's address nothing is known. v.mu is held.
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

// updateLinks does so for all links to the host.
func (p *Peer) updateLinks() {
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	for _, l := range p.links {
		p.updateLink(l)
	}
}

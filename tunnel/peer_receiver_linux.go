package tunnel

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// bindReceiver opens a socket on the VXLAN port, which this VTEP's other sockets share. A UDP checksum of zero has to be
// accepted (RFC 7348 section 5). Over IPv6 (RFC 6935) the kernel does so with the option UDP_NO_CHECK6_RX only. With each message the
// kernel tells its traffic class, and whether it came in fragments (since Linux 4.11).
func bindReceiver(local netip.AddrPort) (int, error) {
	fd, err := bind(local, true)
	if err != nil {
		return -1, err
	}
	if local.Addr().Is4() {
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVTOS, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVFRAGSIZE, 1)
	} else {
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_NO_CHECK6_RX, 1), unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1))
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVFRAGSIZE, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("accept datagrams without checksum, and read the traffic class, on UDP %s: %w", local, err)
	}
	return fd, nil
}

// updateReceiver opens a receiving socket for the host alone, while the host has links of several VNIs and is not known to cut
// what it sends; otherwise it closes it. That socket has no UDP_GRO: the kernel joins nothing for it, and cuts what arrives
// joined or uncut (udp(7)), for only the kernel knows where. If it fails it is tried again with the next Tick; until then
// trains from the host are dropped as ambiguous. v.mu is held.
func (p *Peer) updateReceiver() {
	p.mu.Lock()
	p.isTapestry.Store(p.answers && p.otherPort == 0)
	p.mu.Unlock()
	p.multipleVNIs.Store(len(p.links) > 1)
	switch want := len(p.links) > 1 && !p.isTapestry.Load(); {
	case want && p.receiver == nil:
		p.receiver, _ = p.v.openPeerReceiver(p.Host.Addr())
	case !want && p.receiver != nil:
		p.receiver.drainAndClose()
		p.receiver = nil
	}
}

// openPeerReceiver opens a socket that is connected to a host, at any port: the kernel delivers the host's datagrams to it
// rather than to sockets that are not connected.
func (v *VTEP) openPeerReceiver(host netip.Addr) (*Receiver, error) {
	fd, err := bindReceiver(v.Local)
	if err != nil {
		return nil, err
	}
	r := &Receiver{v: v, fd: fd}
	if err = unix.Connect(fd, toSockaddr(netip.AddrPortFrom(host, 0))); err == nil && v.StartReceiver != nil {
		r.stopWorker, err = v.StartReceiver(r)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return r, nil
}

// drainAndClose delivers what the socket has received, and closes it.
func (r *Receiver) drainAndClose() {
	if unix.Connect(r.fd, toSockaddr(r.v.Local)) == nil { // nothing is sent from there
		if r.stopWorker != nil {
			r.stopWorker()
			r.stopWorker = nil
		}
		arena := make([]byte, recvMsgs*recvRoom)
		for n := 1; n > 0; n, _ = unix.Poll([]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}, 0) {
			if r.Drain(arena) != nil {
				break
			}
		}
	}
	_ = r.close()
}

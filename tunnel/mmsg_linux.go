package tunnel

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of sendmmsg(2) and recvmmsg(2).
type mmsghdr struct {
	hdr syscall.Msghdr
	len uint32
	_   [4]byte
}

// sockaddr is a socket address in the kernel's form, of either family.
type sockaddr struct {
	raw syscall.RawSockaddrInet6 // the longer one; an IPv4 address uses its first bytes
	len uint32
}

func rawSockaddr(a netip.AddrPort) (s sockaddr) {
	port := (*[2]byte)(unsafe.Pointer(&s.raw.Port)) // the same place in both
	port[0], port[1] = byte(a.Port()>>8), byte(a.Port())
	if a.Addr().Is4() {
		s4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		s4.Family, s4.Addr = syscall.AF_INET, a.Addr().As4()
		s.len = syscall.SizeofSockaddrInet4
		return s
	}
	s.raw.Family, s.raw.Addr = syscall.AF_INET6, a.Addr().As16()
	s.len = syscall.SizeofSockaddrInet6
	return s
}

func (s *sockaddr) ptr() *byte { return (*byte)(unsafe.Pointer(&s.raw)) }

// addr is the address without the port; not valid for a family that is not IP.
func (s *sockaddr) addr() netip.Addr {
	switch s.raw.Family {
	case syscall.AF_INET:
		return netip.AddrFrom4((*syscall.RawSockaddrInet4)(unsafe.Pointer(&s.raw)).Addr)
	case syscall.AF_INET6:
		return netip.AddrFrom16(s.raw.Addr).Unmap()
	}
	return netip.Addr{}
}

const (
	recvMsgs    = 7 // as many of the longest datagrams as a worker's arena holds
	recvRoom    = 1 << 16
	controlRoom = 64
)

// receiver is the scratch of recvmmsg.
type receiver struct {
	hdrs    [recvMsgs]mmsghdr
	iovs    [recvMsgs]syscall.Iovec
	froms   [recvMsgs]sockaddr
	control [recvMsgs][controlRoom]byte
}

// recv reads up to recvMsgs trains into arena. EAGAIN: there is none.
func (r *receiver) recv(fd int, arena []byte) (int, syscall.Errno) {
	msgs := min(recvMsgs, len(arena)/recvRoom)
	for i := range msgs {
		r.iovs[i].Base = &arena[i*recvRoom]
		r.iovs[i].SetLen(recvRoom)
		h := &r.hdrs[i].hdr
		h.Name = r.froms[i].ptr()
		h.Namelen = syscall.SizeofSockaddrInet6
		h.Iov, h.Iovlen = &r.iovs[i], 1
		h.Control = &r.control[i][0]
		h.SetControllen(controlRoom)
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.hdrs[0])),
			uintptr(msgs), syscall.MSG_DONTWAIT, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// train gives the i-th message that recv has read, and its sender.
func (r *receiver) train(i int, arena []byte) (segments, *sockaddr) {
	h := &r.hdrs[i]
	b := arena[i*recvRoom:][:h.len:h.len]
	return segments{b, groSize(r.control[i][:h.hdr.Controllen])}, &r.froms[i]
}

// socketDrops is the number of datagrams that the kernel has dropped at the socket (sock_diag(7), SK_MEMINFO_DROPS).
func socketDrops(fd int) uint64 {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	const drops = 8
	_, _, errno := syscall.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return uint64(info[drops])
}

const segmentControl = 24 // CMSG_SPACE(sizeof(uint16_t))

// setSegment writes the control message that makes the kernel send one message as many datagrams (udp(7), UDP_SEGMENT).
func setSegment(b *[segmentControl]byte, size uint16) {
	h := (*syscall.Cmsghdr)(unsafe.Pointer(b))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(syscall.SizeofCmsghdr + 2)
	*(*uint16)(unsafe.Pointer(&b[syscall.SizeofCmsghdr])) = size
}

// sendmmsg sends the messages in order and returns how many were sent. An error is about the first one that was not.
func sendmmsg(fd int, hdrs []mmsghdr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0])),
			uintptr(len(hdrs)), syscall.MSG_DONTWAIT, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

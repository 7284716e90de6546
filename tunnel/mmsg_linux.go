package tunnel

import (
	"encoding/binary"
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
	controlRoom = 128
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

// train gives the i-th message that recv has read, what the kernel says of it, and its sender.
func (r *receiver) train(i int, arena []byte) (segments, received, *sockaddr) {
	h := &r.hdrs[i]
	b, about := arena[i*recvRoom:][:h.len:h.len], readControl(r.control[i][:h.hdr.Controllen])
	return segments{b, about.size}, about, &r.froms[i]
}

// received is what the kernel says of a message beside its bytes.
type received struct {
	size       int   // of a train's datagrams, 0: it is no train
	class      uint8 // traffic class of the outer IP header
	fragmented bool  // it came in fragments, which the kernel has put together
}

// readControl reads a message's control data (cmsg(3)). struct cmsghdr: u64 len, u32 level, u32 type, on the 64-bit systems that we
// build for. IPv4's class is one byte (ip(7), IP_TOS), all else an int.
func readControl(control []byte) (r received) {
	const head = 16
	for len(control) >= head {
		n := binary.NativeEndian.Uint64(control)
		if n < head || n > uint64(len(control)) {
			return r
		}
		value := control[head:n]
		switch [2]uint32{binary.NativeEndian.Uint32(control[8:]), binary.NativeEndian.Uint32(control[12:])} {
		case [2]uint32{unix.SOL_IP, unix.IP_TOS}:
			if len(value) >= 1 {
				r.class = value[0]
			}
		case [2]uint32{unix.SOL_UDP, unix.UDP_GRO}:
			if len(value) >= 4 {
				r.size = int(int32(binary.NativeEndian.Uint32(value)))
			}
		case [2]uint32{unix.SOL_IPV6, unix.IPV6_TCLASS}:
			if len(value) >= 4 {
				r.class = uint8(binary.NativeEndian.Uint32(value))
			}
		case [2]uint32{unix.SOL_IP, unix.IP_RECVFRAGSIZE}, [2]uint32{unix.SOL_IPV6, unix.IPV6_RECVFRAGSIZE}:
			r.fragmented = true
		}
		control = control[min(uint64(len(control)), (n+7)&^7):]
	}
	return r
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

// A sendControl is room for the control messages of one message to send, each of CMSG_SPACE(sizeof(int)) or less.
type sendControl struct {
	buf [3 * cmsgSpace]byte
	n   int
}

const cmsgSpace = 24

// add adds a control message with an int.
func (c *sendControl) add(level, typ int32, value int32) { c.put(level, typ, 4, value) }

// addSegment makes the kernel send the message as datagrams of that size (udp(7), UDP_SEGMENT). It wants an uint16.
func (c *sendControl) addSegment(size int) { c.put(unix.SOL_UDP, unix.UDP_SEGMENT, 2, int32(size)) }

// addMark sets the outer IP header's fields; 0 is the socket's own.
func (c *sendControl) addMark(m mark, v6 bool) {
	level, class, ttl := int32(unix.SOL_IP), int32(unix.IP_TOS), int32(unix.IP_TTL)
	if v6 {
		level, class, ttl = unix.SOL_IPV6, unix.IPV6_TCLASS, unix.IPV6_HOPLIMIT
	}
	if m.class != 0 {
		c.add(level, class, int32(m.class))
	}
	if m.ttl != 0 {
		c.add(level, ttl, int32(m.ttl))
	}
}

func (c *sendControl) put(level, typ int32, size int, value int32) {
	b := c.buf[c.n:][:cmsgSpace]
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(syscall.SizeofCmsghdr + size)
	if size == 2 {
		*(*uint16)(unsafe.Pointer(&b[syscall.SizeofCmsghdr])) = uint16(value)
	} else {
		*(*int32)(unsafe.Pointer(&b[syscall.SizeofCmsghdr])) = value
	}
	c.n += cmsgSpace
}

// attach makes them those of a message; without any, it has none.
func (c *sendControl) attach(h *syscall.Msghdr) {
	h.Control = nil
	if c.n > 0 {
		h.Control = &c.buf[0]
	}
	h.SetControllen(c.n)
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

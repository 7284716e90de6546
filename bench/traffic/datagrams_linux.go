package traffic

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A datagram starts with its trial, its flow and its number in the flow, 32 bits each in network order; the rest is zero.
const (
	headerSize = 12
	maxPayload = 1472 // of an MTU of 1500: RFC 791, RFC 768
	maxTrain   = 64   // UDP_MAX_SEGMENTS of kernels before 6.9
	recvRoom   = 1 << 16
	burst      = 64 // messages in one sendmmsg or recvmmsg
)

// A sender sends the datagrams of its flows, each from a socket of its own, in sendmmsg calls of up to burst messages.
// A message is one datagram; or a train of them, which the kernel cuts (udp(7), UDP_SEGMENT).
type sender struct {
	fds   []int // by flow
	size  int
	train int      // datagrams in a message
	next  []uint32 // by flow, the number of the next datagram
	hdrs  [burst]mmsghdr
	iovs  [burst]unix.Iovec
	room  []byte
}

func newSender(address string, flows, size, train int) (*sender, error) {
	s := &sender{size: size, train: train, next: make([]uint32, flows), room: make([]byte, burst*train*size)}
	for i := range s.hdrs {
		s.iovs[i].Base = &s.room[i*train*size]
		s.iovs[i].SetLen(train * size)
		s.hdrs[i].hdr.Iov = &s.iovs[i]
		s.hdrs[i].hdr.SetIovlen(1)
	}
	for range flows {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return nil, s.fail(err)
		}
		fd, err := takeDescriptor(conn.(*net.UDPConn))
		if err != nil {
			return nil, s.fail(err)
		}
		s.fds = append(s.fds, fd)
		if train == 1 {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size); err != nil {
			return nil, s.fail(os.NewSyscallError("set UDP_SEGMENT", err))
		}
	}
	return s, nil
}

func (s *sender) fail(err error) error {
	s.close()
	return err
}

func (s *sender) close() {
	for _, fd := range s.fds {
		syscall.Close(fd)
	}
	s.fds = nil
}

// reset starts all flows with number 0.
func (s *sender) reset() { clear(s.next) }

// send sends up to n messages of a flow, and returns the number of datagrams in those that the kernel accepted.
func (s *sender) send(trial uint32, flow, n int) (int, error) {
	n = min(n, burst)
	for i := range n * s.train {
		b := s.room[i*s.size:]
		binary.BigEndian.PutUint32(b, trial)
		binary.BigEndian.PutUint32(b[4:], uint32(flow))
		binary.BigEndian.PutUint32(b[8:], s.next[flow]+uint32(i))
	}
	for {
		took, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fds[flow]), uintptr(unsafe.Pointer(&s.hdrs)), uintptr(n), 0, 0, 0)
		switch errno {
		case 0:
			s.next[flow] += uint32(int(took) * s.train)
			return int(took) * s.train, nil
		case syscall.EINTR, syscall.ENOBUFS: // ENOBUFS: an egress queue was full; try again
			continue
		}
		return 0, fmt.Errorf("send datagrams: %w", os.NewSyscallError("sendmmsg", errno))
	}
}

// A receiver reads datagrams with recvmmsg; or trains of them, as the kernel joined them (udp(7), UDP_GRO).
type receiver struct {
	fd      int
	hdrs    [burst]mmsghdr
	iovs    [burst]unix.Iovec
	control [burst][32]byte
	room    []byte
}

// receiveBuffer limits what waits in the socket while the receiver does not run: about 10,000 small datagrams, some tens of ms.
// With more, loss would become delay.
const receiveBuffer = 8 << 20

// newReceiver takes over a bound socket.
func newReceiver(fd int, trains bool) (*receiver, error) {
	r := &receiver{fd: fd}
	size := 2048
	if trains {
		size = recvRoom
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
			return nil, os.NewSyscallError("set UDP_GRO", err)
		}
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil { // needs CAP_NET_ADMIN
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return nil, os.NewSyscallError("set SO_RCVBUF", err)
		}
	}
	r.room = make([]byte, burst*size)
	for i := range r.hdrs {
		r.iovs[i].Base = &r.room[i*size]
		r.iovs[i].SetLen(size)
		r.hdrs[i].hdr.Iov = &r.iovs[i]
		r.hdrs[i].hdr.SetIovlen(1)
	}
	return r, nil
}

// receive calls each with every datagram of the messages that wait. EAGAIN: none waits.
func (r *receiver) receive(each func(datagram []byte)) syscall.Errno {
	for i := range r.hdrs {
		h := &r.hdrs[i].hdr
		h.Control = &r.control[i][0]
		h.SetControllen(len(r.control[i]))
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.hdrs)), burst, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return errno
	}
	size := len(r.room) / burst
	for i := range int(n) {
		b := r.room[i*size:][:min(int(r.hdrs[i].len), size)]
		segment := groSize(r.control[i][:min(int(r.hdrs[i].hdr.Controllen), len(r.control[i]))])
		if segment <= 0 {
			segment = len(b)
		}
		for len(b) > 0 {
			each(b[:min(segment, len(b))])
			b = b[min(segment, len(b)):]
		}
	}
	return 0
}

// groSize finds the size of a train's datagrams in a control message, 0 if it is none.
func groSize(control []byte) int {
	if len(control) < syscall.SizeofCmsghdr+4 {
		return 0
	}
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&control[0]))
	if h.Level != unix.SOL_UDP || h.Type != unix.UDP_GRO {
		return 0
	}
	return int(*(*int32)(unsafe.Pointer(&control[syscall.SizeofCmsghdr])))
}

package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The probes test what a VTEP needs of the kernel, on sockets of their own.

// Sockets is what the kernel grants to UDP sockets as a VTEP opens them.
type Sockets struct {
	Wanted        int   // bytes of buffer that a VTEP requests, for each direction
	Receive, Send int   // bytes granted
	GSO           error // why UDP_SEGMENT does not work; nil: it does
	GRO           error // why UDP_GRO does not work; nil: it does
}

// ProbeSockets opens two sockets on the loopback address and sends a train from one to the other.
func ProbeSockets() (Sockets, error) {
	s := Sockets{Wanted: bufferSize}
	var fds, ports [2]int
	for i := range fds {
		fd, err := bind(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0), false)
		if err != nil {
			return s, err
		}
		defer unix.Close(fd)
		at, err := unix.Getsockname(fd)
		if err != nil {
			return s, fmt.Errorf("read a socket's address: %w", err)
		}
		fds[i], ports[i] = fd, at.(*unix.SockaddrInet4).Port
	}
	for option, granted := range map[int]*int{unix.SO_RCVBUF: &s.Receive, unix.SO_SNDBUF: &s.Send} {
		n, err := unix.GetsockoptInt(fds[0], unix.SOL_SOCKET, option)
		if err != nil {
			return s, fmt.Errorf("read a socket's buffer size: %w", err)
		}
		*granted = n / 2 // the kernel doubles what it grants, for its own needs (socket(7))
	}
	to := &unix.SockaddrInet4{Port: ports[1], Addr: [4]byte{127, 0, 0, 1}}
	s.GSO = tryTrain(fds[0], fds[1], to, false)
	if s.GRO = s.GSO; s.GSO == nil {
		s.GRO = tryTrain(fds[0], fds[1], to, true)
	}
	return s, nil
}

// tryTrain sends three datagrams as one message, and receives them one by one, or joined to one.
func tryTrain(from, at int, to unix.Sockaddr, joined bool) error {
	const size, datagrams = 1000, 3
	train := make([]byte, size*datagrams)
	for i := range train {
		train[i] = byte(i * 7 >> 3)
	}
	if joined {
		if err := unix.SetsockoptInt(at, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
			return fmt.Errorf("ask for UDP_GRO: %w", err)
		}
	}
	var control sendControl
	control.addSegment(size)
	if _, err := unix.SendmsgN(from, train, control.buf[:control.n], to, 0); err != nil {
		return fmt.Errorf("send a train with UDP_SEGMENT: %w", err)
	}
	want, part := datagrams, size
	if joined {
		want, part = 1, len(train)
	}
	got := make([]byte, 2*len(train))
	for i := range want {
		n, err := receive(at, got)
		if err != nil {
			return fmt.Errorf("receive datagram %d of a train: %w", i+1, err)
		}
		if !bytes.Equal(got[:n], train[i*part:][:part]) {
			return fmt.Errorf("a train of %d datagrams of %d bytes arrives mangled: datagram %d has %d bytes", datagrams, size, i+1, n)
		}
	}
	return nil
}

// receive waits up to a second for a datagram.
func receive(fd int, b []byte) (int, error) {
	for end := time.Now().Add(time.Second); ; {
		n, _, err := unix.Recvfrom(fd, b, 0)
		left := time.Until(end)
		switch {
		case err == nil || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return n, err
		case left <= 0:
			return 0, errors.New("nothing comes within a second")
		}
		// A signal of the Go runtime may interrupt it: then it is tried again.
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	}
}

// ProbePort returns why a VTEP cannot have this address and port now: EADDRINUSE, EADDRNOTAVAIL or another; nil if it can.
func ProbePort(local netip.AddrPort) error {
	fd, err := bind(local, false)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

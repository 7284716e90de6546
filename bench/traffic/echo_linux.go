package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

const (
	echoSize = 64 // bytes of request and of response
	echoLost = 200 * time.Millisecond
)

// echoServer answers on one connection, or from one UDP socket, until the other agent closes the control connection.
func echoServer(ctx context.Context, c control, j Job) error {
	ctx, stop := c.whileConnected(ctx)
	defer stop()
	open := echoDatagrams
	if j.Network == "tcp" {
		open = echoConnection
	}
	fd, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		answerEchoes(ctx, fd)
	}()
	<-ctx.Done()
	syscall.Shutdown(fd, syscall.SHUT_RDWR) // wakes the thread that waits in it; an error means that it has ended
	<-answered
	return nil
}

func echoDatagrams(_ context.Context, c control) (int, error) {
	fd, port, err := boundSocket(c.local())
	if err != nil {
		return -1, err
	}
	if err = receiveTimeout(fd, echoLost); err == nil {
		err = c.send(message{Port: port})
	}
	if err != nil {
		syscall.Close(fd)
	}
	return fd, err
}

func echoConnection(ctx context.Context, c control) (int, error) {
	l, err := tcpListener(ctx, c.local())
	if err != nil {
		return -1, err
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(10 * time.Second))
	defer context.AfterFunc(ctx, func() { l.SetDeadline(time.Now()) })()
	if err := c.send(message{Port: l.Addr().(*net.TCPAddr).Port}); err != nil {
		return -1, err
	}
	conn, err := l.AcceptTCP() // with TCP_NODELAY, which is Go's default
	if err != nil {
		return -1, fmt.Errorf("wait for the flow: %w", err)
	}
	return takeDescriptor(conn)
}

// boundSocket is a UDP socket that is bound to address, and blocks.
func boundSocket(address string) (fd, port int, err error) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return -1, 0, err
	}
	port = conn.LocalAddr().(*net.UDPAddr).Port
	fd, err = takeDescriptor(conn.(*net.UDPConn))
	return fd, port, err
}

// answerEchoes sends back all data to its sender.
func answerEchoes(ctx context.Context, fd int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var buf [2048]byte
	var from syscall.RawSockaddrInet6 // the longer one
	for {
		size := uint32(unsafe.Sizeof(from))
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf)), uintptr(len(buf)),
			0, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
		switch {
		case errno == syscall.EINTR, errno == syscall.EAGAIN && ctx.Err() == nil:
			continue
		case errno != 0 || n == 0:
			return
		}
		// On a connected socket size is 0, and the address is ignored.
		_, _, errno = syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&buf)), n,
			syscall.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&from)), uintptr(size))
		if errno != 0 && ctx.Err() != nil {
			return
		}
	}
}

// echoClient makes round trips, one at a time, and measures each.
func echoClient(ctx context.Context, data string, j Job) (Answer, error) {
	conn, err := dialer.DialContext(ctx, j.Network, data)
	if err != nil {
		return Answer{}, err
	}
	fd, err := takeDescriptor(conn.(syscallConn))
	if err != nil {
		return Answer{}, err
	}
	defer syscall.Close(fd)
	if err := receiveTimeout(fd, echoLost); err != nil {
		return Answer{}, err
	}
	defer context.AfterFunc(ctx, func() { syscall.Shutdown(fd, syscall.SHUT_RDWR) })()
	p := pinger{fd: fd, datagrams: j.Network == "udp", every: j.Every}
	warm := min(j.For/10, 100*time.Millisecond)
	if _, err := p.run(warm); err != nil {
		return Answer{}, err
	}
	p.lost = 0
	before, err := CPUSeconds()
	if err != nil {
		return Answer{}, err
	}
	times, err := p.run(j.For - warm)
	if err != nil {
		return Answer{}, err
	}
	after, err := CPUSeconds()
	if err != nil {
		return Answer{}, err
	}
	if len(times) == 0 || p.lost*100 > len(times) {
		return Answer{}, fmt.Errorf("%d round trips, and %d were lost", len(times), p.lost)
	}
	a := summary(times)
	a.CPU = after - before
	return a, nil
}

type syscallConn interface {
	net.Conn
	syscall.Conn
}

// A pinger is the client's end of an echo.
type pinger struct {
	fd        int
	datagrams bool
	every     time.Duration // between two requests
	seq       uint64
	lost      int
	out, in   [echoSize]byte
}

// run returns the time of each round trip within d, in ns.
func (p *pinger) run(d time.Duration) ([]uint32, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	times := make([]uint32, 0, d/(4*time.Microsecond)) // no round trip is faster
	for began, at := time.Now(), time.Duration(0); at < d && len(times) < cap(times); {
		p.seq++
		binary.BigEndian.PutUint64(p.out[:], p.seq)
		answered, err := p.once()
		if err != nil {
			return nil, err
		}
		now := time.Since(began)
		if answered {
			times = append(times, uint32(min(now-at, 1<<32-1)))
		} else {
			p.lost++
		}
		if at = now; p.every > 0 {
			pause := syscall.NsecToTimespec(p.every.Nanoseconds())
			_, _, _ = syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
			at = time.Since(began)
		}
	}
	return times, nil
}

// once makes one round trip. It returns false if no answer came in time: a datagram may be lost.
func (p *pinger) once() (bool, error) {
	_, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(p.fd), uintptr(unsafe.Pointer(&p.out)), echoSize)
	if errno != 0 && errno != syscall.EINTR {
		return false, fmt.Errorf("send a request: %w", os.NewSyscallError("write", errno))
	}
	for got := 0; got < echoSize; {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(p.fd), uintptr(unsafe.Pointer(&p.in[got])), uintptr(echoSize-got))
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN && p.datagrams:
			return false, nil
		case errno == syscall.EAGAIN:
			continue // TCP retransmits
		case errno != 0:
			return false, fmt.Errorf("wait for a response: %w", os.NewSyscallError("read", errno))
		case n == 0:
			return false, errors.New("the other end closed the connection")
		}
		if got += int(n); p.datagrams && (got < echoSize || binary.BigEndian.Uint64(p.in[:]) != p.seq) {
			got = 0 // a late answer to an earlier request
		}
	}
	return true, nil
}

// summary sorts times, in ns, of which there is at least one, and returns their percentiles and distribution.
func summary(times []uint32) Answer {
	slices.Sort(times)
	at := func(share float64) float64 {
		return float64(times[min(len(times)-1, int(share*float64(len(times))))]) / 1e3
	}
	return Answer{P50: at(0.5), P99: at(0.99), P999: at(0.999), Count: len(times), CDF: distribution(times)}
}

// distribution reduces sorted times, in ns, to at most 200 points: a hundred for the first 99 %, and as many for the rest,
// closer and closer to the end, as a plot with a logarithmic scale needs them.
func distribution(times []uint32) []Point {
	shares := make([]float64, 0, 200)
	for i := range 100 {
		shares = append(shares, float64(i)/100)
	}
	for rest, i := 0.01, 0; i < 99; i++ {
		shares = append(shares, 1-rest)
		rest *= 0.9
	}
	shares = append(shares, 1)
	var points []Point
	for _, s := range shares {
		i := min(len(times)-1, int(s*float64(len(times))))
		for i+1 < len(times) && times[i+1] == times[i] {
			i++ // the share of those that took no longer
		}
		p := Point{X: float64(times[i]) / 1e3, Y: float64(i+1) / float64(len(times))}
		if len(points) == 0 || points[len(points)-1] != p {
			points = append(points, p)
		}
	}
	return points
}

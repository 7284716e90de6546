package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// A Direction is that of the data: Forward is from container 1, whose agent does the job, to container 2.
type Direction string

const (
	Forward Direction = "forward"
	Reverse Direction = "reverse"
	Both    Direction = "both" // as many flows each way
)

// A flow is one end of a TCP connection that carries data in one direction. A locked thread moves it with blocking calls of
// 128 KiB, on a socket with default settings, as iperf3 does.
type flow struct {
	fd    int
	sends bool
	bytes atomic.Int64
	ended atomic.Bool
	_     [40]byte // so that the next flow's counter is in another cache line
}

func (f *flow) move() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer f.ended.Store(true)
	call := uintptr(syscall.SYS_READ)
	if f.sends {
		call = syscall.SYS_WRITE
	}
	for buf := make([]byte, 128<<10); ; {
		n, _, errno := syscall.RawSyscall(call, uintptr(f.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		switch {
		case errno == syscall.EINTR:
		case errno != 0 || n == 0:
			return
		default:
			f.bytes.Add(int64(n))
		}
	}
}

// flows are this end of all connections of a job.
type flows struct {
	all []*flow
	wg  sync.WaitGroup
}

// add takes over conn.
func (fs *flows) add(conn *net.TCPConn, sends bool) error {
	if err := conn.SetNoDelay(false); err != nil { // Go sets it by default, other programs do not
		return err
	}
	fd, err := takeDescriptor(conn)
	if err == nil {
		fs.all = append(fs.all, &flow{fd: fd, sends: sends})
	}
	return err
}

func (fs *flows) start() {
	for _, f := range fs.all {
		fs.wg.Go(f.move)
	}
}

// close ends the flows.
func (fs *flows) close() {
	for _, f := range fs.all {
		syscall.Shutdown(f.fd, syscall.SHUT_RDWR) // wakes the thread that waits in it; an error means that it has ended
	}
	fs.wg.Wait()
	for _, f := range fs.all {
		syscall.Close(f.fd)
	}
	fs.all = nil
}

// A reading is the state of the flows at one time.
type reading struct {
	at    time.Time
	bytes int64
	cpu   float64
}

func (fs *flows) read() (r reading, err error) {
	r.cpu, err = CPUSeconds()
	r.at = time.Now()
	for _, f := range fs.all {
		if !f.sends {
			r.bytes += f.bytes.Load()
		}
		if f.ended.Load() {
			return r, errors.New("a flow ended too early")
		}
	}
	return r, err
}

// measure counts the bytes that arrive within d, without its first tenth (0.3 s at most), in which windows grow.
func (fs *flows) measure(ctx context.Context, d time.Duration) (bytes int64, took time.Duration, cpu float64, err error) {
	grow := min(d/10, 300*time.Millisecond)
	if err := Sleep(ctx, grow); err != nil {
		return 0, 0, 0, err
	}
	a, err := fs.read()
	if err != nil {
		return 0, 0, 0, err
	}
	if err := Sleep(ctx, d-grow); err != nil {
		return 0, 0, 0, err
	}
	b, err := fs.read()
	return b.bytes - a.bytes, b.at.Sub(a.at), b.cpu - a.cpu, err
}

// Sleep sleeps for d, or until ctx ends, which is an error.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// The first byte of a connection says who sends.
const (
	clientSends = 'f'
	serverSends = 'r'
)

// streamServer moves data until the other agent closes the control connection.
func streamServer(ctx context.Context, c control, j Job) error {
	l, err := tcpListener(ctx, c.local())
	if err != nil {
		return err
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(10 * time.Second))
	ctx, stop := c.whileConnected(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { l.SetDeadline(time.Now()) })()
	if err := c.send(message{Port: l.Addr().(*net.TCPAddr).Port}); err != nil {
		return err
	}
	var fs flows
	defer fs.close()
	for range j.conns() {
		conn, err := l.AcceptTCP()
		if err != nil {
			return fmt.Errorf("wait for %d flows: %w", j.conns(), err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		var role [1]byte
		if _, err := conn.Read(role[:]); err != nil {
			conn.Close()
			return err
		}
		if err := fs.add(conn, role[0] == serverSends); err != nil {
			return err
		}
	}
	fs.start()
	if err := c.send(message{}); err != nil {
		return err
	}
	n, took, _, err := fs.measure(ctx, j.For)
	if err != nil {
		return err
	}
	if err := c.send(message{Bytes: n, Nanos: took.Nanoseconds()}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// streamClient moves data, and returns what arrived at both ends.
func streamClient(ctx context.Context, c control, data string, j Job) (Answer, error) {
	var fs flows
	defer fs.close()
	for n := range j.conns() {
		sends := j.Direction == Forward || j.Direction == Both && n%2 == 0
		conn, err := dialer.DialContext(ctx, "tcp", data)
		if err != nil {
			return Answer{}, err
		}
		role := []byte{serverSends}
		if sends {
			role[0] = clientSends
		}
		if _, err := conn.Write(role); err != nil {
			conn.Close()
			return Answer{}, err
		}
		if err := fs.add(conn.(*net.TCPConn), sends); err != nil {
			return Answer{}, err
		}
	}
	if _, err := c.receive(); err != nil { // all connections are accepted
		return Answer{}, err
	}
	fs.start()
	here, took, cpu, err := fs.measure(ctx, j.For)
	if err != nil {
		return Answer{}, err
	}
	m, err := c.receive()
	if err != nil {
		return Answer{}, err
	}
	if m.Nanos <= 0 || took <= 0 {
		return Answer{}, errors.New("no time was measured")
	}
	rate := float64(here)/took.Seconds() + float64(m.Bytes)/time.Duration(m.Nanos).Seconds() // bytes/s
	return Answer{Value: rate * 8 / 1e9, Bytes: rate * took.Seconds(), CPU: cpu}, nil
}

// conns is the number of connections.
func (j Job) conns() int {
	if j.Direction == Both {
		return 2 * j.Flows
	}
	return j.Flows
}

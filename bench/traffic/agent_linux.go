// Package traffic sends and receives for the bench, and measures what arrives: streams, datagrams and their order, round
// trips, pings. It also makes the frames with which the bench measures parts of tapestry.
//
// Most of it is the agent, a process of its own in each container: one serves, the other one does jobs with it. What a job
// measures is in Answer, with its units. It knows nothing about hosts and networks: package bed makes those.
package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// AgentPort is the TCP port on which an agent serves, on every address.
const AgentPort = 5201

const maxFlows = 32

// A Job is one transfer between two agents. It is requested over a control connection, on which both then send JSON. Sockets
// are opened for each job and closed after it, on ports that the kernel chooses, so that no job gets data of another.
type Job struct {
	Kind      string        `json:"job"` // stream, packets, echo, order
	For       time.Duration `json:"for,omitempty"`
	Flows     int           `json:"flows,omitempty"`     // stream, order
	Direction Direction     `json:"direction,omitempty"` // stream
	Size      int           `json:"size,omitempty"`      // bytes of UDP payload: packets, order
	Network   string        `json:"network,omitempty"`   // tcp, udp: echo
	Frames    int           `json:"frames,omitempty"`    // order: of all flows together
	Train     int           `json:"train,omitempty"`     // order: datagrams in each UDP_SEGMENT send, 1 without
	Every     time.Duration `json:"every,omitempty"`     // echo: a request at most so often; 0: one after the other
}

// An Answer is the result of a job: the one line that the agent prints which did it.
type Answer struct {
	Error      string  `json:"error,omitempty"`
	Value      float64 `json:"value,omitempty"`   // Gb/s or packets/s
	Bytes      float64 `json:"bytes,omitempty"`   // that arrived in the measured time
	Packets    float64 `json:"packets,omitempty"` // likewise
	CPU        float64 `json:"cpu,omitempty"`     // seconds of processor time of the whole machine, in that time
	P50        float64 `json:"p50,omitempty"`     // µs, as the two below
	P99        float64 `json:"p99,omitempty"`
	P999       float64 `json:"p999,omitempty"`
	Count      int     `json:"count,omitempty"` // of round trips
	CDF        []Point `json:"cdf,omitempty"`
	Sent       int     `json:"sent,omitempty"` // this and the rest: of packets and order
	Received   int     `json:"received,omitempty"`
	Duplicates int     `json:"duplicates,omitempty"`
	Reordered  int     `json:"reordered,omitempty"`
	Late       int     `json:"late,omitempty"`
	Foreign    int     `json:"foreign,omitempty"`
	Rates      []trial `json:"rates,omitempty"` // trials of packets
	Flood      bool    `json:"flood,omitempty"` // of packets: the sender sent as fast as it could, without a rate
}

// Agent runs an agent, in a process of its own, until its job is done or ctx ends. args are one of:
//
//	serve [ADDRESS]  serves until ctx ends; prints a line that contains "ready" when it is
//	JOB ADDRESS      does a job, written in JSON, with the agent that serves at ADDRESS, host:port; prints
//	                 the Answer as one line of JSON, also if it is an error
//	ping ADDRESS     pings until the first answer, and prints its time
//	flood LINK       sends frames to everybody by a link, each from another address, until ctx ends; prints "ready" before
//	idle             does nothing until ctx ends
//
// Goroutines that move data are locked to their threads and make raw, blocking system calls, each with a Go processor (P)
// of its own. The runtime does not see these calls, so it adds no time to a round trip: it does not hand over the P, nor
// wake other threads. But it could not stop these threads for a garbage collection either, so there is none.
func Agent(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "idle":
		<-ctx.Done()
		return nil
	case len(args) == 2 && args[0] == "ping":
		return ping(ctx, args[1], out)
	case len(args) == 2 && args[0] == "flood":
		return flood(ctx, args[1], out)
	case len(args) != 2 && (len(args) != 1 || args[0] != "serve"):
		return errors.New("want serve [ADDRESS], JOB ADDRESS, ping ADDRESS, flood LINK, or idle")
	}
	if err := withoutPreemption(); err != nil {
		return err
	}
	runtime.GOMAXPROCS(2*maxFlows + 8)
	debug.SetGCPercent(-1)
	if args[0] == "serve" {
		address := fmt.Sprintf(":%d", AgentPort)
		if len(args) == 2 {
			address = args[1]
		}
		return serve(ctx, address, out)
	}
	var a Answer
	j, err := parseJob([]byte(args[0]))
	if err == nil {
		a, err = request(ctx, args[1], j)
	}
	if err != nil {
		a = Answer{Error: err.Error()}
	}
	return errors.Join(err, json.NewEncoder(out).Encode(a))
}

// withoutPreemption executes this program again without preemption by signals: a thread that waits in a raw system call would
// get a hundred of them each second. The runtime reads this setting only when it starts.
func withoutPreemption() error {
	const off = "asyncpreemptoff=1"
	before := os.Getenv("GODEBUG")
	if strings.Contains(before, off) {
		return nil
	}
	if err := os.Setenv("GODEBUG", strings.TrimPrefix(before+","+off, ",")); err != nil {
		return err
	}
	err := syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	return fmt.Errorf("start the agent without signals: %w", err)
}

// parseJob reads a job and checks that it is within bounds of memory and time.
func parseJob(b []byte) (j Job, err error) {
	if err := json.Unmarshal(b, &j); err != nil {
		return j, fmt.Errorf("read the job: %w", err)
	}
	return j, j.check()
}

func (j Job) check() error {
	sized := j.Size >= headerSize && j.Size <= maxPayload
	switch {
	case j.For < 50*time.Millisecond || j.For > 10*time.Minute:
		return fmt.Errorf("a job takes 50ms to 10m, not %v", j.For)
	case (j.Kind == "stream" || j.Kind == "order") && (j.Flows < 1 || j.Flows > maxFlows):
		return fmt.Errorf("want 1 to %d flows, not %d", maxFlows, j.Flows)
	case j.Kind == "stream" && j.Direction != Forward && j.Direction != Reverse && j.Direction != Both:
		return fmt.Errorf("direction %q is none of forward, reverse, both", j.Direction)
	case j.Kind == "echo" && j.Network != "tcp" && j.Network != "udp":
		return fmt.Errorf("network %q is neither tcp nor udp", j.Network)
	case (j.Kind == "packets" || j.Kind == "order") && !sized:
		return fmt.Errorf("a datagram holds %d to %d bytes, not %d", headerSize, maxPayload, j.Size)
	case j.Kind == "order" && (j.Frames < 1 || j.Train < 1 || j.Train > maxTrain || j.Train*j.Size > recvRoom):
		return fmt.Errorf("cannot send %d frames in trains of %d", j.Frames, j.Train)
	case j.Kind != "stream" && j.Kind != "packets" && j.Kind != "echo" && j.Kind != "order":
		return fmt.Errorf("unknown job %q", j.Kind)
	}
	return nil
}

// A message is what both ends of a control connection send each other after the job.
type message struct {
	Error    string `json:"error,omitempty"`
	Port     int    `json:"port,omitempty"` // for the job's data
	Trial    uint32 `json:"trial,omitempty"`
	Sent     int64  `json:"sent,omitempty"`
	Progress int64  `json:"progress,omitempty"` // datagrams received so far: order
	Bytes    int64  `json:"bytes,omitempty"`
	Nanos    int64  `json:"nanos,omitempty"`
	Tally    tally  `json:"tally,omitzero"`
}

// A control is a control connection. It ends with the job, or when the job has overrun by far.
type control struct {
	net.Conn
	*json.Encoder
	*json.Decoder
}

func newControl(c net.Conn) control {
	const most = 16 << 20 // far more than any message has
	return control{c, json.NewEncoder(c), json.NewDecoder(io.LimitReader(c, most))}
}

// receive receives a message. If it has an error, that is returned.
func (c control) receive() (m message, err error) {
	if err := c.Decode(&m); err != nil {
		return m, fmt.Errorf("receive from the other agent: %w", err)
	}
	if m.Error != "" {
		return m, fmt.Errorf("the other agent: %s", m.Error)
	}
	return m, nil
}

func (c control) send(m message) error {
	if err := c.Encode(m); err != nil {
		return fmt.Errorf("send to the other agent: %w", err)
	}
	return nil
}

// whileConnected returns a context that ends when the other agent closes the connection. Until then no message may be due.
func (c control) whileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		c.receive() // the only thing to receive is the end
	}()
	return ctx, cancel
}

// local and remote are addresses for a job's data: those of the control connection.
func (c control) local() string {
	return net.JoinHostPort(c.LocalAddr().(*net.TCPAddr).IP.String(), "0")
}

func (c control) remote(port int) string {
	return net.JoinHostPort(c.RemoteAddr().(*net.TCPAddr).IP.String(), fmt.Sprint(port))
}

// dialer has no keep-alives and no multipath TCP, like most programs.
var dialer = net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}

func tcpListener(ctx context.Context, address string) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// serve does one job after the other.
func serve(ctx context.Context, address string, out io.Writer) error {
	l, err := tcpListener(ctx, address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	if _, err := fmt.Fprintf(out, "{\"ready\":%q}\n", l.Addr()); err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a job: %w", err)
		}
		end := context.AfterFunc(ctx, func() { conn.Close() })
		c := newControl(conn)
		if err := serveJob(ctx, c); err != nil {
			c.send(message{Error: err.Error()}) // an error means that the other agent has ended
		}
		end()
		conn.Close()
		runtime.GC() // no data moves now
	}
}

func serveJob(ctx context.Context, c control) error {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	var j Job
	if err := c.Decode(&j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	if err := j.check(); err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(2*j.For + time.Minute))
	switch j.Kind {
	case "stream":
		return streamServer(ctx, c, j)
	case "echo":
		return echoServer(ctx, c, j)
	}
	return datagramServer(c, j)
}

// request does a job with the agent that serves at address.
func request(ctx context.Context, address string, j Job) (Answer, error) {
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c := newControl(conn)
	c.SetDeadline(time.Now().Add(2*j.For + time.Minute))
	if err := c.Encode(j); err != nil {
		return Answer{}, err
	}
	m, err := c.receive()
	if err != nil {
		return Answer{}, err
	}
	data := c.remote(m.Port)
	switch j.Kind {
	case "stream":
		return streamClient(ctx, c, data, j)
	case "echo":
		return echoClient(ctx, data, j)
	case "order":
		return order(c, data, j)
	}
	return packets(c, data, j)
}

// takeDescriptor returns a duplicate of a connection's descriptor that blocks and is not in the runtime's poller. It closes the
// connection; the caller has to close the descriptor.
func takeDescriptor(c interface {
	syscall.Conn
	io.Closer
}) (fd int, err error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	var failed error
	err = raw.Control(func(of uintptr) {
		if fd, failed = syscall.Dup(int(of)); failed == nil {
			failed = syscall.SetNonblock(fd, false)
		}
	})
	if err = errors.Join(err, os.NewSyscallError("dup", failed)); err != nil && fd >= 0 {
		syscall.Close(fd)
	}
	return fd, err
}

// receiveTimeout makes a read of fd fail with EAGAIN after d (socket(7), SO_RCVTIMEO).
func receiveTimeout(fd int, d time.Duration) error {
	tv := syscall.NsecToTimeval(d.Nanoseconds())
	return os.NewSyscallError("setsockopt", syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv))
}

// A Point of a distribution.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// ParseAnswer reads the output of an agent whose process ended with ended, nil if it succeeded. An error in the Answer is
// preferred to ended, since it says more.
func ParseAnswer(out []byte, ended error) (a Answer, err error) {
	if err := json.Unmarshal(out, &a); err != nil {
		var exit *exec.ExitError
		if errors.As(ended, &exit) {
			return a, fmt.Errorf("the agent ended: %w: %s", ended, bytes.TrimSpace(exit.Stderr))
		}
		return a, errors.Join(ended, fmt.Errorf("read the agent's answer: %w", err))
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	if ended != nil {
		return a, fmt.Errorf("the agent ended: %w", ended)
	}
	for _, v := range []float64{a.Value, a.Bytes, a.Packets, a.CPU, a.P50, a.P99, a.P999} {
		if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			return a, fmt.Errorf("the agent's answer has the value %v, which is impossible", v)
		}
	}
	return a, nil
}

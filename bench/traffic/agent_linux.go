// Package traffic sends and receives for the bench, and measures what arrives: streams, datagrams and their order, round
// trips, pings; and the frames that the bench puts into the parts of tapestry one by one.
//
// Most of it is the agent, a process of its own in each container: one serves, another asks it to do a job with it.
// What a job measures is in Answer, with its units. It knows no machines and no networks: package bench makes those.
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

// AgentPort is where a serving agent takes jobs: TCP, on every address.
const AgentPort = 5201

const maxFlows = 32

// A Job is what one agent asks of another, over a control connection on which both then speak JSON. All that
// a job needs is opened for it and closed after it, on ports of the kernel's choice, so that no job sees the
// remains of another.
type Job struct {
	Kind      string        `json:"job"` // stream, packets, echo, order
	For       time.Duration `json:"for,omitempty"`
	Flows     int           `json:"flows,omitempty"`     // stream, order
	Direction Direction     `json:"direction,omitempty"` // stream
	Size      int           `json:"size,omitempty"`      // bytes of UDP payload: packets, order
	Network   string        `json:"network,omitempty"`   // tcp, udp: echo
	Frames    int           `json:"frames,omitempty"`    // order: of all flows together
	Train     int           `json:"train,omitempty"`     // order: datagrams in each UDP_SEGMENT send, 1 without
}

// An Answer is the one line that the asking agent prints.
type Answer struct {
	Error      string  `json:"error,omitempty"`
	Value      float64 `json:"value,omitempty"`   // Gb/s or packets/s
	Bytes      float64 `json:"bytes,omitempty"`   // that arrived in the time that was measured
	Packets    float64 `json:"packets,omitempty"` // likewise
	CPU        float64 `json:"cpu,omitempty"`     // seconds of the whole machine in that time
	P50        float64 `json:"p50,omitempty"`     // µs, as the two below
	P99        float64 `json:"p99,omitempty"`
	P999       float64 `json:"p999,omitempty"`
	Count      int     `json:"count,omitempty"` // of round trips
	CDF        []Point `json:"cdf,omitempty"`
	Sent       int     `json:"sent,omitempty"` // as the rest: packets and order
	Received   int     `json:"received,omitempty"`
	Duplicates int     `json:"duplicates,omitempty"`
	Reordered  int     `json:"reordered,omitempty"`
	Late       int     `json:"late,omitempty"`
	Foreign    int     `json:"foreign,omitempty"`
	Rates      []trial `json:"rates,omitempty"` // that were tried
	Flood      bool    `json:"flood,omitempty"` // the value is that of a sender that sends as fast as it can
}

// Agent is the bench's own traffic, one program with a process for itself:
//
//	serve [ADDRESS]  takes jobs until ctx ends; prints a line with "ready" when it does
//	JOB ADDRESS      does a job, written in JSON, with the agent that serves at ADDRESS, host:port; prints
//	                 its answer as one line of JSON, also when that is an error
//	arrive ADDRESS   ends with the first answer to a ping
//	idle             does nothing until ctx ends
//
// Threads that move data are locked and make raw system calls that block, each with a Go processor for itself:
// the runtime does not notice, so it adds nothing to a round trip, takes no processor away and wakes nobody to look
// for work. In return the world cannot be stopped meanwhile, so there is no collection of garbage.
func Agent(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "idle":
		<-ctx.Done()
		return nil
	case len(args) == 2 && args[0] == "arrive":
		return arrive(ctx, args[1], out)
	case len(args) != 2 && (len(args) != 1 || args[0] != "serve"):
		return errors.New("want serve [ADDRESS], JOB ADDRESS, arrive ADDRESS, or idle")
	}
	if err := unsignalled(); err != nil {
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
		a, err = ask(ctx, args[1], j)
	}
	if err != nil {
		a = Answer{Error: err.Error()}
	}
	return errors.Join(err, json.NewEncoder(out).Encode(a))
}

// unsignalled starts this program anew without preemption by signals, of which every thread that waits in a raw
// system call would get a hundred a second. The runtime reads the switch only when it starts.
func unsignalled() error {
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

// parseJob reads a job and holds it within bounds: it says how much memory and time it takes.
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

// A note is what the two ends of a control connection tell each other after the job.
type note struct {
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
	const most = 16 << 20 // nobody has so much to say
	return control{c, json.NewEncoder(c), json.NewDecoder(io.LimitReader(c, most))}
}

// hear reads a note; one with an error is that error.
func (c control) hear() (n note, err error) {
	if err := c.Decode(&n); err != nil {
		return n, fmt.Errorf("hear from the other agent: %w", err)
	}
	if n.Error != "" {
		return n, fmt.Errorf("the other agent: %s", n.Error)
	}
	return n, nil
}

func (c control) tell(n note) error {
	if err := c.Encode(n); err != nil {
		return fmt.Errorf("tell the other agent: %w", err)
	}
	return nil
}

// company gives a context that ends when the other agent has gone; until then nothing is to be heard of it.
func (c control) company(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		c.hear() // nothing comes but the end
	}()
	return ctx, cancel
}

// local and remote are addresses for a job's data, on the way that the control connection took.
func (c control) local() string {
	return net.JoinHostPort(c.LocalAddr().(*net.TCPAddr).IP.String(), "0")
}

func (c control) remote(port int) string {
	return net.JoinHostPort(c.RemoteAddr().(*net.TCPAddr).IP.String(), fmt.Sprint(port))
}

// plain has no keep-alives and no multipath, which programs do not have by default either.
var plain = net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}

func tcpListener(ctx context.Context, address string) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// serve takes one job after the other.
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
			return fmt.Errorf("take a job: %w", err)
		}
		end := context.AfterFunc(ctx, func() { conn.Close() })
		c := newControl(conn)
		if err := answerJob(ctx, c); err != nil {
			c.tell(note{Error: err.Error()}) // who does not hear it has gone
		}
		end()
		conn.Close()
		runtime.GC() // nothing moves now
	}
}

func answerJob(ctx context.Context, c control) error {
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
	return sinkServer(c, j)
}

// ask does a job with the agent that serves at address.
func ask(ctx context.Context, address string, j Job) (Answer, error) {
	conn, err := plain.DialContext(ctx, "tcp", address)
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
	n, err := c.hear()
	if err != nil {
		return Answer{}, err
	}
	data := c.remote(n.Port)
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

// own takes a connection's descriptor out of the runtime's poller, and makes it block. The connection is
// closed, the descriptor is the caller's.
func own(c interface {
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

// receiveTimeout makes a read on fd fail with EAGAIN after d (socket(7), SO_RCVTIMEO).
func receiveTimeout(fd int, d time.Duration) error {
	tv := syscall.NsecToTimeval(d.Nanoseconds())
	return os.NewSyscallError("setsockopt", syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv))
}

// A Point of a plot.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// ParseAnswer reads what an agent printed before it ended with err. Its own words come first.
func ParseAnswer(out []byte, ended error) (a Answer, err error) {
	if err := json.Unmarshal(out, &a); err != nil {
		var exit *exec.ExitError
		if errors.As(ended, &exit) {
			return a, fmt.Errorf("the agent ended: %w: %s", ended, bytes.TrimSpace(exit.Stderr))
		}
		return a, errors.Join(ended, fmt.Errorf("read what the agent says: %w", err))
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	if ended != nil {
		return a, fmt.Errorf("the agent ended: %w", ended)
	}
	for _, v := range []float64{a.Value, a.Bytes, a.Packets, a.CPU, a.P50, a.P99, a.P999} {
		if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			return a, fmt.Errorf("the agent says %v, which no measure can come to", v)
		}
	}
	return a, nil
}

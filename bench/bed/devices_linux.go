package bed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/bench/traffic"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/poll"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// The parts that use descriptors of the kernel. They are in the network namespace of the thread that opens them.

// batchSize is how many frames a device gets at once: as many as fit into an arena or into a TAP's queue.
func batchSize(super bool) int {
	if super {
		return 7
	}
	return 64
}

func frameOf(super bool, from, to ether.MAC) ether.Frame {
	if super {
		return traffic.SuperFrame(from, to)
	}
	return traffic.Shortest(from, to)
}

// A testTAP is a TAP whose link a packet socket writes to, as a container's kernel would.
type testTAP struct {
	*tap.Device
	*traffic.PacketSocket
	spec tap.Spec
}

// openTAP makes the n-th TAP. No frame is sent to the address of its link, so the kernel drops at once what is written to it.
func openTAP(n int) (*testTAP, error) {
	s := &testTAP{spec: tap.Spec{ID: fmt.Sprintf("bench%07d", n), Tag: "tapestry:bench:" + strconv.Itoa(n), Mode: tap.Direct, MAC: traffic.Station(1 << 20), MTU: 1500}}
	dev, err := tap.Create(s.spec)
	if err != nil {
		return nil, err
	}
	s.Device = dev
	link, err := netlink.LinkByName(dev.Link)
	if err == nil {
		const none = 1 // IN6_ADDR_GEN_MODE_NONE, linux/if_link.h: so that IPv6 of the kernel sends nothing
		_ = netlink.LinkSetIP6AddrGenMode(link, none)
		err = netlink.LinkSetUp(link)
	}
	if err == nil {
		s.PacketSocket, err = traffic.OpenPacketSocket(link)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *testTAP) close() {
	if s.PacketSocket != nil {
		s.PacketSocket.Close()
	}
	_ = s.Device.Close()
	_ = tap.Remove(s.spec)
}

// tapPart reads frames from a TAP and writes them back to it.
func tapPart(super bool) (moveFunc, func(), error) {
	s, err := openTAP(0)
	if err != nil {
		return nil, nil, err
	}
	n := batchSize(super)
	v := traffic.NewBatch(frameOf(super, traffic.Station(0), traffic.Station(1)), n)
	arena, batch := make([]byte, poll.ArenaSize), make([]*ether.Frame, 0, 2*n)
	read, written := 0, 0
	s.Bind(func(frames []ether.Frame) {
		batch = batch[:0]
		for i := range frames {
			batch = append(batch, &frames[i])
		}
		sent, _ := s.Send(batch)
		read += len(frames)
		written += sent
	})
	return func(ctx context.Context) (int, time.Duration, error) {
		if err := s.Write(v); err != nil {
			return 0, 0, err
		}
		read, written = 0, 0
		var spent time.Duration
		for read < n {
			if err := awaitReadable(s.Fd()); err != nil {
				return 0, 0, err
			}
			began := time.Now()
			if err := s.Drain(arena); err != nil {
				return 0, 0, err
			}
			spent += time.Since(began)
		}
		if written < read {
			return 0, 0, fmt.Errorf("the TAP refused %d of %d frames", read-written, read)
		}
		return read, spent, nil
	}, s.close, nil
}

// awaitReadable waits until a descriptor is readable, for five seconds at most.
func awaitReadable(fd int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = errors.New("no frame arrived within five seconds")
		}
		return err
	}
}

// maxInFlight is how many frames may be in the switch and its queues: fewer than a TAP's queue holds.
const maxInFlight = 256

// tapToTAPPart has a worker forward frames from one TAP to another, while another thread writes them.
func tapToTAPPart(super bool) (run moveFunc, end func(), err error) {
	var ends []func()
	end = func() {
		for i := range ends {
			ends[len(ends)-1-i]()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	workers, err := poll.New(1)
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, func() { workers.Close() })
	sw := vswitch.New(vswitch.Config{})
	var taps [2]*testTAP
	var ports [2]*vswitch.Port
	for i := range taps {
		if taps[i], err = openTAP(i); err != nil {
			return nil, nil, err
		}
		ends = append(ends, taps[i].close)
		ports[i] = sw.Attach("", taps[i].Device, false, 1514)
		ports[i].Pin(traffic.Station(i))
		taps[i].Bind(ports[i].Ingress)
	}
	if _, err = workers.Add(taps[0], 0, func(error) {}); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- workers.Run(ctx) }()
	ends = append(ends, func() { cancel(); <-ended })

	size := batchSize(super)
	v := traffic.NewBatch(frameOf(super, traffic.Station(0), traffic.Station(1)), size)
	return func(ctx context.Context) (int, time.Duration, error) {
		total := 64 * size
		began, before := time.Now(), ports[1].Stats()
		var sent, passed int
		for passed < total {
			if sent < total && sent-passed+size <= maxInFlight {
				if err := taps[0].Write(v); err != nil {
					return 0, 0, err
				}
				sent += size
			} else {
				unix.Select(0, nil, nil, nil, &unix.Timeval{Usec: 20}) // the worker is not done
			}
			now := ports[1].Stats()
			passed = int(now.Offered - before.Offered)
			if now.Refused > before.Refused {
				return 0, 0, errors.New("the second TAP refused frames")
			}
			if time.Since(began) > 5*time.Second || ctx.Err() != nil {
				return 0, 0, fmt.Errorf("%d of %d frames were forwarded", passed, sent)
			}
		}
		return passed, time.Since(began), nil
	}, end, nil
}

// udpPart sends trains of datagrams over loopback from one plain socket to another: the most that a tunnel in user space can
// reach. A train holds a super-frame, or 64 datagrams with a frame of 64 bytes each.
func udpPart(super bool) (moveFunc, func(), error) {
	const vxlan = 8
	size, n, counted := traffic.ShortFrameSize+vxlan, 64, 64
	if super {
		size, n, counted = traffic.SegmentSize+54+vxlan, (traffic.SuperPayload+traffic.SegmentSize-1)/traffic.SegmentSize, 1
	}
	from, err := udpSocket()
	if err != nil {
		return nil, nil, err
	}
	to, err := udpSocket()
	if err != nil {
		unix.Close(from)
		return nil, nil, err
	}
	end := func() {
		unix.Close(from)
		unix.Close(to)
	}
	name, err := unix.Getsockname(to)
	err = errors.Join(err, unix.Connect(from, name),
		unix.SetsockoptInt(from, unix.SOL_UDP, unix.UDP_SEGMENT, size), unix.SetsockoptInt(to, unix.SOL_UDP, unix.UDP_GRO, 1))
	if err != nil {
		end()
		return nil, nil, err
	}
	train, arena := make([]byte, n*size), make([]byte, 1<<16)
	return func(context.Context) (int, time.Duration, error) {
		began := time.Now()
		if err := rawIO(unix.SYS_WRITE, from, train); err != nil {
			return 0, 0, err
		}
		for got := 0; got < len(train); {
			n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(to), uintptr(unsafe.Pointer(&arena[0])), uintptr(len(arena)))
			if errno != 0 {
				return 0, 0, fmt.Errorf("%d of %d bytes arrived: %w", got, len(train), errno)
			}
			got += int(n)
		}
		return counted, time.Since(began), nil
	}, end, nil
}

func udpSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// rawIO writes all of b in a raw system call, which Go's scheduler does not see: the descriptor does not block.
func rawIO(call uintptr, fd int, b []byte) error {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return errno
	}
	if int(n) != len(b) {
		return fmt.Errorf("%d of %d bytes were written", n, len(b))
	}
	return nil
}

// tunnelPart sends frames from one VTEP to another over loopback: cut, encapsulated, sent as one train; received and
// decapsulated.
func tunnelPart(super bool) (run moveFunc, end func(), err error) {
	var ends [2]*tunnel.VTEP
	var links [2]*tunnel.Link
	end = func() {
		for _, v := range ends {
			if v != nil {
				v.Close()
			}
		}
	}
	for i := range ends {
		at := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}), 4789)
		}
		if ends[i], err = tunnel.Listen(at(i), 1); err == nil {
			links[i], err = ends[i].Link(77, at(1-i))
		}
		if err != nil {
			end()
			return nil, nil, err
		}
		links[i].SetMTU(1450)
	}
	n, each := 64, 1 // frames that are sent, and how many of each arrive
	if super {
		n, each = 1, (traffic.SuperPayload+traffic.SegmentSize-1)/traffic.SegmentSize
	}
	frames, batch := make([]ether.Frame, n), make([]*ether.Frame, n)
	for i := range frames {
		frames[i] = frameOf(super, traffic.Station(0), traffic.Station(1))
		if err := frames[i].Check(); err != nil {
			end()
			return nil, nil, err
		}
		batch[i] = &frames[i]
		if !super {
			frames[i].CompleteChecksum()
		}
	}
	arrived := 0
	links[1].Bind(func(frames []ether.Frame) { arrived += len(frames) })
	arena, in := make([]byte, poll.ArenaSize), ends[1].Receivers()[0]
	return func(context.Context) (int, time.Duration, error) {
		began := time.Now()
		arrived = 0
		if sent, _ := links[0].Send(batch); sent < n {
			return 0, 0, fmt.Errorf("%d of %d frames were sent", sent, n)
		}
		for deadline := began.Add(time.Second); arrived < n*each; {
			if err := in.Drain(arena); err != nil {
				return 0, 0, err
			}
			if arrived < n*each && time.Now().After(deadline) {
				return 0, 0, fmt.Errorf("%d of %d frames arrived", arrived, n*each)
			}
		}
		return n, time.Since(began), nil
	}, end, nil
}

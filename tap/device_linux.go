// Package tap is the device of a container's port: a TAP, and the links that connect it with the container.
//
// device_linux.go is the data path: Drain reads frames, Send writes them. plumb_linux.go, links_linux.go and redirect_linux.go make the links and the redirects
// between them.
package tap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// readBudget is the maximum of frames that one Drain reads, so that one port cannot occupy a worker.
const readBudget = 64

// A Device is an open TAP with virtio-net headers.
//
// It has a queue for each worker. All frames of a flow are written to one queue, and the kernel delivers the other
// direction of the flow by the same one (tun_flow_update in drivers/net/tun.c). So one worker handles all of a flow, in
// order and in its cache, and several flows are spread over the workers.
type Device struct {
	Queue // the first

	Link string // the TAP's name when it was opened

	others    []*Queue // the further ones
	carrier   carrier
	offloads  int                                   // TUN_F_*, as accepted by the kernel
	vnetLen   int                                   // length of the virtio-net header before each frame, in bytes
	in        atomic.Pointer[func([]ether.Frame)]   // see Bind; nil: not bound
	unbound   atomic.Uint64                         // see Unbound
	failWrite func(n int, off []byte) syscall.Errno // set by tests: called before the kernel; an error is returned instead
	features  [nKinds]offload.Feature               // what may be written: super-frames of a kind; for None, partial checksums
}

const nKinds = ether.Kinds

// A Queue is one queue of a Device: a source of frames for one worker.
type Queue struct {
	d  *Device
	fd int
}

// Queues are all queues of the device, in order.
func (d *Device) Queues() []*Queue { return append([]*Queue{&d.Queue}, d.others...) }

// queue is the descriptor that f is written to: the same for both directions of a flow.
func (d *Device) queue(f *ether.Frame) int {
	if n := uint32(len(d.others)) + 1; n > 1 {
		if i := f.Flow() % n; i > 0 {
			return d.others[i-1].fd
		}
	}
	return d.fd
}

// Bind sets the function that receives frames, lent for the call. Before it, they are dropped and counted.
func (d *Device) Bind(in func([]ether.Frame)) { d.in.Store(&in) }

// Unbound is the number of frames that were dropped since they came before Bind.
func (d *Device) Unbound() uint64 { return d.unbound.Load() }

// Offloads tells whether the kernel delivers super-frames of TCP, and of UDP.
func (d *Device) Offloads() (tcp, udp bool) {
	return d.offloads&unix.TUN_F_TSO4 != 0, d.offloads&unix.TUN_F_USO4 != 0
}

// Fd is the queue's descriptor, non-blocking.
func (q *Queue) Fd() int { return q.fd }

// Close closes the queues; the TAP stays. No Drain and no Send may be in progress, nor follow.
func (d *Device) Close() error {
	var errs []error
	for _, q := range d.Queues() {
		if fd := q.fd; fd >= 0 {
			q.fd = -1 // the number may be reused for another file
			errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
		}
	}
	errs = append(errs, d.carrier.close())
	return errors.Join(errs...)
}

var frameLists = sync.Pool{New: func() any { return new([readBudget]ether.Frame) }}

// Drain reads frames until there is none or readBudget is reached, and lends them to the function of Bind. An error means
// that the TAP is gone (EBADFD) or broken.
func (q *Queue) Drain(arena []byte) error {
	frames := frameLists.Get().(*[readBudget]ether.Frame)
	defer frameLists.Put(frames)
	n, off := 0, 0
	header := q.d.vnetLen
	for n < readBudget && len(arena)-off >= header+ether.MaxFrame {
		got, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(q.fd),
			uintptr(unsafe.Pointer(&arena[off])), uintptr(header+ether.MaxFrame))
		if errno == syscall.EAGAIN {
			break
		}
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			q.d.deliver(frames[:n])
			return fmt.Errorf("read from %s: %w", q.d.Link, errno)
		}
		if int(got) < header {
			continue
		}
		end := off + int(got)
		// The virtio-net header is decoded in the same call, so its last bytes can be the frame's headroom.
		frames[n] = ether.Lend(arena[off+header-ether.Headroom:end], decodeVnet(arena[off:off+header]))
		n++
		off = (end + 63) &^ 63 // the next begins on a cache line
	}
	q.d.deliver(frames[:n])
	return nil
}

func (d *Device) deliver(frames []ether.Frame) {
	if len(frames) == 0 {
		return
	}
	if in := d.in.Load(); in != nil {
		(*in)(frames)
	} else {
		d.unbound.Add(uint64(len(frames)))
	}
	clear(frames)
}

// writer is Send's scratch.
type writer struct {
	fd   int // of the queue
	join ether.Joiner
	vnet [vnetTunnelLen]byte
	iov  [2 + ether.MaxJoined]syscall.Iovec
	cut  ether.Cutter
	head [ether.MaxHead]byte
}

var writers = sync.Pool{New: func() any { return new(writer) }}

// Send writes frames to the container; consecutive ones of one flow are joined to a super-frame. It returns the number of
// frames that the kernel has accepted, and their bytes.
func (d *Device) Send(frames []*ether.Frame) (sent, bytes int) {
	w := writers.Get().(*writer)
	for i := 0; i < len(frames); {
		n := w.joinRun(frames[i:])
		w.fd = d.queue(frames[i])
		refused, before := syscall.Errno(0), sent
		if n > 1 && d.features[w.join.Off().Kind].Enabled() {
			if refused = d.writeJoined(w); refused == 0 {
				for _, f := range frames[i : i+n] {
					sent++
					bytes += f.Len()
				}
				i += n
				continue
			}
		}
		for _, f := range frames[i : i+n] {
			if d.writeOne(w, f) == 0 {
				sent++
				bytes += f.Len()
			}
		}
		if refused != 0 {
			d.joinRefused(w.join.Off().Kind, sent-before, refused)
		}
		i += n
	}
	runtime.KeepAlive(frames)
	writers.Put(w)
	return sent, bytes
}

// joinRun joins the leading frames that make one super-frame, and returns their number, at least one.
func (w *writer) joinRun(frames []*ether.Frame) int {
	if len(frames) < 2 || !w.join.Start(frames[0]) {
		return 1
	}
	n := 1
	for n < len(frames) && w.join.Add(frames[n]) {
		n++
	}
	return n
}

func (d *Device) writeJoined(w *writer) syscall.Errno {
	encodeVnet(w.vnet[:d.vnetLen], w.join.Off())
	w.set(0, w.vnet[:d.vnetLen])
	w.set(1, w.join.Head())
	n := 2
	for _, p := range w.join.Payloads() {
		w.set(n, p)
		n++
	}
	return d.writev(w, n)
}

func (d *Device) writeOne(w *writer, f *ether.Frame) syscall.Errno {
	if f.Len() < ether.HeaderLen {
		return syscall.EINVAL
	}
	if !d.features[f.Off.Kind%nKinds].Enabled() {
		_, errno := d.writeWithoutOffload(w, f)
		return errno
	}
	encodeVnet(w.vnet[:d.vnetLen], f.Off)
	if f.Off.Kind.Tunnelled() { // the feature is enabled, so the header is the longer one
		encodeTunnel(w.vnet[:d.vnetLen], f)
	}
	w.set(0, w.vnet[:d.vnetLen])
	w.set(1, f.Bytes())
	errno := d.writev(w, 2)
	if errno != 0 {
		errno = d.resend(w, f, errno)
	}
	return errno
}

func (w *writer) set(i int, b []byte) {
	w.iov[i].Base = unsafe.SliceData(b)
	w.iov[i].SetLen(len(b))
}

// writev writes the first n vectors. The descriptor does not block, so the call is raw.
func (d *Device) writev(w *writer, n int) syscall.Errno {
	if d.failWrite != nil {
		if errno := d.failWrite(n, w.vnet[:]); errno != 0 {
			return errno
		}
	}
	for {
		_, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(w.fd), uintptr(unsafe.Pointer(&w.iov[0])), uintptr(n))
		if errno != syscall.EINTR {
			return errno
		}
	}
}

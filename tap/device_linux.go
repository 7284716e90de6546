// Package tap is a container's port: a TAP device, and what ties it to the container.
//
// device_linux.go is the way of frames: Drain reads them, Send writes them. plumb_linux.go makes the
// links and the redirects between them.
package tap

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/tapestry-net/tapestry/ether"
	"golang.org/x/sys/unix"
)

// readBudget is how many frames one Drain reads at most, so that one port cannot keep a worker.
const readBudget = 64

// A Device is an open queue of a TAP with virtio-net headers.
type Device struct {
	Link string // the TAP's name when it was opened

	fd       int
	offloads int // TUN_F_*, as the kernel took them
	in       atomic.Pointer[func([]ether.Frame)]
	unbound  atomic.Uint64
	refuse   func(n int, off []byte) syscall.Errno // of tests: stands before the kernel
	gates    [nKinds]ether.Gate                    // what the kernel takes: super-frames of a kind; of None, unfinished checksums
}

const nKinds = ether.UDP + 1

// Bind says where frames go; until then they are dropped and counted.
func (d *Device) Bind(in func([]ether.Frame)) { d.in.Store(&in) }

// Unbound is the number of frames that came in before Bind.
func (d *Device) Unbound() uint64 { return d.unbound.Load() }

// Offloads tells what the kernel hands over undone: super-frames of TCP, and of UDP.
func (d *Device) Offloads() (tcp, udp bool) {
	return d.offloads&unix.TUN_F_TSO4 != 0, d.offloads&unix.TUN_F_USO4 != 0
}

// Fd is the queue's descriptor, non-blocking.
func (d *Device) Fd() int { return d.fd }

// Close gives the queue back; the TAP stays. Drain and Send must not run any more.
func (d *Device) Close() error {
	fd := d.fd
	if fd < 0 {
		return nil
	}
	d.fd = -1 // the number may be another file's at once
	return os.NewSyscallError("close", unix.Close(fd))
}

var frameLists = sync.Pool{New: func() any { return new([readBudget]ether.Frame) }}

// Drain reads frames until there is none or the budget is spent, and lends them to what Bind named.
// It gives their bytes. An error means that the TAP is gone (EBADFD) or broken.
func (d *Device) Drain(arena []byte) (bytes int, err error) {
	frames := frameLists.Get().(*[readBudget]ether.Frame)
	defer frameLists.Put(frames)
	n, off := 0, 0
	for n < readBudget && len(arena)-off >= vnetLen+ether.MaxFrame {
		got, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(d.fd),
			uintptr(unsafe.Pointer(&arena[off])), vnetLen+ether.MaxFrame)
		if errno == syscall.EAGAIN {
			break
		}
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			d.deliver(frames[:n])
			return bytes, fmt.Errorf("read from %s: %w", d.Link, errno)
		}
		if got < vnetLen {
			continue
		}
		end := off + int(got)
		// The header has been read by then, so its last bytes are the frame's headroom.
		frames[n] = ether.Lend(arena[off+vnetLen-ether.Headroom:end], decodeVnet(arena[off:]))
		n++
		bytes += int(got) - vnetLen
		off = (end + 63) &^ 63 // the next begins on a cache line
	}
	d.deliver(frames[:n])
	return bytes, nil
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
	join ether.Joiner
	vnet [vnetLen]byte
	iov  [2 + ether.MaxSegments]syscall.Iovec
	cut  ether.Cutter
	head [ether.MaxHead]byte
}

var writers = sync.Pool{New: func() any { return new(writer) }}

// Send writes frames to the container; neighbours of one flow go as one super-frame.
// It gives the number of frames the kernel took, and their bytes.
func (d *Device) Send(frames []*ether.Frame) (sent, bytes int) {
	w := writers.Get().(*writer)
	for i := 0; i < len(frames); {
		n := w.gather(frames[i:])
		refused, before := syscall.Errno(0), sent
		if n > 1 && d.gates[w.join.Off().Kind].Open() {
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
			d.unjoined(w.join.Off().Kind, sent-before, refused)
		}
		i += n
	}
	runtime.KeepAlive(frames)
	writers.Put(w)
	return sent, bytes
}

// gather counts the leading frames that make one super-frame, at least one.
func (w *writer) gather(frames []*ether.Frame) int {
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
	encodeVnet(w.vnet[:], w.join.Off())
	w.set(0, w.vnet[:])
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
	if !d.gates[f.Off.Kind%nKinds].Open() {
		_, errno := d.writeFinished(w, f)
		return errno
	}
	encodeVnet(w.vnet[:], f.Off)
	w.set(0, w.vnet[:])
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
	if d.refuse != nil {
		if errno := d.refuse(n, w.vnet[:]); errno != 0 {
			return errno
		}
	}
	for {
		_, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(d.fd), uintptr(unsafe.Pointer(&w.iov[0])), uintptr(n))
		if errno != syscall.EINTR {
			return errno
		}
	}
}

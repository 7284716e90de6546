package tap

import (
	"fmt"
	"syscall"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"golang.org/x/sys/unix"
)

// The kernel takes super-frames and unfinished checksums, if it does. What it refuses is done here
// instead, and a kind that it refused is not offered again until Retry. Only EINVAL speaks of the
// offload (tun_get_user in drivers/net/tun.c: it reads the header so); all else is about this frame or
// about now.

// maxUDP is how many datagrams a kernel takes for one super-frame: UDP_MAX_SEGMENTS before Linux 6.9.
const maxUDP = 64

// Offload tells whether the kernel takes super-frames of a kind, or, of the kind None, unfinished checksums.
func (d *Device) Offload(kind ether.Kind) offload.Status { return d.feature(kind).Status() }

// Retry offers again what the kernel refused.
func (d *Device) Retry() {
	for i := range d.features {
		d.features[i].Retry()
	}
}

func (d *Device) feature(kind ether.Kind) *offload.Feature { return &d.features[kind%nKinds] }

// disableUnsupported bars what TUNSETOFFLOAD did not take: a kernel that cannot hand it over cannot take it either.
func (d *Device) disableUnsupported() {
	bar := func(needs int, kinds ...ether.Kind) {
		if d.offloads&needs == needs {
			return
		}
		for _, kind := range kinds {
			d.feature(kind).Block(fmt.Errorf("TUNSETOFFLOAD: %w", offload.ErrUnsupported))
		}
	}
	bar(unix.TUN_F_TSO4, ether.TCP4)
	bar(unix.TUN_F_TSO6, ether.TCP6)
	bar(unix.TUN_F_USO4, ether.UDP)
	bar(tunnels, ether.TunnelTCP4, ether.TunnelTCP6, ether.TunnelUDP)
}

// joinRefused notes that a joined write was refused, and n of its frames went by themselves.
func (d *Device) joinRefused(kind ether.Kind, n int, errno syscall.Errno) {
	if n == 0 { // it was not the joining
		return
	}
	g := d.feature(kind)
	g.CountFallback(n)
	if errno == syscall.EINVAL {
		g.Disable(errno)
	}
}

// resend writes a frame that the kernel refused once more, with nothing left undone.
func (d *Device) resend(w *writer, f *ether.Frame, refused syscall.Errno) syscall.Errno {
	switch refused {
	case syscall.EINVAL, syscall.EMSGSIZE, syscall.ENOMEM, syscall.ENOBUFS:
	default: // the TAP is down or gone, its queue full
		return refused
	}
	if f.Off == (ether.Offload{}) {
		return refused
	}
	g, kind, segments := d.feature(f.Off.Kind), f.Off.Kind, f.Len()/max(1, int(f.Off.Segment))
	n, errno := d.writeWithoutOffload(w, f)
	if n == 0 {
		return errno
	}
	g.CountFallback(n)
	if refused == syscall.EINVAL && (kind != ether.UDP && kind != ether.TunnelUDP || segments <= maxUDP) {
		g.Disable(refused)
	}
	return errno
}

// writeWithoutOffload writes a frame with its checksum finished, or the segments of a super-frame. It gives
// how many frames went, and the last error.
func (d *Device) writeWithoutOffload(w *writer, f *ether.Frame) (n int, errno syscall.Errno) {
	if f.Off.Kind == ether.None {
		b := f.Bytes()
		if at, sum, open := f.Checksum(); open {
			field := w.head[:copy(w.head[:], sum[:])] // the frame is only lent
			errno = d.write(w, b[:at], field, b[at+len(field):])
		} else {
			errno = d.write(w, b)
		}
		if errno == 0 {
			n = 1
		}
		return n, errno
	}
	w.cut.Reset(f)
	for all := 0; ; all++ {
		head, payload, ok := w.cut.Next(w.head[:])
		switch {
		case !ok && all == 0:
			return 0, syscall.EINVAL
		case !ok:
			return n, errno
		}
		if e := d.write(w, w.head[:head], payload); e != 0 {
			errno = e
		} else {
			n++
		}
	}
}

// write writes a finished frame that lies in parts.
func (d *Device) write(w *writer, parts ...[]byte) syscall.Errno {
	clear(w.vnet[:])
	w.set(0, w.vnet[:d.vnetLen])
	for i, p := range parts {
		w.set(1+i, p)
	}
	return d.writev(w, 1+len(parts))
}

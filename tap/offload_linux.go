package tap

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// Super-frames and partial checksums are written to the kernel as they are. If it refuses one, the frame is cut or its
// checksum completed here, and that kind is disabled until Retry. Only EINVAL is about the offload (tun_get_user in
// drivers/net/tun.c, on reading the header); all other errors are about this frame or this moment.

// maxUDP is the maximum of datagrams in a super-frame of UDP: UDP_MAX_SEGMENTS before Linux 6.9.
const maxUDP = 64

// Offload tells whether super-frames of a kind may be written; for None, partial checksums.
func (d *Device) Offload(kind ether.Kind) offload.Status { return d.feature(kind).Status() }

// Retry enables again what was disabled since the kernel had refused it.
func (d *Device) Retry() {
	for i := range d.features {
		d.features[i].Retry()
	}
}

func (d *Device) feature(kind ether.Kind) *offload.Feature { return &d.features[kind%nKinds] }

// disableUnsupported blocks what TUNSETOFFLOAD has refused: a kernel that cannot deliver it cannot accept it either.
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

// joinRefused handles that a joined write was refused, and that n of its frames were then accepted one by one.
func (d *Device) joinRefused(kind ether.Kind, n int, errno syscall.Errno) {
	if n == 0 { // joining was not the reason
		return
	}
	g := d.feature(kind)
	g.CountFallback(n)
	if errno == syscall.EINVAL {
		g.Disable(errno)
	}
}

// resend writes a frame that the kernel has refused again, without offload.
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

// writeWithoutOffload writes a frame with its checksum completed, or the segments of a super-frame. It returns the number
// of frames written, and the last error.
func (d *Device) writeWithoutOffload(w *writer, f *ether.Frame) (n int, errno syscall.Errno) {
	if f.Off.Kind == ether.None {
		b := f.Bytes()
		if at, sum, partial := f.Checksum(); partial {
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

// write writes a frame without offload, from several parts.
func (d *Device) write(w *writer, parts ...[]byte) syscall.Errno {
	clear(w.vnet[:])
	w.set(0, w.vnet[:d.vnetLen])
	for i, p := range parts {
		w.set(1+i, p)
	}
	return d.writev(w, 1+len(parts))
}

package tap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Why frames cannot reach the container. ErrGone is another reason.
var (
	ErrDown    = errors.New("the link is down in the container")
	ErrHostEnd = errors.New("the link's end on this host is down")
)

// carrier finds out whether a Device's links are up. A TAP that is down refuses what is written (EIO). With a veth, the
// TAP is always up: it accepts each frame, and the redirect drops what the veth cannot send, without counting it
// (tcf_mirred in net/sched/act_mirred.c).
type carrier struct {
	veth   bool
	socket int    // for ioctls
	outer  uint32 // index of the veth's host end
}

// ifreq is struct ifreq of netdevice(7), as SIOCGIFNAME and SIOCGIFFLAGS use it.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte // index, or flags
}

// watchVeth makes Carrier look at a veth, too.
func (c *carrier) watchVeth(outer string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket to ask about %s: %w", outer, err)
	}
	req, err := unix.NewIfreq(outer)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("find the index of %s: %w", outer, err)
	}
	c.veth, c.socket, c.outer = true, fd, req.Uint32()
	return nil
}

func (c *carrier) close() error {
	if !c.veth {
		return nil
	}
	c.veth = false
	return os.NewSyscallError("close", unix.Close(c.socket))
}

// Carrier tells whether frames can reach the container: nil, ErrDown, ErrHostEnd or ErrGone. It may be called on the data
// path: it allocates nothing, and the kernel answers without rtnl, the lock that is held while links are changed.
func (d *Device) Carrier() error {
	tap := unix.PollFd{Fd: int32(d.fd), Events: unix.POLLOUT}
	var now unix.Timespec
	n, _, errno := uintptr(0), uintptr(0), syscall.EINTR
	for errno == syscall.EINTR { // a signal is pending, such as the Go runtime's at each garbage collection
		n, _, errno = syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&tap)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	}
	switch {
	case errno != 0: // nothing is known
	case n > 0 && tap.Revents&unix.POLLERR != 0:
		return ErrGone
	case n == 0 && d.carrier.veth: // tun_chr_poll in drivers/net/tun.c: a TAP that is down is not writable
		return ErrHostEnd
	case n == 0:
		return ErrDown
	case d.carrier.veth:
		return d.carrier.vethState()
	}
	return nil
}

// vethState asks for the veth by its index: to ask for a name that does not exist would run modprobe (dev_load in
// net/core/dev_ioctl.c).
func (c *carrier) vethState() error {
	var req ifreq
	binary.NativeEndian.PutUint32(req.data[:], c.outer)
	if errno := c.ioctl(unix.SIOCGIFNAME, &req); errno != 0 {
		return goneOr(errno)
	}
	if errno := c.ioctl(unix.SIOCGIFFLAGS, &req); errno != 0 {
		return goneOr(errno)
	}
	switch flags := binary.NativeEndian.Uint16(req.data[:]); {
	case flags&unix.IFF_UP == 0:
		return ErrHostEnd
	case flags&unix.IFF_RUNNING == 0: // the other end is down, or has come up just now, and this one's queue is still stopped (linkwatch_do_dev in net/core/link_watch.c)
		return ErrDown
	}
	return nil
}

func (c *carrier) ioctl(request uintptr, req *ifreq) syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(c.socket), request, uintptr(unsafe.Pointer(req)))
	return errno
}

func goneOr(errno syscall.Errno) error {
	if errno == syscall.ENODEV {
		return ErrGone
	}
	return nil // nothing is known
}

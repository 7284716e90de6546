package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
)

// The frames with which parts are measured: a super-frame as a container sends it over VXLAN, and the shortest frame.
const (
	SuperPayload   = 60_000
	SegmentSize    = 1398 // bytes that an inner MTU of 1450 leaves for data after IPv4 and TCP with timestamps
	ShortFrameSize = 64   // bytes, the header included
)

// Station is the n-th MAC address of the bench, locally administered.
func Station(n int) ether.MAC {
	return ether.MAC{2, 0x42, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// SuperFrame is a TCP super-frame of 60 KB, not yet cut, with a partial checksum.
func SuperFrame(from, to ether.MAC) ether.Frame {
	const tcp = 20
	buf := ipv4(from, to, unix.IPPROTO_TCP, tcp+SuperPayload)
	l4 := buf[ether.Headroom+34:]
	copy(l4, []byte{0xc3, 0x50, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, 0x10 /* ACK */, 1, 0})
	binary.BigEndian.PutUint16(l4[16:], ether.Sum(buf[ether.Headroom+26:][:8], unix.IPPROTO_TCP+tcp+SuperPayload))
	return ether.Lend(buf, ether.Offload{Kind: ether.TCP4, PartialChecksum: true, Head: 34 + tcp, Segment: SegmentSize, ChecksumStart: 34, ChecksumOffset: 16})
}

// Shortest is a UDP frame of 64 bytes with a partial checksum.
func Shortest(from, to ether.MAC) ether.Frame { return Datagrams(from, to, 1) }

// Datagrams is n frames of 64 bytes as one super-frame of UDP; with n = 1 it is an ordinary frame.
func Datagrams(from, to ether.MAC, n int) ether.Frame {
	const udp, payload = 8, ShortFrameSize - 34 - 8
	buf := ipv4(from, to, unix.IPPROTO_UDP, udp+n*payload)
	l4 := buf[ether.Headroom+34:]
	copy(l4, []byte{0xc3, 0x50, 0x14, 0x51})
	binary.BigEndian.PutUint16(l4[4:], uint16(udp+n*payload))
	binary.BigEndian.PutUint16(l4[6:], ether.Sum(buf[ether.Headroom+26:][:8], uint32(unix.IPPROTO_UDP+udp+n*payload)))
	off := ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}
	if n > 1 {
		off.Kind, off.Head, off.Segment = ether.UDP, 34+udp, payload
	}
	return ether.Lend(buf, off)
}

// ipv4 is headroom, an Ethernet and an IPv4 header from 10.77.0.1 to 10.77.0.2, and length bytes after them, of which at most
// 20, those of the header of layer 4, are zero.
func ipv4(from, to ether.MAC, protocol byte, length int) []byte {
	buf := make([]byte, ether.Headroom+34+length)
	b := buf[ether.Headroom:]
	copy(b, to[:])
	copy(b[6:], from[:])
	copy(b[12:], []byte{8, 0, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2})
	binary.BigEndian.PutUint16(b[16:], uint16(20+length))
	binary.BigEndian.PutUint16(b[24:], ^ether.Sum(b[14:34], 0))
	for i := range length {
		b[34+i] = byte(i*7 + i>>8)
	}
	clear(b[34:][:min(20, length)])
	return buf
}

// Complete replaces an ordinary frame's partial checksum by the complete one, as in a frame from a wire.
func Complete(f ether.Frame) ether.Frame {
	f.CompleteChecksum()
	return f
}

// A PacketSocket sends frames by a link. packet(7), PACKET_VNET_HDR.
type PacketSocket struct{ fd int }

// OpenPacketSocket opens one on a link of this thread's network namespace.
func OpenPacketSocket(link netlink.Link) (*PacketSocket, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	w := &PacketSocket{fd}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}))
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("open a packet socket on %s: %w", link.Attrs().Name, err)
	}
	return w, nil
}

// Close closes the socket.
func (w *PacketSocket) Close() { unix.Close(w.fd) }

// A Batch is a number of copies of a frame, for one sendmmsg(2).
type Batch struct {
	vnet [10]byte // struct virtio_net_hdr, linux/virtio_net.h
	iov  [2]unix.Iovec
	msgs []mmsghdr
	room []byte // what iov points to
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// NewBatch makes a batch of n copies of f.
func NewBatch(f ether.Frame, n int) *Batch {
	v := &Batch{msgs: make([]mmsghdr, n), room: f.Bytes()}
	if f.Off.PartialChecksum {
		v.vnet[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
		binary.NativeEndian.PutUint16(v.vnet[6:], f.Off.ChecksumStart)
		binary.NativeEndian.PutUint16(v.vnet[8:], f.Off.ChecksumOffset)
	}
	if f.Off.Kind != ether.None {
		v.vnet[1] = map[ether.Kind]byte{ether.TCP4: 1, ether.TCP6: 4, ether.UDP: 5}[f.Off.Kind] // VIRTIO_NET_HDR_GSO_*
		binary.NativeEndian.PutUint16(v.vnet[2:], f.Off.Head)
		binary.NativeEndian.PutUint16(v.vnet[4:], f.Off.Segment)
	}
	v.iov[0].Base, v.iov[1].Base = &v.vnet[0], &v.room[0]
	v.iov[0].SetLen(len(v.vnet))
	v.iov[1].SetLen(len(v.room))
	for i := range v.msgs {
		v.msgs[i].hdr.Iov = &v.iov[0]
		v.msgs[i].hdr.SetIovlen(2)
	}
	return v
}

// Write sends all of a batch.
func (w *PacketSocket) Write(v *Batch) error { return sendAll(w.fd, v.msgs) }

// sendAll sends all messages.
func sendAll(fd int, msgs []mmsghdr) error {
	for len(msgs) > 0 {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return os.NewSyscallError("sendmmsg", errno)
		}
		msgs = msgs[n:]
	}
	return nil
}

// InNewNamespace runs fn on a thread in a new network namespace, with lo up. The thread stays locked, so it ends with fn; the
// namespace ends when all that fn opened there is closed.
func InNewNamespace(fn func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			return fmt.Errorf("bring lo up: %w", err)
		}
		return fn()
	})
}

// InNamespaceOf runs fn on a thread in the network namespace of the process pid.
func InNamespaceOf(pid string, fn func() error) error {
	return onThread(func() error {
		ns, err := os.Open("/proc/" + pid + "/ns/net")
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network of process %s: %w", pid, err)
		}
		return fn()
	})
}

func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}

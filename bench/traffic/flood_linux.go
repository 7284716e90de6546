package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// floodAddresses is how many source addresses a flood has.
const floodAddresses = 1_000_000

// floodTime is how long a flood lasts if nobody ends it.
const floodTime = time.Minute

// flood sends the shortest frames of an EtherType that nobody reads, to everybody, as fast as it can, each from the next of floodAddresses addresses.
func flood(ctx context.Context, name string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, floodTime)
	defer cancel()
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the link %s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	var frames [64][ShortFrameSize]byte
	var iov [len(frames)]unix.Iovec
	msgs := make([]mmsghdr, len(frames))
	for i := range frames {
		copy(frames[i][:], []byte{255, 255, 255, 255, 255, 255, 2, 0xf1, 0, 0, 0, 0, 0x88, 0xb5}) // RFC 5342: local experimental EtherType 1
		iov[i].Base = &frames[i][0]
		iov[i].SetLen(len(frames[i]))
		msgs[i].hdr.Iov = &iov[i]
		msgs[i].hdr.SetIovlen(1)
	}
	for n := uint32(0); ctx.Err() == nil; {
		for i := range frames {
			binary.BigEndian.PutUint32(frames[i][8:], n)
			n = (n + 1) % floodAddresses
		}
		if err := sendAll(fd, msgs); err != nil && !errors.Is(err, unix.ENOBUFS) { // which a queue of the kernel may say
			return err
		}
	}
	return nil
}

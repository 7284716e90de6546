package tap

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
)

// The probes test what a container's port needs of the kernel. Each makes a network namespace that ends with it, so the
// host's links are not touched. That needs CAP_SYS_ADMIN.

// TUN is what the TAPs of this kernel can do.
type TUN struct {
	Header    bool // virtio-net headers, as TUNGETIFF confirms
	Csum, TSO bool // TUNSETOFFLOAD takes TUN_F_CSUM; TUN_F_TSO4 and TUN_F_TSO6
	USO       bool // TUN_F_USO4 and TUN_F_USO6, since Linux 6.2
	Tunnels   bool // TUN_F_UDP_TUNNEL_GSO and TUN_F_UDP_TUNNEL_GSO_CSUM, since Linux 6.17
}

// ProbeTUN makes a TAP and finds out what it can do. If none can be made, the error is a *NodeError.
func ProbeTUN() (t TUN, err error) {
	err = inNewNamespace(func() error {
		fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return explainNode(node, err)
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq("tapestry%d")
		if err != nil {
			return err
		}
		features, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
		if err != nil {
			return fmt.Errorf("read the features of %s: %w", node, explainNode(node, err))
		}
		const want = unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | uint16(features&want))
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return fmt.Errorf("make a tap: %w", explainNode(node, err))
		}
		if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
			return fmt.Errorf("read the flags of a tap: %w", err)
		}
		t.Header = req.Uint16()&unix.IFF_VNET_HDR != 0
		takes := func(bits int) bool {
			return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|bits) == nil
		}
		t.Csum = takes(0)
		t.TSO = takes(unix.TUN_F_TSO4 | unix.TUN_F_TSO6)
		t.USO = takes(unix.TUN_F_USO4 | unix.TUN_F_USO6)
		t.Tunnels = takes(unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6 | tunnels)
		return nil
	})
	if err == nil {
		err = CheckTUN() // the permission in the new namespace does not imply the one in this namespace
	}
	return t, err
}

// ProbeVeth makes a veth pair.
func ProbeVeth() error {
	return inNewNamespace(func() error {
		at := netlink.NewLinkAttrs()
		at.Name = "outer"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: "inner"}); err != nil {
			return fmt.Errorf("make veth: %w", explain(err, "veth"))
		}
		return nil
	})
}

// ProbeRedirect makes a port as a container gets it, and sends a frame through it in each direction.
func ProbeRedirect() error {
	return inNewNamespace(func() error {
		s := Spec{ID: "probe", Tag: "tapestry:probe", Mode: Veth, MAC: ether.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500}
		d, err := Create(s)
		if err != nil {
			return err
		}
		defer d.Close()
		l, err := netlink.LinkByName(s.Link())
		if err != nil {
			return fmt.Errorf("look for link %s: %w", s.Link(), err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("bring link %s up: %w", s.Link(), err)
		}
		return d.checkRedirect(l.Attrs().Index, s.MAC)
	})
}

// checkRedirect sends a frame from the container's end to d, and one from d to the container's end.
func (d *Device) checkRedirect(index int, mac ether.MAC) error {
	const experimental = ether.TypeExperimental
	protocol := uint16(experimental>>8 | experimental&0xff<<8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: protocol}); err != nil {
		return fmt.Errorf("bind a packet socket: %w", err)
	}
	room := make([]byte, ether.Headroom+60)
	frame := room[ether.Headroom:]
	copy(frame, bytes.Repeat([]byte{0xff}, 6))
	copy(frame[6:], mac[:])
	frame[12], frame[13] = experimental>>8, experimental&0xff
	copy(frame[14:], "tapestry")

	arrived := false
	d.Bind(func(frames []ether.Frame) {
		for i := range frames {
			arrived = arrived || bytes.Equal(frames[i].Bytes(), frame)
		}
	})
	arena := make([]byte, 1<<18)
	send := func() error {
		_, err := unix.Write(fd, frame)
		return err
	}
	err = sendUntil(d.fd, &arrived, send, func() error { return d.Drain(arena) })
	if err != nil {
		return fmt.Errorf("a frame of the container's does not reach the tap: %w", err)
	}

	back := ether.Lend(room, ether.Offload{})
	send = func() error {
		if sent, _ := d.Send([]*ether.Frame{&back}); sent != 1 {
			return errors.New("the tap takes none")
		}
		return nil
	}
	arrived = false
	err = sendUntil(fd, &arrived, send, func() error {
		n, err := unix.Read(fd, arena)
		arrived = n > 0 && bytes.Equal(arena[:n], frame)
		return err
	})
	if err != nil {
		return fmt.Errorf("a frame from the tap does not reach the container: %w", err)
	}
	return nil
}

// sendUntil sends, and reads whenever fd has something, until done; after 20 sends, about a second, it gives up. It sends again and
// again: a link that has just come up loses what is sent before the kernel has given it a queue, which a busy machine does when it can.
// It counts sends and not the time, in which this process may have got none, and in the end reads what is there.
func sendUntil(fd int, done *bool, send, read func() error) error {
	const often, most = 50 * time.Millisecond, 20
	var next time.Time
	for tries := 0; !*done; {
		wait := int(often.Milliseconds())
		if now := time.Now(); !now.Before(next) {
			if tries++; tries > most {
				wait = 0
			} else if err := send(); err != nil {
				return fmt.Errorf("send it: %w", err)
			}
			next = now.Add(often)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, wait)
		if n > 0 {
			err = read()
		}
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if !*done && (tries > most && n <= 0 || tries > 2*most) { // there is nothing more, or always something else
			return errors.New("not within a second")
		}
	}
	return nil
}

// ErrNoNamespace means that a probe could not run.
var ErrNoNamespace = errors.New("make a network namespace")

// inNewNamespace runs fn on a thread in a network namespace that is made for it and ends after it.
func inNewNamespace(fn func() error) error {
	return elsewhere(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("%w: %w", ErrNoNamespace, err)
		}
		return fn()
	})
}

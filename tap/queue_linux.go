package tap

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openQueues opens n queues of an existing TAP, at least one, with virtio-net headers and as many
// offloads as the kernel has.
func openQueues(name string, n int) (*Device, error) {
	d := &Device{Link: name}
	d.Queue = Queue{d, -1}
	for i := range max(1, n) {
		fd, err := openQueue(name)
		q := &Queue{d, fd}
		if i == 0 {
			d.fd = fd
		} else if err == nil {
			d.others = append(d.others, q)
		}
		if err == nil {
			err = d.prepare(fd)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open tap %s: %w", name, err), d.Close())
		}
	}
	return d, nil
}

func openQueue(name string) (fd int, err error) {
	t := netlink.Tuntap{Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_MULTI_QUEUE | netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
	t.Name = name
	files, err := t.AddQueues(1)
	if err != nil {
		return -1, err
	}
	// The file is watched by Go's own poller, which would wake up with each frame for nothing: a
	// copy of the descriptor is not.
	defer files[0].Close()
	return unix.FcntlInt(files[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

func (d *Device) prepare(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	// The header can be refused without an error, and every frame would then be read shifted.
	req, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
		return fmt.Errorf("read its flags: %w", err)
	}
	if req.Uint16()&unix.IFF_VNET_HDR == 0 {
		return fmt.Errorf("flags %#x: it speaks no virtio-net header; another program holds a queue of it", req.Uint16())
	}
	const csum, tso, uso = unix.TUN_F_CSUM, unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
	for _, want := range []int{csum | tso | uso | tunnels, csum | tso | uso, csum | tso, csum, 0} {
		d.vnetLen = vnetLen
		if want&tunnels != 0 {
			d.vnetLen = vnetTunnelLen
		}
		// The length first: with the offload on and a short header, the kernel would hand over nothing.
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, d.vnetLen); err != nil {
			return fmt.Errorf("set the virtio-net header's length: %w", err)
		}
		if err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, want); err == nil {
			d.offloads = want
			d.probed()
			return nil
		}
	}
	return fmt.Errorf("set offloads: %w", err)
}

// tunnels are TUN_F_UDP_TUNNEL_GSO and TUN_F_UDP_TUNNEL_GSO_CSUM, since Linux 6.17: super-frames within UDP tunnels,
// whose headers have a checksum or none.
const tunnels = 0x080 | 0x100

package tap

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openQueue opens one queue of an existing TAP, with virtio-net headers and as many offloads as the
// kernel has.
func openQueue(name string) (*Device, error) {
	t := netlink.Tuntap{Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_MULTI_QUEUE | netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
	t.Name = name
	files, err := t.AddQueues(1)
	if err != nil {
		return nil, fmt.Errorf("open tap %s: %w", name, err)
	}
	// The file is watched by Go's own poller, which would wake up with each frame for nothing: a
	// copy of the descriptor is not.
	defer files[0].Close()
	fd, err := unix.FcntlInt(files[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open tap %s: %w", name, err)
	}
	d := &Device{Link: name, fd: fd}
	if err := d.prepare(); err != nil {
		d.Close()
		return nil, fmt.Errorf("open tap %s: %w", name, err)
	}
	return d, nil
}

func (d *Device) prepare() error {
	if err := unix.SetNonblock(d.fd, true); err != nil {
		return err
	}
	// The header can be refused without an error, and every frame would then be read shifted.
	req, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(d.fd, unix.TUNGETIFF, req); err != nil {
		return fmt.Errorf("read its flags: %w", err)
	}
	if req.Uint16()&unix.IFF_VNET_HDR == 0 {
		return fmt.Errorf("flags %#x: it speaks no virtio-net header; another program holds a queue of it", req.Uint16())
	}
	if err := unix.IoctlSetPointerInt(d.fd, unix.TUNSETVNETHDRSZ, vnetLen); err != nil {
		return fmt.Errorf("set the virtio-net header's length: %w", err)
	}
	const csum, tso, uso = unix.TUN_F_CSUM, unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
	for _, want := range []int{csum | tso | uso, csum | tso, csum, 0} {
		if err = unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, want); err == nil {
			d.offloads = want
			d.probed()
			return nil
		}
	}
	return fmt.Errorf("set offloads: %w", err)
}

package tap

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// openQueues opens n queues of an existing TAP, at least one, with virtio-net headers and all offloads that the kernel
// supports.
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
	fd, err = unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, explainNode(node, err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_MULTI_QUEUE | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		err = errors.New("another program holds it: find it with grep -l " + name + " /proc/[0-9]*/fdinfo/*")
	case errors.Is(err, unix.EINVAL):
		err = errors.New("there is a link of this name that is no TAP of several queues: rename or remove it, tapestry needs the name")
	case err != nil:
		err = explainNode(node, err)
	default: // without an owner, everybody who may open the node could open a queue
		err = errors.Join(unix.IoctlSetInt(fd, unix.TUNSETOWNER, 0), unix.IoctlSetInt(fd, unix.TUNSETGROUP, 0))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (d *Device) prepare(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	// The kernel may ignore IFF_VNET_HDR without an error; then every frame would be read with a wrong offset.
	req, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
		return fmt.Errorf("read its flags: %w", explain(err, ""))
	}
	if req.Uint16()&unix.IFF_VNET_HDR == 0 {
		return fmt.Errorf("flags %#x: it has no virtio-net header; another program holds a queue of it", req.Uint16())
	}
	const csum, tso, uso = unix.TUN_F_CSUM, unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
	for _, want := range []int{csum | tso | uso | tunnels, csum | tso | uso, csum | tso, csum, 0} {
		d.vnetLen = vnetLen
		if want&tunnels != 0 {
			d.vnetLen = vnetTunnelLen
		}
		// The length first: with this offload and a short header, the kernel would deliver nothing.
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, d.vnetLen); err != nil {
			return fmt.Errorf("set the virtio-net header's length: %w", explain(err, ""))
		}
		if err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, want); err == nil {
			d.offloads = want
			d.disableUnsupported()
			return nil
		}
	}
	return fmt.Errorf("set offloads: %w", explain(err, ""))
}

// tunnels are TUN_F_UDP_TUNNEL_GSO and TUN_F_UDP_TUNNEL_GSO_CSUM, since Linux 6.17: super-frames within UDP tunnels,
// whose headers have a checksum or none.
const tunnels = 0x080 | 0x100

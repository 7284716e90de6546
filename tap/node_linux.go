package tap

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// node is the device by which TAPs are made: character device 10:200 (Documentation/admin-guide/devices.txt).
const node = "/dev/net/tun"

const nodeMajor, nodeMinor = 10, 200

// A NodeError says why this process cannot make TAPs.
type NodeError struct {
	Wrong  string // what is wrong
	Remedy string // what to type, or to allow; "": the kernel has no tun driver
}

// Error is what is wrong and the remedy, as one sentence.
func (e *NodeError) Error() string {
	if e.Remedy == "" {
		return e.Wrong + ": modprobe tun"
	}
	return e.Wrong + ": " + e.Remedy
}

// CheckTUN returns why this process cannot make TAPs: a *NodeError, or nil if it can. It makes none.
func CheckTUN() error { return checkNode(node) }

func checkNode(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return explainNode(path, err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("tapestry%d") // no link can have this name
	if err != nil {
		return err
	}
	// Neither IFF_TUN nor IFF_TAP is set: the kernel checks the permission before it finds that the request is invalid
	// (tun_set_iff in drivers/net/tun.c).
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return explainNode(path, err)
}

// explainNode finds out why path could not be opened, or no TAP be made with it. Other errors are returned unchanged.
func explainNode(path string, err error) error {
	create := fmt.Sprintf("mkdir -p %s && mknod -m 666 %s c %d %d; in a container: --device %s", filepath.Dir(path), path, nodeMajor, nodeMinor, path)
	var s unix.Stat_t
	switch missing := unix.Stat(path, &s); {
	case errors.Is(missing, fs.ErrNotExist) || errors.Is(missing, unix.ENOTDIR):
		if !hasTUN() {
			return &NodeError{Wrong: fmt.Sprintf("there is no %s, and this kernel has no tun driver loaded (/proc/misc)", path)}
		}
		return &NodeError{fmt.Sprintf("there is no %s, though this kernel has the tun driver", path), create}
	case missing != nil:
		return &NodeError{fmt.Sprintf("%s cannot be looked at: %v", path, missing), "see who has mounted what there: findmnt -T " + path}
	case s.Mode&unix.S_IFMT != unix.S_IFCHR:
		return &NodeError{fmt.Sprintf("%s is no device but %s", path, typeOf(s.Mode)), "rm -r " + path + " (or umount it); " + create}
	case unix.Major(s.Rdev) != nodeMajor || unix.Minor(s.Rdev) != nodeMinor:
		return &NodeError{fmt.Sprintf("%s is device %d:%d, and the tun driver's is %d:%d", path, unix.Major(s.Rdev), unix.Minor(s.Rdev), nodeMajor, nodeMinor), "rm " + path + "; " + create}
	case errors.Is(err, unix.EACCES) && nodev(path):
		return &NodeError{path + " is on a file system that is mounted nodev", fmt.Sprintf("mount -o remount,dev $(findmnt -no TARGET -T %s)", path)}
	case errors.Is(err, unix.EACCES) && os.Geteuid() == 0:
		return &NodeError{path + " may not be opened, though this is root: SELinux, AppArmor or another security module forbids it",
			"see which: dmesg | grep -i denied, and allow it"}
	case errors.Is(err, unix.EACCES):
		return &NodeError{fmt.Sprintf("this user may not open %s (mode %o)", path, s.Mode&0o777), "run it as root"}
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return &NodeError{Wrong: fmt.Sprintf("%s is there, and this kernel has no tun driver for it", path)}
	case errors.Is(err, unix.EPERM) && !mayOpen(path):
		return &NodeError{path + " may not be opened: a device cgroup forbids it",
			fmt.Sprintf("allow c %d:%d rwm: DeviceAllow=%s rw in a systemd unit, --device %s for a container", nodeMajor, nodeMinor, path, path)}
	case errors.Is(err, unix.EPERM):
		return &NodeError{"this process may not make TAPs: it lacks CAP_NET_ADMIN in the network namespace that it is in",
			"run it as root on the host itself; in a systemd unit AmbientCapabilities=CAP_NET_ADMIN, in a container --cap-add NET_ADMIN"}
	}
	return explain(err, "")
}

func mayOpen(path string) bool {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

func nodev(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Flags&unix.ST_NODEV != 0
}

// hasTUN tells whether the kernel has the tun driver, built in or loaded: proc(5), /proc/misc.
func hasTUN() bool {
	b, _ := os.ReadFile("/proc/misc")
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[1]) == "tun" {
			return true
		}
	}
	return false
}

func typeOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a plain file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFBLK:
		return "a block device"
	}
	return "something else"
}

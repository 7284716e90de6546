package tap

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explain says what a kernel error means for the user of a docker command, and what to do, followed by the kernel's error.
// modules are the kernel modules that are needed; "": none that can be missing. Other errors are returned unchanged.
func explain(err error, modules string) error {
	say := func(text string) error { return fmt.Errorf("%s (%w)", text, err) }
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return say("this process lacks CAP_NET_ADMIN in the network namespace that it is in")
	case modules != "" && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT)):
		return say("this kernel lacks a part: modprobe -a " + modules)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return say("this kernel does not support it, or not with this value")
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return say("the link has gone meanwhile: try again")
	case errors.Is(err, unix.EBUSY):
		return say("another program is changing it: try again")
	case errors.Is(err, unix.EEXIST):
		return say("something of that name is there already")
	}
	return explainLimit(err)
}

// explainLimit is explain for limits of this process or host.
func explainLimit(err error) error {
	say := func(text string) error { return fmt.Errorf("%s (%w)", text, err) }
	switch {
	case errors.Is(err, unix.EMFILE):
		return say("this process has as many files open as it may: raise ulimit -n, in a systemd unit LimitNOFILE=")
	case errors.Is(err, unix.ENFILE):
		return say("this host has as many files open as it may: raise sysctl fs.file-max")
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
		return say("the kernel has no memory left for it: see free -m, and the limit of the daemon's cgroup")
	}
	return err
}

// explainNamespace is explain for a container's network namespace.
func explainNamespace(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("this process lacks CAP_SYS_ADMIN, without which nobody gets into a container's network namespace (%w)", err)
	}
	return explainLimit(err)
}

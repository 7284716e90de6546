package tunnel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explainSocket says what to do if a UDP socket cannot be opened, followed by the kernel's error.
func explainSocket(err error) error {
	if errors.Is(err, unix.EAFNOSUPPORT) {
		err = fmt.Errorf("this kernel has no IPv6: allow it (ipv6.disable), or name an IPv4 address with --vtep (%w)", err)
	}
	return fmt.Errorf("open a UDP socket: %w", explainLimit(err))
}

// explainLimit says what to do if a limit of this process or host was reached.
func explainLimit(err error) error {
	text := ""
	switch {
	case errors.Is(err, unix.EMFILE):
		text = "this process has as many files open as it may: raise ulimit -n, in a systemd unit LimitNOFILE="
	case errors.Is(err, unix.ENFILE):
		text = "this host has as many files open as it may: raise sysctl fs.file-max"
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
		text = "the kernel has no memory left for it: see free -m, and the limit of the daemon's cgroup"
	default:
		return err
	}
	return fmt.Errorf("%s (%w)", text, err)
}

// explainBind says what to do if an address cannot be bound.
func explainBind(err error) error {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("a port below 1024 takes CAP_NET_BIND_SERVICE: take another --vxlan-port, the same on every host (%w)", err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("no link of this host has that address: give it to one, or start tapestry with another --vtep (%w)", err)
	}
	return err
}

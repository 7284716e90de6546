package tap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// CheckEnter returns why this process cannot enter the network namespaces of containers; nil if it can. That needs
// CAP_SYS_ADMIN (setns(2)), which a managed plugin of Docker has only if its configuration asks for it.
func CheckEnter() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("ask for this process's capabilities: %w", err)
	}
	if data[unix.CAP_SYS_ADMIN/32].Effective&(1<<(unix.CAP_SYS_ADMIN%32)) == 0 {
		return errors.New("this process may not enter containers' network namespaces, it has no CAP_SYS_ADMIN")
	}
	return nil
}

// openInSandbox opens a TAP that Docker has moved into the container, and renamed there. The kernel looks for a TAP in the
// namespace in which /dev/net/tun was opened, so the thread enters that of the container.
func (s *Spec) openInSandbox() (d *Device, err error) {
	if s.Sandbox == "" {
		return nil, ErrGone
	}
	err = inNamespace(s.Sandbox, func() error {
		links, err := linkList()
		if err != nil {
			return err
		}
		name := s.findTagged(links)
		if name == "" {
			return ErrGone
		}
		d, err = openQueues(name, s.Queues)
		return err
	})
	return d, err
}

// findTagged finds the TAP in a container by its tag. The container may have changed that: then by its MAC, among TAPs
// without a tag of ours.
func (s *Spec) findTagged(links []netlink.Link) (name string) {
	for _, l := range links {
		a := l.Attrs()
		if _, is := l.(*netlink.Tuntap); !is {
			continue
		}
		if a.Alias == s.Tag {
			return a.Name
		}
		if bytes.Equal(a.HardwareAddr, s.MAC[:]) && !strings.HasPrefix(a.Alias, "tapestry:") {
			name = a.Name
		}
	}
	return name
}

// inNamespace runs fn on a thread in the network namespace at path. ErrGone if that does not exist.
func inNamespace(path string, fn func() error) error {
	ns, err := netns.GetFromPath(path)
	if errors.Is(err, os.ErrNotExist) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, explainNamespace(err))
	}
	defer ns.Close()
	return elsewhere(func() error {
		if err := netns.Set(ns); err != nil {
			if errors.Is(err, unix.EINVAL) { // the namespace was unmounted, and an empty file is left
				err = ErrGone
			}
			return fmt.Errorf("enter namespace %s: %w", path, explainNamespace(err))
		}
		return fn()
	})
}

// elsewhere runs fn, which goes to another network namespace, on a thread that ends with it. That must not be the process's first
// thread, which the runtime never ends: it would hold the namespace of a container that has ended. To come back instead would not
// do: in a user namespace the way back is forbidden.
func elsewhere(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- elsewhere(fn) // on another thread, since this one is locked here
			runtime.UnlockOSThread()
			return
		}
		done <- fn()
	}()
	return <-done
}

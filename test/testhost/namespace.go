package testhost

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// Namespace puts the test into a network namespace of its own, which ends with the test. Sockets, links and /dev/net/tun belong to the
// namespace of the thread that opens them, so the test must stay on this goroutine. The test is skipped without root.
func Namespace(t testing.TB) netns.NsHandle {
	t.Helper()
	Root(t, "to make a network namespace")
	runtime.LockOSThread()
	before, err := netns.Get()
	Must(t, err)
	ns, err := netns.New() // and go there
	Must(t, err)
	t.Cleanup(func() {
		if err := netns.Set(before); err != nil {
			t.Fatal(err) // the thread stays locked and ends with the goroutine
		}
		before.Close()
		ns.Close()
		runtime.UnlockOSThread()
	})
	return ns
}

// OtherNamespace is one more network namespace, as another host or a container has, and its path. The test, which called Namespace
// before, stays where it is.
func OtherNamespace(t testing.TB) (netns.NsHandle, string) {
	t.Helper()
	here, err := netns.Get()
	Must(t, err)
	defer here.Close()
	ns, err := netns.New()
	Must(t, err)
	t.Cleanup(func() { ns.Close() })
	Must(t, netns.Set(here))
	return ns, fmt.Sprintf("/proc/self/fd/%d", int(ns))
}

package testhost

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
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

// OneCore keeps the test, which called Namespace before, on one core: what is sent over lo or a veth waits in a queue of the sender's
// core until the kernel delivers it, so only what one core sends comes in order.
func OneCore(t testing.TB) {
	t.Helper()
	var all, one unix.CPUSet
	Must(t, unix.SchedGetaffinity(0, &all))
	for core, n := 0, rand.IntN(all.Count()); !one.IsSet(core); core++ {
		if all.IsSet(core) {
			if n--; n < 0 {
				one.Set(core)
				break
			}
		}
	}
	Must(t, unix.SchedSetaffinity(0, &one))
	t.Cleanup(func() { Must(t, unix.SchedSetaffinity(0, &all)) })
}

package tunnel

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A wire is a veth between two hosts, and the test's thread is at one of them.
type wire struct {
	t           testing.TB
	here, there netns.NsHandle
}

// newWire: here is 192.0.2.1 and fd00:1::1, there .2 and ::2. The test begins here.
func newWire(t testing.TB) *wire {
	t.Helper()
	w := &wire{t: t, here: host(t)}
	w.there, _ = testhost.OtherNamespace(t)
	w.link()
	return w
}

// link makes the link between both.
func (w *wire) link() {
	t := w.t
	t.Helper()
	testhost.Must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "underlay"}, PeerName: "underlay", PeerNamespace: netlink.NsFd(w.there)}))
	for i, ns := range []netns.NsHandle{w.here, w.there} {
		w.at(ns, func() {
			w.sh("ip link set lo up; ip link set underlay address 02:00:00:00:00:0%[1]d; ip address add 192.0.2.%[1]d/24 dev underlay; ip address add fd00:1::%[1]d/64 dev underlay nodad; ip link set underlay up", i+1)
		})
	}
	for i, ns := range []netns.NsHandle{w.there, w.here} { // both know each other, and need not ask
		w.at(ns, func() {
			carrying(t, "underlay")
			w.sh("for a in 192.0.2.%[1]d fd00:1::%[1]d; do ip neighbour replace $a lladdr 02:00:00:00:00:0%[1]d dev underlay nud permanent; done", i+1)
		})
	}
}

// at has fn run in a namespace. It must not end the test.
func (w *wire) at(ns netns.NsHandle, fn func()) {
	w.t.Helper()
	testhost.Must(w.t, netns.Set(ns))
	defer func() { testhost.Must(w.t, netns.Set(w.here)) }()
	fn()
}

// sh runs a script where the test's thread is.
func (w *wire) sh(format string, args ...any) {
	w.t.Helper()
	cmd := exec.Command("sh", "-ec", fmt.Sprintf(format, args...))
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v: %s", cmd, err, out)
	}
}

// join has the kernel here join what comes from there, as a network card's driver does, and none there leave joined.
func (w *wire) join() {
	w.t.Helper()
	testhost.Tools(w.t, "ethtool")
	w.sh("ethtool -K underlay gro on")
	// What comes within 20 ms is looked at together, however slow the machine is.
	w.sh("exec unshare -m sh -ec 'mount -t sysfs sysfs /sys; cd /sys/class/net/underlay; echo 20000000 > gro_flush_timeout; echo 2 > napi_defer_hard_irqs; echo 1 > threaded'")
	w.at(w.there, func() { w.sh("ethtool -K underlay tso off tx-udp-segmentation off") })
}

// datagrams is how many datagrams the kernel here gave to sockets since the last call; joined ones count once.
func (w *wire) datagrams(v6 bool) (n int) {
	w.t.Helper()
	table, name := "/proc/thread-self/net/snmp", "Udp:"
	if v6 {
		table, name = "/proc/thread-self/net/snmp6", "Udp6InDatagrams"
	}
	b, err := os.ReadFile(table)
	testhost.Must(w.t, err)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			if n, err = strconv.Atoi(f[1]); err == nil { // else the line of headings
				return n
			}
		}
	}
	w.t.Fatalf("%s has no %s", table, name)
	return 0
}

// know has the tapestries learn of each other.
func know(t testing.TB, a, b *VTEP) {
	t.Helper()
	known := func(v *VTEP) bool {
		for _, p := range v.Peers() {
			if !p.isTapestry.Load() || !p.mayRemoteSum.Load() {
				return false
			}
		}
		return true
	}
	arena := make([]byte, recvMsgs*recvRoom)
	deadline := time.Now().Add(time.Minute)
	for now := time.Second; !known(a) || !known(b); now += time.Second {
		if time.Now().After(deadline) {
			t.Fatal("they do not learn of each other within a minute")
		}
		a.Tick(now)
		b.Tick(now)
		for {
			var fds []unix.PollFd
			all := append(a.Receivers(), b.Receivers()...)
			for _, r := range all {
				fds = append(fds, unix.PollFd{Fd: int32(r.Fd()), Events: unix.POLLIN})
			}
			n, err := unix.Poll(fds, 200)
			if err != unix.EINTR {
				testhost.Must(t, err)
			}
			for _, r := range all {
				testhost.Must(t, r.Drain(arena))
			}
			if n == 0 || known(a) && known(b) {
				break
			}
		}
	}
}

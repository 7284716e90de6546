package tap

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host puts the test into a network namespace of its own, which ends with it. Links and
// /dev/net/tun belong to the thread's namespace, so the test must stay on this goroutine.
func host(t testing.TB) netns.NsHandle {
	t.Helper()
	if os.Geteuid() != 0 {
		cannot(t, "needs root to make a network namespace")
	}
	runtime.LockOSThread()
	before, err := netns.Get()
	must(t, err)
	ns, err := netns.New() // and go there
	must(t, err)
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

// sandbox is another namespace, as a container's, and its path.
func sandbox(t testing.TB) (netns.NsHandle, string) {
	t.Helper()
	here, err := netns.Get()
	must(t, err)
	defer here.Close()
	ns, err := netns.New()
	must(t, err)
	must(t, netns.Set(here))
	t.Cleanup(func() { ns.Close() })
	return ns, fmt.Sprintf("/proc/self/fd/%d", int(ns))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// id is an endpoint id as Docker makes them.
const id = "5f8e3a90c1d24b67a9e0f1c2d3b4a5968778695a4b3c2d1e0f9e8d7c6b5a4938"

func spec(mode Mode) Spec {
	return Spec{ID: id, Tag: "tapestry:test:" + id, Mode: mode, MAC: ether.MAC{2, 0x42, 10, 77, 0, 2}, MTU: 1450}
}

// create makes the port of s, and takes it away with the test.
func create(t testing.TB, s Spec) *Device {
	t.Helper()
	d, err := Create(s)
	must(t, err)
	t.Cleanup(func() {
		_ = d.Close() // the test may have done so
		must(t, Remove(s))
	})
	return d
}

func link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("link %s: %v", name, err)
	}
	return l
}

// there tells whether a link exists.
func there(t testing.TB, name string) bool {
	t.Helper()
	_, err := netlink.LinkByName(name)
	if err != nil && !gone(err) {
		t.Fatal(err)
	}
	return err == nil
}

// await waits for a descriptor to be readable.
func await(t testing.TB, fd int) {
	t.Helper()
	if !readable(t, fd, time.Minute) {
		t.Fatal("nothing to be read within a minute")
	}
}

func readable(t testing.TB, fd int, wait time.Duration) bool {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		must(t, err)
		return n > 0
	}
}

// carrying waits until every link of this namespace that is up also carries: behind the carrier the
// kernel opens a link's queue a moment later.
func carrying(t testing.TB) {
	t.Helper()
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	must(t, netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ListExisting: true}))
	defer func() {
		close(done)
		for range updates { // ends when the subscription has
		}
	}()
	links, err := linkList()
	must(t, err)
	waiting := make(map[int]string)
	for _, l := range links {
		if at := l.Attrs(); at.Flags&net.FlagUp != 0 && at.Flags&net.FlagLoopback == 0 {
			waiting[at.Index] = at.Name
		}
	}
	deadline := time.After(time.Minute)
	for len(waiting) > 0 {
		select {
		case u := <-updates:
			if u.Attrs().OperState == netlink.OperUp {
				delete(waiting, u.Attrs().Index)
			}
		case <-deadline:
			t.Fatalf("links %v carry nothing after a minute", waiting)
		}
	}
}

// settle gives the frames that d has delivered by the time n have come.
func (k *catch) settle(t testing.TB, d *Device, n int) []ether.Frame {
	t.Helper()
	for len(k.frames) < n {
		await(t, d.Fd())
		must(t, d.Drain(k.arena))
	}
	got := k.frames
	k.frames = nil
	return got
}

// A catch keeps copies of the frames that a Device lends.
type catch struct {
	arena  []byte
	frames []ether.Frame
}

func caught(d *Device) *catch {
	k := &catch{arena: make([]byte, 512<<10)}
	d.Bind(func(frames []ether.Frame) {
		for i := range frames {
			k.frames = append(k.frames, ether.Lend(append([]byte(nil), frames[i].WithHeadroom()...), frames[i].Off))
		}
	})
	return k
}

// anywhere opens a socket for each request, in the namespace that the thread is in by then.
var anywhere = &linkSetup{Handle: new(netlink.Handle)}

// A wire is a packet socket on a container's end: what is written leaves the container, what is read
// has come to it. Every packet begins with a virtio-net header.
type wire struct {
	t  testing.TB
	fd int
}

func wireOn(t testing.TB, name string) *wire {
	t.Helper()
	l := link(t, name)
	must(t, anywhere.disableHostIPv6(l)) // the container's IPv6 would speak in between
	must(t, netlink.LinkSetUp(l))
	carrying(t)
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}))
	return &wire{t, fd}
}

func (w *wire) write(off ether.Offload, frame []byte) error {
	b := make([]byte, vnetLen, vnetLen+len(frame))
	encodeVnet(b, off)
	return w.writeRaw(append(b, frame...))
}

func (w *wire) writeRaw(b []byte) error {
	_, err := unix.Write(w.fd, b)
	return err
}

// read gives the next packet that comes.
func (w *wire) read() (ether.Offload, []byte) {
	w.t.Helper()
	await(w.t, w.fd)
	b := make([]byte, 1<<17)
	n, err := unix.Read(w.fd, b)
	must(w.t, err)
	return decodeVnet(b), b[vnetLen:n]
}

// quiet fails the test if something comes within a moment.
func (w *wire) quiet() {
	w.t.Helper()
	if readable(w.t, w.fd, 100*time.Millisecond) {
		_, b := w.read()
		w.t.Fatalf("a frame came: %x", b)
	}
}

package tap

import (
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// id is an endpoint id as Docker makes them.
const id = "5f8e3a90c1d24b67a9e0f1c2d3b4a5968778695a4b3c2d1e0f9e8d7c6b5a4938"

func spec(mode Mode) Spec {
	return Spec{ID: id, Tag: "tapestry:test:" + id, Mode: mode, MAC: ether.MAC{2, 0x42, 10, 77, 0, 2}, MTU: 1450}
}

// create makes the port of s, and takes it away with the test.
func create(t testing.TB, s Spec) *Device {
	t.Helper()
	d, err := Create(s)
	testhost.Must(t, err)
	t.Cleanup(func() {
		_ = d.Close() // the test may have done so
		testhost.Must(t, Remove(s))
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
		testhost.Must(t, err)
		return n > 0
	}
}

// carrying waits until every link of this namespace that is up also carries: behind the carrier the
// kernel opens a link's queue a moment later.
func carrying(t testing.TB) {
	t.Helper()
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	testhost.Must(t, netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ListExisting: true}))
	defer func() {
		close(done)
		for range updates { // ends when the subscription has
		}
	}()
	links, err := linkList()
	testhost.Must(t, err)
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

// drainFrames gives the frames that d has delivered by the time n have come.
func (k *catch) drainFrames(t testing.TB, d *Device, n int) []ether.Frame {
	t.Helper()
	for len(k.frames) < n {
		await(t, d.Fd())
		testhost.Must(t, d.Drain(k.arena))
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
	testhost.Must(t, anywhere.disableHostIPv6(l)) // the container's IPv6 would speak in between
	testhost.Must(t, netlink.LinkSetUp(l))
	carrying(t)
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	testhost.Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	testhost.Must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	testhost.Must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	testhost.Must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	testhost.Must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}))
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
	testhost.Must(w.t, err)
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

package tap

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// carrierIs waits until a device says that of its link: the kernel tells of a carrier a moment after it has changed.
func carrierIs(t *testing.T, d *Device, want error) {
	t.Helper()
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	testhost.Must(t, netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ListExisting: true}))
	defer func() {
		close(done)
		for range updates { // ends when the subscription has
		}
	}()
	deadline := time.After(time.Minute)
	for d.Carrier() != want {
		select {
		case <-updates:
		case <-deadline:
			t.Fatalf("the link is said to be: %v, want %v", d.Carrier(), want)
		}
	}
}

// TestCarrier: the TAP takes a frame for a container whose link is down, and it is lost; that the link is down is known
// all the same, wherever somebody has set it down.
func TestCarrier(t *testing.T) {
	tap, outer, inner := Names(id)
	for _, tt := range []struct {
		name string
		mode Mode
		link string // that is set down
		want error
		sent int // of one frame
	}{
		{"veth, the container's end", Veth, inner, ErrDown, 1},
		{"veth, the host's end", Veth, outer, ErrHostEnd, 1},
		{"veth, the TAP", Veth, tap, ErrHostEnd, 0},
		{"TAP in the container", Direct, tap, ErrDown, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, w := port(t, tt.mode)
			f := tcp(10).frame(t)
			carrierIs(t, d, nil)
			for range 2 {
				testhost.Must(t, netlink.LinkSetDown(link(t, tt.link)))
				carrierIs(t, d, tt.want)
				_, _ = unix.GetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_ERROR) // that its link is down
				if sent, _ := d.Send([]*ether.Frame{&f}); sent != tt.sent {
					t.Errorf("%d frames were taken, want %d", sent, tt.sent)
				}
				w.quiet()
				testhost.Must(t, netlink.LinkSetUp(link(t, tt.link)))
				carrierIs(t, d, nil)
				carrying(t)
				if sent, _ := d.Send([]*ether.Frame{&f}); sent != 1 {
					t.Error("up again, it is refused")
				}
				w.read()
			}
			testhost.Must(t, netlink.LinkDel(link(t, tt.link)))
			carrierIs(t, d, ErrGone)
		})
	}
}

// TestCarrierInTheMaking: a new link is down until the container has it and sets it up.
func TestCarrierInTheMaking(t *testing.T) {
	for _, mode := range []Mode{Veth, Direct} {
		t.Run(string(mode), func(t *testing.T) {
			testhost.Namespace(t)
			s := spec(mode)
			d := create(t, s)
			carrierIs(t, d, ErrDown)
			testhost.Must(t, netlink.LinkSetUp(link(t, s.Link())))
			carrierIs(t, d, nil)
			testhost.Must(t, d.Close())
			d, err := Adopt(s)
			testhost.Must(t, err)
			defer d.Close()
			carrierIs(t, d, nil)
		})
	}
}

// TestCarrierElsewhere: a container's link is known to be down from outside its namespace.
func TestCarrierElsewhere(t *testing.T) {
	for _, mode := range []Mode{Veth, Direct} {
		t.Run(string(mode), func(t *testing.T) {
			testhost.Namespace(t)
			s := spec(mode)
			d := create(t, s)
			ns, path := testhost.OtherNamespace(t)
			testhost.Must(t, netlink.LinkSetNsFd(link(t, s.Link()), int(ns)))
			set := func(change func(netlink.Link) error) {
				testhost.Must(t, inNamespace(path, func() error {
					l, err := netlink.LinkByName(s.Link())
					return errors.Join(err, change(l))
				}))
			}
			set(netlink.LinkSetUp)
			awaitCarrier(t, d, nil)
			set(netlink.LinkSetDown)
			awaitCarrier(t, d, ErrDown)
		})
	}
}

// awaitCarrier is carrierIs where no event tells: the link is in another namespace.
func awaitCarrier(t *testing.T, d *Device, want error) {
	t.Helper()
	testhost.Eventually(t, testhost.Patience, func() error {
		if got := d.Carrier(); got != want {
			return fmt.Errorf("the link is said to be: %v, want %v", got, want)
		}
		return nil
	})
}

// TestCarrierCloses: what is open to ask about a link is closed with its device.
func TestCarrierCloses(t *testing.T) {
	testhost.Namespace(t)
	open := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		testhost.Must(t, err)
		return len(all)
	}
	s := spec(Veth)
	testhost.Must(t, create(t, s).Close())
	before := open()
	for range 5 {
		d, err := Create(s)
		testhost.Must(t, err)
		testhost.Must(t, d.Close())
	}
	if after := open(); after != before {
		t.Errorf("%d files are open, there were %d", after, before)
	}
}

package vswitch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// bridge is a bridge of the kernel's in a namespace of its own. Its ports are TAPs without a qdisc: what is written to one has passed the bridge
// before the write returns, and each holds more frames than a test sends before it reads.
type bridge struct {
	link *netlink.Bridge
	taps []bridgeTap
	buf  []byte
}

type bridgeTap struct {
	fd   int
	link netlink.Link
}

func newBridge(t *testing.T) *bridge {
	testhost.Namespace(t)
	for path, value := range map[string]string{ // so that nobody but the test sends, and nobody but the bridge drops
		"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1",
		"bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-ip6tables": "0", "bridge/bridge-nf-call-arptables": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	snooping, ageing := false, uint32(100*3600*100) // in 1/100 s
	b := &bridge{buf: make([]byte, 1<<16)}
	b.link = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: []byte{2, 0xbb, 0, 0, 0, 0}}, MulticastSnooping: &snooping, AgeingTime: &ageing}
	if err := netlink.LinkAdd(b.link); err != nil {
		testhost.Cannot(t, "needs the kernel's bridge: ", err)
	}
	testhost.Must(t, netlink.LinkSetUp(b.link))
	return b
}

// add makes a port.
func (b *bridge) add(t *testing.T, mtu int, isolated bool) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	testhost.Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	name := fmt.Sprintf("tap%d", len(b.taps))
	req, err := unix.NewIfreq(name)
	testhost.Must(t, err)
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	testhost.Must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	link, err := netlink.LinkByName(name)
	testhost.Must(t, err)
	testhost.Must(t, netlink.LinkSetHardwareAddr(link, []byte{2, 0xbb, 0, 0, 1, byte(len(b.taps))}))
	testhost.Must(t, netlink.LinkSetMTU(link, mtu))
	testhost.Must(t, netlink.QdiscReplace(&netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT}, QdiscType: "noqueue"}))
	testhost.Must(t, netlink.LinkSetMaster(link, b.link))
	testhost.Must(t, netlink.LinkSetIsolated(link, isolated))
	testhost.Must(t, netlink.LinkSetUp(link))
	b.taps = append(b.taps, bridgeTap{fd, link})
}

// write lets a port receive a frame.
func (b *bridge) write(t *testing.T, port int, frame []byte) {
	if n, err := unix.Write(b.taps[port].fd, frame); err != nil || n != len(frame) {
		t.Fatalf("write of %d bytes to port %d: %d, %v", len(frame), port, n, err)
	}
}

// read gives what a port has sent up to the frame end, which it waits for if that must come.
func (b *bridge) read(t *testing.T, port int, must bool, end []byte) (all [][]byte) {
	for {
		n, err := unix.Read(b.taps[port].fd, b.buf)
		switch {
		case err == nil:
			all = append(all, slices.Clone(b.buf[:n]))
			if bytes.Equal(b.buf[:n], end) {
				return all
			}
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EAGAIN):
			t.Fatalf("read from port %d: %v", port, err)
		case !must:
			return all
		default:
			ready := []unix.PollFd{{Fd: int32(b.taps[port].fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(ready, int(testhost.Patience.Milliseconds())); n != 1 && !errors.Is(err, unix.EINTR) {
				t.Fatalf("port %d has not sent the last frame: %v", port, err)
			}
		}
	}
}

// replug takes a port out of the bridge, which forgets what it has learned there, and puts it back.
func (b *bridge) replug(t *testing.T, port int, isolated bool) {
	link := b.taps[port].link
	testhost.Must(t, netlink.LinkSetNoMaster(link))
	testhost.Must(t, netlink.LinkSetMaster(link, b.link))
	testhost.Must(t, netlink.LinkSetIsolated(link, isolated))
}

// pin makes an address a static one of a port, which frames that come by another do not move.
func (b *bridge) pin(t *testing.T, m ether.MAC, port int) {
	n := b.neighbour(m, port)
	n.State, n.Flags = netlink.NUD_NOARP, n.Flags|netlink.NTF_STICKY
	testhost.Must(t, netlink.NeighSet(n))
}

// forget removes an address that was learned at a port.
func (b *bridge) forget(t *testing.T, m ether.MAC, port int) {
	if err := netlink.NeighDel(b.neighbour(m, port)); err != nil {
		t.Fatalf("the bridge does not forget %s at port %d: %v", m, port, err)
	}
}

func (b *bridge) neighbour(m ether.MAC, port int) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: b.taps[port].link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, HardwareAddr: m[:]}
}

// tell logs what the bridge knows and has dropped.
func (b *bridge) tell(t *testing.T) {
	for i, tap := range b.taps {
		link, err := netlink.LinkByIndex(tap.link.Attrs().Index)
		testhost.Must(t, err)
		stats := link.Attrs().Statistics
		all, err := netlink.NeighList(tap.link.Attrs().Index, unix.AF_BRIDGE)
		testhost.Must(t, err)
		var known []string
		for _, n := range all {
			known = append(known, n.HardwareAddr.String()[9:])
		}
		t.Logf("port %d: %d and %d frames dropped; it has %v", i, stats.RxDropped, stats.TxDropped, known)
	}
}

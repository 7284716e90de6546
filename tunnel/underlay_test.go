package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestPortTaken(t *testing.T) {
	host(t)
	for _, sockets := range []int{1, 3} {
		v := listen(t, "127.0.0.1", sockets)
		for _, again := range []int{1, 3} {
			got, err := Listen(at("127.0.0.1"), again)
			if got != nil || !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%d sockets on a port with %d: %v, %v, want EADDRINUSE", again, sockets, got, err)
			}
		}
		comm, err := os.ReadFile("/proc/self/comm")
		testhost.Must(t, err)
		if who, want := PortUser(port), fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(comm)), os.Getpid()); who != want {
			t.Errorf("Holder = %q, want %q", who, want)
		}
		testhost.Must(t, v.Close())
	}
}

// vxlan makes a kernel vxlan device on the VXLAN port.
func vxlan(t *testing.T, name string) netlink.Link {
	t.Helper()
	at := netlink.NewLinkAttrs()
	at.Name = name
	testhost.Must(t, netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: at, VxlanId: 4097, Port: port}))
	l, err := netlink.LinkByName(name)
	testhost.Must(t, err)
	return l
}

func TestPortTakenByKernel(t *testing.T) {
	host(t)
	testhost.Must(t, netlink.LinkSetUp(vxlan(t, "vx0")))
	if v, err := Listen(at("127.0.0.1"), 1); v != nil || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Listen = %v, %v, want EADDRINUSE", v, err)
	}
	if who := PortUser(port); !strings.Contains(who, "vxlan device vx0") || !strings.Contains(who, "4097") {
		t.Errorf("Holder = %q", who)
	}
}

// TestPortTakenBySwarm: Docker's overlay driver makes the device here and moves it into its own namespace.
func TestPortTakenBySwarm(t *testing.T) {
	host(t)
	vx := vxlan(t, "vx0")
	other, _ := testhost.OtherNamespace(t)
	testhost.Must(t, netlink.LinkSetNsFd(vx, int(other)))
	there, err := netlink.NewHandleAt(other)
	testhost.Must(t, err)
	defer there.Close()
	testhost.Must(t, there.LinkSetUp(vx))
	if v, err := Listen(at("127.0.0.1"), 1); v != nil || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Listen = %v, %v, want EADDRINUSE", v, err)
	}
	if who := PortUser(port); !strings.Contains(who, "kernel") || !strings.Contains(who, "Swarm") {
		t.Errorf("Holder = %q", who)
	}
}

// TestPortTakenUnseen: a daemon that may not look into other processes does not blame the kernel for theirs.
func TestPortTakenUnseen(t *testing.T) {
	host(t) // locks the thread, whose capabilities these are
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at("127.0.0.1")))
	testhost.Must(t, err)
	defer c.Close()
	var old, few [2]unix.CapUserData
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	testhost.Must(t, unix.Capget(&head, &old[0]))
	few = old
	few[0].Effective &^= 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	testhost.Must(t, unix.Capset(&head, &few[0]))
	defer func() { testhost.Must(t, unix.Capset(&head, &old[0])) }()
	if canSeeSockets() {
		t.Error("the capability has gone, and it is said to be there")
	}
	if who := portUser(port, func(string) string { return "" }); !strings.HasPrefix(who, "another program") {
		t.Errorf("Holder = %q", who)
	}
}

// TestVxlanThatIsDown holds no port.
func TestVxlanThatIsDown(t *testing.T) {
	host(t)
	vxlan(t, "vx0")
	listen(t, "127.0.0.1", 1)
	if who := PortUser(port); strings.Contains(who, "vx0") {
		t.Errorf("Holder = %q, but that device is down", who)
	}
}

func TestUnderlay(t *testing.T) {
	host(t)
	if a, err := DefaultAddr(); err == nil {
		t.Errorf("DefaultAddr = %s without a route", a)
	}
	at := netlink.NewLinkAttrs()
	at.Name, at.MTU = "under", 1400
	testhost.Must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: "peer"}))
	l, err := netlink.LinkByName("under")
	testhost.Must(t, err)
	testhost.Must(t, netlink.LinkSetUp(l))
	for _, s := range []string{"192.0.2.10/24", "2001:db8::10/64", "2001:db8::99/64"} { // listed last first
		a, err := netlink.ParseAddr(s)
		testhost.Must(t, err)
		a.Flags = unix.IFA_F_NODAD
		if a.IP.To4() != nil {
			a.Flags = 0
		}
		if strings.HasPrefix(s, "2001:db8::99") {
			a.ValidLft = 1000 // and no longer preferred: deprecated
		}
		testhost.Must(t, netlink.AddrAdd(l, a))
	}
	route := func(gw string, metric int) {
		testhost.Must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gw), Priority: metric, Flags: int(netlink.FLAG_ONLINK)}))
	}
	route("2001:db8::1", 100)
	if a, err := DefaultAddr(); err != nil || a != netip.MustParseAddr("2001:db8::10") {
		t.Errorf("DefaultAddr = %v, %v with an IPv6 route only", a, err)
	}
	route("192.0.2.1", 100)
	a, err := DefaultAddr()
	if err != nil || a != netip.MustParseAddr("192.0.2.10") {
		t.Errorf("DefaultAddr = %v, %v", a, err)
	}
	testhost.Until(t, "without a carrier", func() bool { // the kernel notes a moment later that the peer is down
		_, err := Underlay(netip.MustParseAddr("192.0.2.10"))
		return err != nil
	})
	for _, a := range []string{"192.0.2.10", "2001:db8::10"} {
		if p, err := Underlay(netip.MustParseAddr(a)); p != (Path{1400, "under"}) || err == nil || !strings.Contains(err.Error(), "no carrier") { // the peer is down
			t.Errorf("Underlay(%s) = %+v, %v, want under with 1400, and without a carrier", a, p, err)
		}
	}
	if _, err := Underlay(netip.MustParseAddr("192.0.2.99")); !errors.Is(err, ErrNoAddress) {
		t.Errorf("of an address that no link has: %v", err)
	}
}

func TestDump(t *testing.T) {
	for _, tt := range []struct {
		interrupted int
		other       error
		want        error
	}{{0, nil, nil}, {3, nil, nil}, {100, nil, netlink.ErrDumpInterrupted}, {1, unix.EPERM, unix.EPERM}} {
		calls := 0
		got, err := dump(func() ([]int, error) {
			if calls++; calls <= tt.interrupted {
				return nil, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
			}
			return []int{1, 2}, tt.other
		})
		if !errors.Is(err, tt.want) || err == nil && len(got) != 2 {
			t.Errorf("interrupted %d times: %v, %v after %d calls", tt.interrupted, got, err, calls)
		}
	}
}

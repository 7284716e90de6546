package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestProbeSockets(t *testing.T) {
	s, err := ProbeSockets()
	if err != nil {
		t.Fatal(err)
	}
	if s.GSO != nil || s.GRO != nil {
		t.Errorf("trains on the loopback: GSO %v, GRO %v", s.GSO, s.GRO)
	}
	if s.Receive <= 0 || s.Receive > s.Wanted || s.Send <= 0 || s.Send > s.Wanted {
		t.Errorf("granted %d and %d bytes of %d", s.Receive, s.Send, s.Wanted)
	}
}

// A train that arrives otherwise than it left is told from one that does not arrive.
func TestTryTrain(t *testing.T) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	open := func() (fd int, at unix.Sockaddr) {
		fd, err := bind(loopback, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		at, err = unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		return fd, at
	}
	from, _ := open()
	at, to := open()
	if err := unix.Sendto(from, []byte("another"), 0, to); err != nil {
		t.Fatal(err)
	}
	if err := tryTrain(from, at, to, false); err == nil || !strings.Contains(err.Error(), "mangled: datagram 1 has 7 bytes") {
		t.Errorf("a foreign datagram before the train: %v", err)
	}
	at, to = open()
	if err := unix.Connect(at, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}); err != nil { // takes nothing from us
		t.Fatal(err)
	}
	if err := tryTrain(from, at, to, false); err == nil {
		t.Error("no train arrives, and nothing is said")
	}
}

func TestProbePort(t *testing.T) {
	v, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	at, err := unix.Getsockname(v.receivers[0].fd)
	if err != nil {
		t.Fatal(err)
	}
	taken := netip.AddrPortFrom(v.Local.Addr(), uint16(at.(*unix.SockaddrInet4).Port))
	if err := ProbePort(taken); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a VTEP's port: %v, want EADDRINUSE", err)
	}
	if err := ProbePort(netip.MustParseAddrPort("203.0.113.9:4789")); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("a foreign address: %v, want EADDRNOTAVAIL", err)
	}
	if err := ProbePort(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Errorf("any free port: %v", err)
	}
}

// TestSocketsThatCannotBeHad: the sentence says what is short, and ports to send from are not taken for the VXLAN port.
func TestSocketsThatCannotBeHad(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	fd, err := bind(netip.AddrPortFrom(local, 0), false)
	testhost.Must(t, err)
	defer unix.Close(fd)
	at, err := unix.Getsockname(fd)
	testhost.Must(t, err)
	port := at.(*unix.SockaddrInet4).Port
	_, err = bindSender(local, port, port)
	if err == nil || errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), fmt.Sprintf("no UDP port from %d to %d is free", port, port)) {
		t.Errorf("no port to send from: %v", err)
	}

	var limit unix.Rlimit
	testhost.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = 3
	testhost.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	_, err = Listen(netip.AddrPortFrom(local, 0), 1)
	testhost.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "LimitNOFILE") {
		t.Errorf("without descriptors: %v", err)
	}
	if err := explainSocket(unix.EAFNOSUPPORT); !strings.Contains(err.Error(), "this kernel has no IPv6") {
		t.Errorf("without IPv6: %v", err)
	}
}

package ether

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// router is a namespace of the kernel's that forwards from one TAP to another.
type router struct {
	fd  [2]int
	mac [2][6]byte
}

func newRouter(t *testing.T) *router {
	testhost.Namespace(t)
	for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		testhost.Must(t, os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0))
	}
	r := &router{}
	for i := range r.fd {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		testhost.Must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		req, err := unix.NewIfreq(fmt.Sprint("tap", i))
		testhost.Must(t, err)
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		testhost.Must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
		link, err := netlink.LinkByName(fmt.Sprint("tap", i))
		testhost.Must(t, err)
		testhost.Must(t, netlink.LinkSetUp(link))
		r.fd[i], r.mac[i] = fd, [6]byte(link.Attrs().HardwareAddr)
		for _, a := range []string{fmt.Sprintf("10.77.%d.1/24", i), fmt.Sprintf("fd77:%d::1/64", i)} {
			addr, err := netlink.ParseAddr(a)
			testhost.Must(t, err)
			addr.Flags = unix.IFA_F_NODAD
			testhost.Must(t, netlink.AddrAdd(link, addr))
			station := slices.Clone(addr.IP)
			station[len(station)-1] = 3
			testhost.Must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: station, HardwareAddr: []byte{2, 0, 0, 0, 0, 3}}))
		}
	}
	return r
}

// forward is a frame as it leaves by the second TAP.
func (r *router) forward(t *testing.T, frame []byte) []byte {
	if n, err := unix.Write(r.fd[0], frame); err != nil || n != len(frame) {
		t.Fatalf("write of %d bytes: %d, %v", len(frame), n, err)
	}
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(r.fd[1], buf)
		switch {
		case err == nil:
			if bytes.Equal(buf[:6], []byte{2, 0, 0, 0, 0, 3}) { // and not what the kernel says to groups
				return buf[:n]
			}
		case errors.Is(err, unix.EAGAIN):
			ready := []unix.PollFd{{Fd: int32(r.fd[1]), Events: unix.POLLIN}}
			if n, err := unix.Poll(ready, int(testhost.Patience.Milliseconds())); n != 1 && !errors.Is(err, unix.EINTR) {
				t.Fatalf("the kernel has not forwarded it: %v", err)
			}
		case !errors.Is(err, unix.EINTR):
			t.Fatal(err)
		}
	}
}

// The kernel's TCPMSS target (net/netfilter/xt_TCPMSS.c) makes the same of a frame, byte for byte, but for an option at an odd place, whose checksum it gets wrong.
func TestMSSKernel(t *testing.T) {
	testhost.Tools(t, "iptables", "ip6tables")
	r := newRouter(t)
	const most = 1300
	for _, tool := range []string{"iptables", "ip6tables"} {
		testhost.Output(t, tool, "-t", "mangle", "-A", "FORWARD", "-p", "tcp", "--tcp-flags", "SYN,RST", "SYN", "-j", "TCPMSS", "--set-mss", fmt.Sprint(most))
	}
	n := 0
	for name, of := range openings() {
		for _, mss := range []uint16{most - 1, most, most + 1, 1460, 0xffff} {
			p := of(mss)
			if p.Tags != nil { // it is no router between VLANs
				continue
			}
			p.DstMAC = r.mac[0]
			p.Src, p.Dst = netip.MustParseAddr("10.77.0.3"), netip.MustParseAddr("10.77.1.3")
			if p.V6 {
				p.Src, p.Dst = netip.MustParseAddr("fd77:0::3"), netip.MustParseAddr("fd77:1::3")
			}
			f := lend(p.Bytes(), Offload{})
			got := r.forward(t, f.Bytes())
			if was, _ := f.MSS(); was > most {
				f, _ = f.AppendMSS(nil, most)
			}
			l4, sum := p.Layout()
			want := f.Bytes()
			if l, at := f.mssOption(); (at-l.l4)%2 != 0 {
				binary.BigEndian.PutUint16(got[sum:], binary.BigEndian.Uint16(want[sum:]))
			}
			if len(got) != len(want) || !bytes.Equal(got[l4:], want[l4:]) {
				t.Errorf("%s, MSS %d: the kernel makes\n%x, we\n%x", name, mss, got[l4:], want[l4:])
			}
			n++
		}
	}
	t.Logf("%d frames are equal", n)
}

package tunnel

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// Kernel vxlan devices with `group` and this VTEP reach each other without a list, frames for everybody and frames for one.
func TestGroup(t *testing.T) {
	for _, tc := range []struct{ name, group, net string }{{"IPv4", "239.1.1.1", "192.0.2."}, {"IPv6", "ff05::100", "2001:db8::"}, {"IPv6 link-local", "ff02::100", "2001:db8::"}} {
		t.Run(tc.name, func(t *testing.T) {
			here := host(t)
			sh := func(format string, args ...any) {
				t.Helper()
				if out, err := exec.Command("sh", "-ec", fmt.Sprintf(format, args...)).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			bits := 24
			if tc.name != "IPv4" {
				bits = 64
			}
			testhost.Must(t, netns.Set(here))
			sh("ip link add underlay type bridge mcast_snooping 0; ip address add %s1/%d dev underlay nodad; ip link set underlay up", tc.net, bits)
			for i := 2; i <= 3; i++ {
				there, _ := testhost.OtherNamespace(t)
				testhost.Must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("p%d", i)}, PeerName: "eth0", PeerNamespace: netlink.NsFd(there)}))
				sh("ip link set p%d master underlay up", i)
				testhost.Must(t, netns.Set(there))
				sh(`ip address add %[1]s%[2]d/%[3]d dev eth0 nodad; ip link set eth0 up
					ip link add vx address 02:42:0a:4d:00:0%[2]d type vxlan id %[4]d dstport %[5]d local %[1]s%[2]d group %[6]s dev eth0
					ip address add 10.77.0.%[2]d/24 dev vx; ip link set vx addrgenmode none; ip link set vx up`, tc.net, i, bits, vni, port, tc.group)
				testhost.Must(t, netns.Set(here))
			}
			carrying(t, "underlay")

			told := 0
			v := listen(t, tc.net+"1", 1)
			group, err := v.Group(vni, Wire{}, netip.AddrPortFrom(netip.MustParseAddr(tc.group), port), func() { told++ })
			testhost.Must(t, err)
			if _, err := v.Group(vni, Wire{}, group.Host, nil); err == nil || !strings.Contains(err.Error(), "has a group already") {
				t.Errorf("a second group of the VNI: %v", err)
			}
			k := &catch{v: v, arena: make([]byte, 1<<20)}
			group.Bind(k.in)
			mine := ether.MAC{2, 0x42, 10, 77, 0, 1}
			// ask asks everybody who has an address, and returns the frame that answers.
			ask := func(l *Link, i byte) {
				t.Helper()
				b := append(make([]byte, ether.Headroom), ether.Announcement(mine, netip.AddrFrom4([4]byte{10, 77, 0, i}))...)
				copy(b[ether.Headroom+28:], []byte{10, 77, 0, 1}) // the sender's address
				f := ether.Lend(b, ether.Offload{})
				from := []byte{2, 0x42, 10, 77, 0, i}
				for end := time.Now().Add(testhost.Patience); time.Now().Before(end); {
					if sent, _ := l.Send([]*ether.Frame{&f}); sent != 1 { // again and again: a bridge's port and a group's member come up when they do
						t.Fatalf("not sent: %+v", l.Stats())
					}
					k.drain(t, time.Second)
					if slices.ContainsFunc(k.frames, func(f []byte) bool { return bytes.Equal(f[:6], mine[:]) && bytes.Equal(f[6:12], from) }) {
						k.frames = nil
						return
					}
				}
				t.Fatalf("the container of host %d does not answer", i)
			}
			ask(group, 2)
			ask(group, 3)
			second, third := netip.MustParseAddr(tc.net+"2"), netip.MustParseAddr(tc.net+"3")
			hosts := group.Strangers()
			slices.SortFunc(hosts, netip.Addr.Compare)
			if !slices.Equal(hosts, []netip.Addr{second, third}) || told < 2 || len(group.Strangers()) != 0 {
				t.Errorf("hosts that were heard: %v, told %d times", hosts, told)
			}
			// A host that was learned has a link of its own.
			one, err := v.Link(vni, netip.AddrPortFrom(second, port))
			testhost.Must(t, err)
			one.Bind(k.in)
			before := group.Stats().WireRx
			ask(group, 2)
			ask(one, 2)
			if one.Stats().WireRx < 2 || group.Stats().WireRx != before || len(group.Strangers()) != 0 {
				t.Errorf("from a learned host %d datagrams, by the group %d", one.Stats().WireRx, group.Stats().WireRx-before)
			}
			// The group's end: nobody is accepted any more but who has a link.
			group.Close()
			if len(v.groups) != 0 || len(*v.links.Load()) != 2 {
				t.Errorf("%d groups and %d links are left", len(v.groups), len(*v.links.Load()))
			}
			from(t, tc.net+"1", v, encapsulated(t, vni, packet{}.frame(t).Bytes()))
			k.drain(t, time.Second)
			if v.RxDropped()["no_peer"] == 0 {
				t.Error("a host without a link is accepted")
			}
		})
	}
}

func TestGroupRefused(t *testing.T) {
	v := listen(t, "127.0.0.1", 1)
	for group, want := range map[string]string{"192.0.2.1": "no multicast group", "ff05::1": "different IP versions", "ff01::1": "holds on one host"} {
		if _, err := v.Group(vni, Wire{}, netip.AddrPortFrom(netip.MustParseAddr(group), 4789), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", group, err, want)
		}
	}
}

// However many hosts send, no more are remembered than fit.
func TestStrangersBounded(t *testing.T) {
	told := 0
	s := strangers{told: func() { told++ }}
	if n := testing.AllocsPerRun(1, func() {
		for i := range 1000 {
			s.note(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		}
	}); n != 0 || s.n != maxStrangers || told != maxStrangers {
		t.Errorf("%d hosts, told %d times, %v allocations", s.n, told, n)
	}
}

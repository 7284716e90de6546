package vswitch

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

var (
	querier = ether.QuerierMAC([3]byte{1, 2, 3})
	nowhere = netip.MustParseAddr("224.0.0.22")
)

// wants is station i's report of IGMPv3: it wants the group 239.1.0.n, or no longer.
func wants(i int, n byte, wanted bool) ether.Frame {
	kind := byte(4)
	if !wanted {
		kind = 3
	}
	return lent(packets.IGMP(mac(i), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), nowhere, 0x22, 0, 0, 0, 0, 0, 0, 1, kind, 0, 0, 0, 239, 1, 0, n))
}

// toGroup is a datagram of station i to the group 239.1.0.n.
func toGroup(i int, n byte) ether.Frame {
	return lent(packets.Packet{UDP: true, SrcMAC: mac(i), DstMAC: ether.MAC{1, 0, 0x5e, 1, 0, n}, Dst: netip.AddrFrom4([4]byte{239, 1, 0, n}), Payload: packets.Data(9)}.Bytes())
}

// asks is the query of a router, station i.
func asks(i int) ether.Frame {
	return lent(packets.IGMP(mac(i), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), netip.MustParseAddr("224.0.0.1"), 0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0))
}

// snoopers are containers 1 to 3 and another host 4, at a switch that snoops and whose stations had time to answer.
type snoopers struct {
	*Switch
	t     *testing.T
	ports [5]*Port
	to    [5]*keeper
	now   int
}

func newSnoopers(t *testing.T) *snoopers {
	s := &snoopers{Switch: New(Config{}), t: t}
	for i := 1; i <= 4; i++ {
		s.to[i] = new(keeper)
		s.ports[i] = s.Attach(fmt.Sprint(i), s.to[i], i == 4, 1500)
	}
	s.SetSnooping(querier)
	return s
}

// after lets n seconds pass, each with its tick, and tells which ports were sent queries.
func (s *snoopers) after(n int) string {
	s.got()
	for range n {
		s.now++
		s.Tick(time.Duration(s.now) * time.Second)
	}
	return s.got()
}

// members are the groups' entries of the forwarding database.
func (s *snoopers) members() (all []Entry) {
	for e := range s.Entries() {
		if e.Group {
			all = append(all, e)
		}
	}
	return all
}

// got tells which ports were sent something since it was last asked: 1 12 is two frames to 1, one to 2.
func (s *snoopers) got() string {
	var all []string
	for i, k := range s.to[1:] {
		if n := len(k.taken()); n > 0 {
			all = append(all, strings.Repeat(fmt.Sprint(1+i), n))
		}
	}
	return strings.Join(all, " ")
}

// sends has port i receive a frame, and wants it to leave by these ports, as Explain says before.
func (s *snoopers) sends(i int, f ether.Frame, want string) {
	s.t.Helper()
	s.got()
	e := s.ports[i].Explain(&f)
	var told []string
	for _, w := range e.Egress {
		if w.Verdict == Forwarded && !(s.ports[i].Uplink && w.Port.Uplink) {
			told = append(told, w.Port.Name)
		}
	}
	v := s.ports[i].Inject(f)
	if got := s.got(); got != want || v != Flooded || strings.Join(told, " ") != want {
		s.t.Errorf("%s to %q, explained as %q, want %q", v, got, told, want)
	}
}

// Frames to a group go where stations have asked for it, and reports only to other hosts and routers.
func TestSnooping(t *testing.T) {
	s := newSnoopers(t)
	s.sends(1, toGroup(1, 9), "2 3 4") // nobody was asked yet
	if got := s.after(1); got != "11 22 33 44" {
		t.Fatalf("first queries: %q", got)
	}
	s.sends(2, wants(2, 9, true), "4")
	s.sends(4, wants(7, 8, true), "")  // a station of the other host
	s.sends(1, toGroup(1, 9), "2 3 4") // others may still answer
	if got := s.after(11); got != "11 22 33 44" {
		t.Fatalf("second queries: %q", got)
	}
	s.sends(1, toGroup(1, 9), "2 3 4")
	s.after(1)
	s.sends(1, toGroup(1, 9), "2")
	s.sends(3, toGroup(3, 9), "2")
	s.sends(2, toGroup(2, 9), "") // nobody but itself
	s.sends(4, toGroup(7, 9), "2")
	s.sends(1, toGroup(1, 8), "4")
	s.sends(1, toGroup(1, 7), "2 3 4") // nobody has asked for it
	s.sends(1, lent(packets.Packet{UDP: true, SrcMAC: mac(1), DstMAC: ether.MAC{1, 0, 0x5e, 0, 0, 0xfb}, Dst: netip.MustParseAddr("224.0.0.251")}.Bytes()), "2 3 4")
	s.sends(1, frame(mac(1), ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1), "2 3 4")

	if m := s.members(); len(m) != 2 || !m[0].MAC.Group() || m[0].Age != 12*time.Second {
		t.Errorf("%+v", m)
	}
	before := s.ports[3].Stats()
	s.sends(1, toGroup(1, 9), "2")
	if after := s.ports[3].Stats(); after != before {
		t.Errorf("a frame that 3 has not asked for counts there: %+v, was %+v", after, before)
	}

	// Another station at the port may still want what one has left: it is asked.
	s.sends(2, wants(2, 9, false), "4")
	if got := s.after(1); got != "22" {
		t.Errorf("queries after a leave: %q", got)
	}
	s.sends(1, toGroup(1, 9), "2")
	s.sends(2, wants(20, 9, true), "4")
	s.after(leavesIn + 1)
	s.sends(1, toGroup(1, 9), "2")
	s.sends(2, wants(20, 9, false), "4")
	s.after(leavesIn)
	s.sends(1, toGroup(1, 9), "2 3 4")

	// What is not repeated ends.
	s.sends(3, wants(3, 9, true), "4")
	s.after(memberFor - 1)
	s.sends(1, toGroup(1, 9), "3")
	s.sends(3, wants(3, 9, true), "4")
	s.after(memberFor)
	s.sends(1, toGroup(1, 9), "2 3 4")
	s.sends(3, wants(3, 9, true), "4")
	s.ports[3].Detach()
	s.after(1)
	if m := s.members(); len(m) != 0 {
		t.Errorf("%+v", m)
	}
	s.SetSnooping(ether.MAC{})
	s.sends(2, wants(2, 9, true), "1 4")
}

// A router gets all groups and all reports, and while somebody else asks, nobody asks here.
func TestSnoopingQueriers(t *testing.T) {
	s := newSnoopers(t)
	s.after(30)
	s.sends(2, wants(2, 9, true), "4")
	s.sends(3, asks(3), "1 2 4")
	s.sends(2, wants(2, 8, true), "3 4")
	s.sends(1, toGroup(1, 9), "2 3")
	if got := s.after(queriedFor - 1); got != "" {
		t.Errorf("queries beside a router: %q", got)
	}
	s.sends(2, wants(2, 9, true), "3 4")
	if got := s.after(2); got != "11 22 33 44" {
		t.Errorf("queries when the router is silent: %q", got)
	}
	s.sends(1, toGroup(1, 9), "2")
	// Another switch asks, and is no router.
	s.sends(4, lent(ether.AppendGroupQuery4([]byte{}, ether.QuerierMAC([3]byte{9}))), "1 2 3")
	s.sends(4, lent(ether.AppendGroupQuery6(nil, ether.QuerierMAC([3]byte{9}))), "1 2 3")
	s.sends(2, wants(2, 9, true), "4")
	s.sends(1, toGroup(1, 9), "2")
	if got := s.after(queryEvery + 1); got != "" {
		t.Errorf("queries beside another switch: %q", got)
	}
}

// Who asks for more groups than there is room for has what is beyond flooded, and others' groups stay.
func TestSnoopingBounds(t *testing.T) {
	s := newSnoopers(t)
	s.after(30)
	s.sends(2, wants(2, 9, true), "4")
	for i := range 3 * maxGroups {
		s.ports[3].Inject(lent(packets.IGMP(mac(3), netip.AddrFrom4([4]byte{10, 0, 0, 3}), nowhere, 0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 2, byte(i>>8), byte(i))))
	}
	if n := len(s.members()); n != maxGroups {
		t.Errorf("%d memberships", n)
	}
	s.sends(1, toGroup(1, 9), "2")
	s.after(memberFor)
	if n := len(s.members()); n != 0 {
		t.Errorf("%d memberships are left", n)
	}
	s.sends(2, wants(2, 9, true), "4")
	s.sends(1, toGroup(1, 9), "2")
}

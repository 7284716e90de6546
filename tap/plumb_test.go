package tap

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// right checks that every link of a veth port is as Create promises.
func right(t *testing.T, s Spec) {
	t.Helper()
	tapName, outer, inner := Names(s.ID)
	for _, name := range []string{tapName, outer, inner} {
		l := link(t, name)
		if l.Attrs().MTU != s.MTU {
			t.Errorf("%s has MTU %d, want %d", name, l.Attrs().MTU, s.MTU)
		}
		if l.Attrs().Alias != s.Tag {
			t.Errorf("%s is tagged %q, want %q", name, l.Attrs().Alias, s.Tag)
		}
		if name != inner && l.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("%s is down", name)
		}
	}
	if got := link(t, inner).Attrs().HardwareAddr.String(); got != s.MAC.String() {
		t.Errorf("the container's end has address %s, want %s", got, s.MAC)
	}
	if got := link(t, inner).Attrs().GSOMaxSize; s.GSOMax != 0 && int(got) != s.GSOMax {
		t.Errorf("gso_max_size of %s is %d, want %d", inner, got, s.GSOMax)
	}
	if got := link(t, inner).Attrs().GSOMaxSegs; got != ether.MaxSegments {
		t.Errorf("gso_max_segs of %s is %d, want %d", inner, got, ether.MaxSegments)
	}
	redirects(t, outer, tapName)
	redirects(t, tapName, outer)
}

// redirects checks that there is one filter on from, that it takes everything, and that it leads to to.
func redirects(t *testing.T, from, to string) {
	t.Helper()
	filters, err := netlink.FilterList(link(t, from), netlink.MakeHandle(0xffff, 0))
	testhost.Must(t, err)
	var targets []int
	for _, f := range filters {
		u, ok := f.(*netlink.U32)
		if !ok {
			t.Fatalf("%s has a filter %T", from, f)
		}
		for _, a := range u.Actions {
			m, ok := a.(*netlink.MirredAction)
			if !ok || m.MirredAction != netlink.TCA_EGRESS_REDIR {
				t.Fatalf("%s does %v", from, a)
			}
			targets = append(targets, m.Ifindex)
			if u.Protocol != unix.ETH_P_ALL || u.Sel == nil || u.Sel.Nkeys != 0 {
				t.Errorf("the filter on %s does not take everything: protocol %#x, %+v", from, u.Protocol, u.Sel)
			}
		}
	}
	if want := link(t, to).Attrs().Index; len(targets) != 1 || targets[0] != want {
		t.Errorf("%s is redirected to links %d, want one redirect to %d (%s)", from, targets, want, to)
	}
}

func TestCreateTwice(t *testing.T) {
	testhost.Namespace(t)
	s := spec(Veth)
	s.GSOMax = 61000
	first := create(t, s)
	right(t, s)
	tapName, outer, inner := Names(s.ID)
	before := []int{link(t, tapName).Attrs().Index, link(t, outer).Attrs().Index, link(t, inner).Attrs().Index}
	testhost.Must(t, first.Close())
	second, err := Create(s)
	testhost.Must(t, err)
	defer second.Close()
	right(t, s)
	after := []int{link(t, tapName).Attrs().Index, link(t, outer).Attrs().Index, link(t, inner).Attrs().Index}
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("links %d were made anew: %d", before, after)
	}
}

// TestCreateCompletes begins where a process was killed or an administrator has been.
func TestCreateCompletes(t *testing.T) {
	ingress := func(t *testing.T, name string) *netlink.Ingress {
		return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link(t, name).Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	}
	veth := func(t *testing.T, s Spec) {
		_, outer, inner := Names(s.ID)
		at := netlink.NewLinkAttrs()
		at.Name, at.MTU = outer, s.MTU
		testhost.Must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: inner, PeerHardwareAddr: s.MAC[:]}))
	}
	whole := func(t *testing.T, s Spec) {
		d, err := Create(s)
		testhost.Must(t, err)
		testhost.Must(t, d.Close())
	}
	filter := func(t *testing.T, from string, prio uint16, key *nl.TcU32Key, actions ...netlink.Action) {
		f := &netlink.U32{FilterAttrs: netlink.FilterAttrs{LinkIndex: link(t, from).Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Priority: prio, Protocol: unix.ETH_P_ALL}, Actions: actions}
		if key != nil {
			f.Sel = &nl.TcU32Sel{Nkeys: 1, Flags: nl.TC_U32_TERMINAL, Keys: []nl.TcU32Key{*key}}
		}
		testhost.Must(t, netlink.FilterAdd(f))
	}
	tests := []struct {
		name  string
		stage func(t *testing.T, s Spec)
	}{
		{"nothing", func(*testing.T, Spec) {}},
		{"veth, neither end tagged", veth},
		{"veth of another MTU", func(t *testing.T, s Spec) {
			s.MTU = 1400
			veth(t, s)
		}},
		{"veth and TAP, no redirect", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, outer, _ := Names(s.ID)
			testhost.Must(t, netlink.QdiscDel(ingress(t, tapName)))
			testhost.Must(t, netlink.QdiscDel(ingress(t, outer)))
		}},
		{"one way only", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, _, _ := Names(s.ID)
			testhost.Must(t, netlink.QdiscDel(ingress(t, tapName)))
		}},
		{"ingress qdisc without filter", func(t *testing.T, s Spec) {
			whole(t, s)
			_, outer, _ := Names(s.ID)
			testhost.Must(t, netlink.QdiscDel(ingress(t, outer)))
			testhost.Must(t, netlink.QdiscAdd(ingress(t, outer)))
		}},
		{"redirect to a TAP that has gone", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, _, _ := Names(s.ID)
			testhost.Must(t, netlink.LinkDel(link(t, tapName)))
		}},
		{"redirect to another link", func(t *testing.T, s Spec) {
			whole(t, s)
			_, outer, inner := Names(s.ID)
			testhost.Must(t, netlink.QdiscDel(ingress(t, outer)))
			testhost.Must(t, netlink.QdiscAdd(ingress(t, outer)))
			filter(t, outer, 1, nil, netlink.NewMirredAction(link(t, inner).Attrs().Index))
		}},
		{"filters doubled", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, outer, _ := Names(s.ID)
			filter(t, outer, 1, nil, netlink.NewMirredAction(link(t, tapName).Attrs().Index))
			filter(t, tapName, 2, nil, netlink.NewMirredAction(link(t, outer).Attrs().Index))
		}},
		{"a filter for some frames only", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, outer, _ := Names(s.ID)
			testhost.Must(t, netlink.QdiscDel(ingress(t, outer)))
			testhost.Must(t, netlink.QdiscAdd(ingress(t, outer)))
			filter(t, outer, 1, &nl.TcU32Key{Mask: 0xffffffff, Val: 0x0a4d0002, Off: 12}, netlink.NewMirredAction(link(t, tapName).Attrs().Index))
		}},
		{"filters that short frames do not match", func(t *testing.T, s Spec) { // as v0.1.0 made them
			whole(t, s)
			tapName, outer, _ := Names(s.ID)
			for _, way := range [][2]string{{outer, tapName}, {tapName, outer}} {
				testhost.Must(t, netlink.QdiscDel(ingress(t, way[0])))
				testhost.Must(t, netlink.QdiscAdd(ingress(t, way[0])))
				filter(t, way[0], 1, nil, netlink.NewMirredAction(link(t, way[1]).Attrs().Index))
			}
		}},
		{"a mirror where the redirect was", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, outer, _ := Names(s.ID)
			testhost.Must(t, netlink.QdiscDel(ingress(t, outer)))
			testhost.Must(t, netlink.QdiscAdd(ingress(t, outer)))
			mirror := netlink.NewMirredAction(link(t, tapName).Attrs().Index)
			mirror.Action, mirror.MirredAction = netlink.TC_ACT_PIPE, netlink.TCA_EGRESS_MIRROR
			filter(t, outer, 1, nil, mirror)
		}},
		{"a filter for IPv4 only", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, outer, _ := Names(s.ID)
			testhost.Must(t, netlink.QdiscDel(ingress(t, outer)))
			testhost.Must(t, netlink.QdiscAdd(ingress(t, outer)))
			testhost.Must(t, netlink.FilterAdd(&netlink.U32{Actions: []netlink.Action{netlink.NewMirredAction(link(t, tapName).Attrs().Index)},
				FilterAttrs: netlink.FilterAttrs{LinkIndex: link(t, outer).Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_IP}}))
		}},
		{"host ends down", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, outer, _ := Names(s.ID)
			testhost.Must(t, netlink.LinkSetDown(link(t, outer)))
			testhost.Must(t, netlink.LinkSetDown(link(t, tapName)))
		}},
		{"TAP of another MTU", func(t *testing.T, s Spec) {
			whole(t, s)
			tapName, _, _ := Names(s.ID)
			testhost.Must(t, netlink.LinkSetMTU(link(t, tapName), 1300))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			testhost.Namespace(t)
			s := spec(Veth)
			s.GSOMax = 61000
			tt.stage(t, s)
			d := create(t, s)
			right(t, s)
			// And it carries: a frame each way.
			_, _, inner := Names(s.ID)
			w, k := wireOn(t, inner), caught(d)
			f := tcp(100).frame(t)
			testhost.Must(t, w.write(ether.Offload{}, f.Bytes()))
			k.drainFrames(t, d, 1)
			if sent, _ := d.Send([]*ether.Frame{&f}); sent != 1 {
				t.Fatal("the frame was refused")
			}
			w.read()
		})
	}
}

func TestForeignLinkIsLeft(t *testing.T) {
	tapName, outer, _ := Names(id)
	for _, tt := range []struct {
		name string
		mode Mode
	}{{outer, Veth}, {tapName, Veth}, {tapName, Direct}} {
		t.Run(string(tt.mode)+" "+tt.name[:3], func(t *testing.T) {
			testhost.Namespace(t)
			at := netlink.NewLinkAttrs()
			at.Name = tt.name
			testhost.Must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: at}))
			testhost.Must(t, netlink.LinkSetAlias(link(t, tt.name), "somebody else's"))
			s := spec(tt.mode)
			d, err := Create(s)
			if err == nil {
				d.Close()
				t.Fatal("Create took a link that is not ours")
			}
			if !strings.Contains(err.Error(), tt.name) || !strings.Contains(err.Error(), "not ours") {
				t.Errorf("the error does not say which link: %v", err)
			}
			if d, err := Adopt(s); err == nil {
				d.Close()
				t.Error("Adopt took a link that is not ours")
			}
			if err := Remove(s); err == nil {
				t.Error("Remove says nothing about the link that it left")
			}
			l := link(t, tt.name)
			if l.Type() != "bridge" || l.Attrs().Alias != "somebody else's" || l.Attrs().Flags&net.FlagUp != 0 {
				t.Errorf("the foreign link was changed: %s %+v", l.Type(), l.Attrs())
			}
		})
	}
}

func TestRemove(t *testing.T) {
	for _, mode := range []Mode{Veth, Direct} {
		t.Run(string(mode), func(t *testing.T) {
			testhost.Namespace(t)
			before, err := netlink.LinkList()
			testhost.Must(t, err)
			s := spec(mode)
			d, err := Create(s)
			testhost.Must(t, err)
			testhost.Must(t, d.Close())
			testhost.Must(t, Remove(s))
			after, err := netlink.LinkList()
			testhost.Must(t, err)
			if len(after) != len(before) {
				t.Errorf("%d links are left, there were %d", len(after), len(before))
			}
			qdiscs, err := netlink.QdiscList(nil)
			testhost.Must(t, err)
			for _, q := range qdiscs {
				if q.Type() == "ingress" {
					t.Errorf("left behind: %v", q)
				}
			}
			testhost.Must(t, Remove(s))
		})
	}
}

func TestRemoveHalf(t *testing.T) {
	for i, what := range []string{"TAP", "host end"} {
		t.Run("without "+what, func(t *testing.T) {
			testhost.Namespace(t)
			s := spec(Veth)
			d, err := Create(s)
			testhost.Must(t, err)
			testhost.Must(t, d.Close())
			a, b, c := Names(id)
			testhost.Must(t, netlink.LinkDel(link(t, []string{a, b}[i])))
			testhost.Must(t, Remove(s))
			for _, name := range []string{a, b, c} {
				if there(t, name) {
					t.Errorf("%s is left", name)
				}
			}
		})
	}
}

func TestList(t *testing.T) {
	testhost.Namespace(t)
	veth, direct := spec(Veth), spec(Direct)
	direct.ID = strings.Repeat("ab", 32)
	direct.Tag = "tapestry:test:" + direct.ID
	other := spec(Veth)
	other.ID = strings.Repeat("cd", 32)
	other.Tag = "tapestry:other:" + other.ID
	for _, s := range []Spec{veth, direct, other} {
		create(t, s)
	}
	at := netlink.NewLinkAttrs()
	at.Name = "stranger"
	testhost.Must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: at}))
	testhost.Must(t, netlink.LinkSetAlias(link(t, "stranger"), veth.Tag)) // the right tag on a name that is not ours

	check := func(prefix string, want map[string]Found) {
		t.Helper()
		got, err := List(prefix)
		testhost.Must(t, err)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("List(%q) = %v, want %v", prefix, got, want)
		}
	}
	check("tapestry:test:", map[string]Found{veth.ID: {TAP: true, Outer: true, Inner: true}, direct.ID: {TAP: true}})
	check("tapestry:other:", map[string]Found{other.ID: {TAP: true, Outer: true, Inner: true}})
	check("nobody:", map[string]Found{})

	ns, _ := testhost.OtherNamespace(t)
	_, _, inner := Names(veth.ID)
	testhost.Must(t, netlink.LinkSetNsFd(link(t, inner), int(ns)))
	check("tapestry:test:", map[string]Found{veth.ID: {TAP: true, Outer: true}, direct.ID: {TAP: true}})
}

func TestHostEndsAreSilent(t *testing.T) {
	testhost.Namespace(t)
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		testhost.Cannot(t, "the kernel has no IPv6")
	}
	s := spec(Veth)
	create(t, s)
	tapName, outer, inner := Names(s.ID)
	testhost.Must(t, netlink.LinkSetUp(link(t, inner))) // carrier: whoever speaks at all speaks now
	for _, name := range []string{tapName, outer} {
		addrs, err := netlink.AddrList(link(t, name), netlink.FAMILY_ALL)
		testhost.Must(t, err)
		if len(addrs) != 0 {
			t.Errorf("%s has addresses %v", name, addrs)
		}
		for file, want := range map[string]string{"disable_ipv6": "1", "addr_gen_mode": "1"} {
			b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/" + file)
			testhost.Must(t, err)
			if got := strings.TrimSpace(string(b)); got != want {
				t.Errorf("%s of %s is %s, want %s", file, name, got, want)
			}
		}
	}
}

func TestSmallMTU(t *testing.T) { // below IPv6's least: the links have no IPv6 at all
	testhost.Namespace(t)
	s := spec(Veth)
	s.MTU = 576
	create(t, s)
	right(t, s)
}

func TestErrGoneIsFound(t *testing.T) { // by those who decide on it
	testhost.Namespace(t)
	for _, mode := range []Mode{Veth, Direct} {
		if d, err := Adopt(spec(mode)); d != nil || !errors.Is(err, ErrGone) {
			t.Errorf("Adopt of nothing, %s: %v, %v", mode, d, err)
		}
	}
}

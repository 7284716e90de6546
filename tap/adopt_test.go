package tap

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestAdoptVeth(t *testing.T) {
	testhost.Namespace(t)
	s := spec(Veth)
	d, err := Create(s)
	testhost.Must(t, err)
	testhost.Must(t, d.Close())
	tapName, _, inner := Names(s.ID)
	testhost.Must(t, netlink.LinkDel(link(t, tapName))) // somebody took the TAP away
	d, err = Adopt(s)
	testhost.Must(t, err)
	defer d.Close()
	right(t, s)

	testhost.Must(t, netlink.LinkDel(link(t, inner)))
	if d, err := Adopt(s); d != nil || !errors.Is(err, ErrGone) {
		t.Errorf("Adopt after the container went: %v, %v, want ErrGone", d, err)
	}
	if there(t, inner) {
		t.Error("Adopt made the container's link anew")
	}
	testhost.Must(t, Remove(s))
}

// TestAdoptDirectUnfinished: a process was killed between laying the TAP down and the rest.
func TestAdoptDirectUnfinished(t *testing.T) {
	testhost.Namespace(t)
	s := spec(Direct)
	bare := s
	bare.Tag, bare.MTU, bare.MAC = "", 1300, ether.MAC{2, 0, 0, 0, 0, 9}
	d, err := Create(bare)
	testhost.Must(t, err)
	testhost.Must(t, d.Close())
	d, err = Adopt(s)
	testhost.Must(t, err)
	defer d.Close()
	tapName, _, _ := Names(s.ID)
	at := link(t, tapName).Attrs()
	if at.Alias != s.Tag || at.MTU != s.MTU || at.HardwareAddr.String() != s.MAC.String() {
		t.Errorf("the TAP was left as it was: alias %q, MTU %d, address %s", at.Alias, at.MTU, at.HardwareAddr)
	}
}

// TestAdoptDirectInSandbox does as Docker does: the TAP is moved into the container and named eth0.
func TestAdoptDirectInSandbox(t *testing.T) {
	here := testhost.Namespace(t)
	s := spec(Direct)
	d := create(t, s)
	ns, path := testhost.OtherNamespace(t)
	s.Sandbox = path
	tapName, _, _ := Names(s.ID)
	l := link(t, tapName)
	testhost.Must(t, netlink.LinkSetNsFd(l, int(ns)))
	there, err := netlink.NewHandleAt(ns)
	testhost.Must(t, err)
	defer there.Close()
	l, err = there.LinkByName(tapName)
	testhost.Must(t, err)
	testhost.Must(t, there.LinkSetName(l, "eth0"))
	testhost.Must(t, there.LinkSetUp(l))
	testhost.Must(t, d.Close())

	got, err := Adopt(s)
	testhost.Must(t, err)
	defer got.Close()
	if got.Link != "eth0" {
		t.Errorf("adopted %s, want eth0", got.Link)
	}
	if now, err := netns.Get(); err != nil || !now.Equal(here) {
		t.Error("Adopt left the thread in another namespace")
	}

	// It is the container's link: a frame each way.
	testhost.Must(t, netns.Set(ns))
	w := wireOn(t, "eth0")
	testhost.Must(t, netns.Set(here))
	k := caught(got)
	f := tcp(100).frame(t)
	testhost.Must(t, w.write(ether.Offload{}, f.Bytes()))
	k.drainFrames(t, got, 1)
	if sent, _ := got.Send([]*ether.Frame{&f}); sent != 1 {
		t.Error("the frame was refused")
	}
	w.read()

	testhost.Must(t, there.LinkDel(l))
	if d, err := Adopt(s); d != nil || !errors.Is(err, ErrGone) {
		t.Errorf("Adopt from a sandbox without the link: %v, %v, want ErrGone", d, err)
	}
}

func TestAdoptDirectGone(t *testing.T) {
	testhost.Namespace(t)
	empty := filepath.Join(t.TempDir(), "netns") // as Docker leaves it when the namespace is unmounted
	testhost.Must(t, os.WriteFile(empty, nil, 0o600))
	_, other := testhost.OtherNamespace(t)
	for name, path := range map[string]string{
		"never joined": "", "no such path": filepath.Join(t.TempDir(), "none"), "unmounted": empty, "without the link": other,
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(Direct)
			s.Sandbox = path
			if d, err := adoptHere(t, s); d != nil || !errors.Is(err, ErrGone) {
				t.Errorf("Adopt = %v, %v, want ErrGone", d, err)
			}
		})
	}
}

// adoptHere is Adopt in a namespace of its own: a subtest runs on another thread.
func adoptHere(t *testing.T, s Spec) (*Device, error) {
	testhost.Namespace(t)
	return Adopt(s)
}

// A container may have changed its TAP's alias or its address, but another endpoint's is never taken.
func TestFindTagged(t *testing.T) {
	mac := ether.MAC{2, 0x42, 10, 77, 0, 2}
	link := func(name, alias string, m ether.MAC) netlink.Link {
		l := &netlink.Tuntap{}
		l.Name, l.Alias, l.HardwareAddr = name, alias, net.HardwareAddr(m[:])
		return l
	}
	other := &netlink.Veth{}
	other.Name, other.HardwareAddr = "eth9", net.HardwareAddr(mac[:])
	s := Spec{Tag: "tapestry:tapestry:one", MAC: mac}
	for _, tc := range []struct {
		name  string
		links []netlink.Link
		want  string
	}{
		{"by its tag", []netlink.Link{link("eth0", "", mac), link("eth1", s.Tag, ether.MAC{2})}, "eth1"},
		{"by its address", []netlink.Link{other, link("eth0", "mine", mac)}, "eth0"},
		{"another endpoint's", []netlink.Link{link("eth0", "tapestry:tapestry:two", mac)}, ""},
		{"none", []netlink.Link{other}, ""},
	} {
		if got := s.findTagged(tc.links); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

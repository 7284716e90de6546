package docker

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

// newNames asks a fake daemon and this Docker.
func newNames(t *testing.T, docker string) (*client.Client, *Names) {
	t.Helper()
	c := &client.Client{Socket: fake.Daemon(t, fake.NewFabric()), DockerHost: docker}
	n, err := LoadNames(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return c, n
}

// dump writes all names in one line.
func dump(n *Names) string {
	var words []string
	for _, x := range n.Since(0) {
		words = append(words, fmt.Sprintf("%s=%s", x.Addr, x.Name))
	}
	for _, id := range []string{fake.WebID, fake.DbID, fake.NewID} {
		words = append(words, id[:4]+"="+n.Container(id))
	}
	return strings.Join(words, " ")
}

func TestNames(t *testing.T) {
	d := fake.NewLiveDocker(t)
	d.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	d.Join(fake.WideID, fake.DbContainer, "db", fake.DbID, "10.80.1.3/16")
	c, n := newNames(t, d.At)
	if got, want := dump(n), "10.80.1.2=web 10.80.1.3=db 9b1d=web 5a5a=db 7c7c="; got != want {
		t.Fatalf("at first %s\nwant %s", got, want)
	}
	if n.Network(fake.WideID) != "wide" || n.Network(fake.OtherID) != "" || n.Addr(netip.MustParseAddr("::ffff:10.80.1.3")) != "db" {
		t.Errorf("network %q, address %q", n.Network(fake.WideID), n.Addr(netip.MustParseAddr("::ffff:10.80.1.3")))
	}
	refresh := func(want string) {
		t.Helper()
		before, was := n.Version(), dump(n)
		if err := n.refresh(t.Context(), []string{fake.WideID, fake.LocalID, "not the daemon's"}); err != nil {
			t.Fatal(err)
		}
		if got := dump(n); got != want || was != want && n.Version() == before {
			t.Errorf("version %d, before %d: %s\nwant %s", n.Version(), before, got, want)
		}
	}
	// Nothing has changed, so the version does not rise.
	version := n.Version()
	refresh("10.80.1.2=web 10.80.1.3=db 9b1d=web 5a5a=db 7c7c=")
	if err := n.refreshAll(t.Context()); err != nil || n.Version() != version {
		t.Errorf("version %d, was %d: %v", n.Version(), version, err)
	}
	// A container that has stopped keeps its names, until another has its address.
	d.Leave(fake.WideID, fake.WebContainer)
	refresh("10.80.1.2=web 10.80.1.3=db 9b1d=web 5a5a=db 7c7c=")
	if got := n.Addrs("web"); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("10.80.1.2")}) {
		t.Errorf("a stopped web is %v", got)
	}
	d.Join(fake.WideID, "x", "other", fake.NewID, "10.80.1.2/16")
	refresh("10.80.1.2=other 10.80.1.3=db 9b1d=web 5a5a=db 7c7c=other")
	if got := n.Addrs("web"); len(got) != 0 {
		t.Errorf("web is %v, which is other's", got)
	}
	// Two networks with one address: mynet comes before wide.
	d.Join(fake.LocalID, fake.DbContainer, "db", "eeee", "10.80.1.2/24")
	refresh("10.80.1.2=db 10.80.1.3=db 9b1d=web 5a5a=db 7c7c=other")
	if got := n.Addrs("other"); len(got) != 1 {
		t.Errorf("other is %v: a filter still means it", got)
	}
	// A rename.
	d.Join(fake.WideID, "x", "renamed", fake.NewID, "10.80.1.2/16")
	refresh("10.80.1.2=db 10.80.1.3=db 9b1d=web 5a5a=db 7c7c=renamed")
	// A network that Docker has no longer.
	d.Mu.Lock()
	delete(d.Networks, fake.LocalID)
	d.Mu.Unlock()
	refresh("10.80.1.2=renamed 10.80.1.3=db 9b1d=web 5a5a=db 7c7c=renamed")
	// Docker is away: all names stay.
	d.Mu.Lock()
	d.Down = true
	d.Mu.Unlock()
	version = n.Version()
	if err := n.refresh(t.Context(), []string{fake.WideID}); err == nil || n.Version() != version {
		t.Errorf("Docker is down: %v, version %d, was %d", err, n.Version(), version)
	}
	if _, err := LoadNames(t.Context(), c); err != nil {
		t.Errorf("Docker is down: %v", err)
	}
}

// A container that is leaving is still in Docker's list, but without its address; its port has that.
func TestNamesLeaving(t *testing.T) {
	d := fake.NewLiveDocker(t)
	d.Join(fake.LocalID, fake.WebContainer, "web", fake.NewID, "")
	_, n := newNames(t, d.At)
	a := netip.MustParseAddr("10.81.0.2")
	if got := n.Addr(a); got != "" {
		t.Fatalf("%v is %q's", a, got)
	}
	p := capture.Port{Network: fake.LocalID, Name: fake.NewID}
	n.remember(&p)
	p.Addrs = []netip.Prefix{netip.PrefixFrom(a, 24)}
	n.remember(&p)
	p.Addrs = []netip.Prefix{netip.MustParsePrefix("10.81.0.3/24")}
	n.remember(&p)
	if got := dump(n); got != "10.81.0.2=web 9b1d= 5a5a= 7c7c=web" {
		t.Errorf("names are %s", got)
	}
}

func TestNamesAway(t *testing.T) {
	_, n := newNames(t, "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	if n.Container(fake.WebID) != "" || len(n.Since(0)) != 0 || n.Addr(netip.Addr{}) != "" || n.Addrs("web") != nil {
		t.Errorf("without Docker: %s", dump(n))
	}
	c := &client.Client{Socket: filepath.Join(t.TempDir(), "none.sock"), DockerHost: fake.Docker(t)}
	if _, err := LoadNames(t.Context(), c); exit.Code(err) != exit.NoDaemon {
		t.Errorf("without a daemon: %v", err)
	}
	c.DockerHost = "ssh://me@host"
	if _, err := LoadNames(t.Context(), c); exit.Code(err) != exit.Usage {
		t.Errorf("a --docker-host that cannot be: %v", err)
	}
}

// TestNamesBounded: containers that come and go for days do not use more and more memory.
func TestNamesBounded(t *testing.T) {
	d := &snapshot{version: 1, networks: map[string]string{fake.WideID: "wide"}, endpoints: make(map[string]endpointInfo)}
	for i := range departedNames + 100 {
		addr := netip.AddrFrom4([4]byte{10, 80, byte(i >> 8), byte(i)})
		d.endpoints[fmt.Sprint(i)] = endpointInfo{network: fake.WideID, name: "c", addrs: []netip.Addr{addr}, gone: uint64(i) + 1}
	}
	d.endpoints["here"] = endpointInfo{network: fake.WideID, name: "here"}
	d.derive()
	_, first := d.endpoints["99"]
	_, last := d.endpoints["100"]
	if len(d.endpoints) != departedNames+1 || len(d.addrs) != departedNames || first || !last {
		t.Errorf("%d endpoints, %d addresses, the oldest %v, the oldest that may stay %v", len(d.endpoints), len(d.addrs), first, last)
	}
}

func TestNamesTogether(t *testing.T) {
	d := fake.NewLiveDocker(t)
	_, n := newNames(t, d.At)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				d.Join(fake.WideID, fake.WebContainer, fmt.Sprint("web", i, j), fake.WebID, "10.80.1.2/16")
				if err := n.refresh(t.Context(), []string{fake.WideID}); err != nil {
					t.Error(err)
				}
				if n.Addr(netip.MustParseAddr("10.80.1.2")) == "" || n.Container(fake.WebID) == "" || n.Addrs("nobody") != nil {
					t.Error("an address without a name")
				}
			}
		})
	}
	wg.Wait()
	a := netip.MustParseAddr("10.80.1.2")
	if got := testing.AllocsPerRun(100, func() { n.Addr(a); n.Container(fake.WebID); n.Network(fake.WideID); n.Version() }); got != 0 {
		t.Errorf("%v allocations for a frame's names", got)
	}
}

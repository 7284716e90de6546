package swarm

import (
	"errors"
	"maps"
	"net/netip"
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// docker tells nodes of each other, as the plugin of each hears it.
type docker struct {
	plugins map[netip.Addr]*Engine
	left    map[netip.Addr]bool // all that ever came
}

func newDocker() *docker {
	return &docker{plugins: make(map[netip.Addr]*Engine), left: make(map[netip.Addr]bool)}
}

func (d *docker) tell() {
	for self, e := range d.plugins {
		others := maps.Clone(d.left)
		delete(others, self)
		e.Tell(others)
	}
}

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }

func (d *docker) join(i int) (*Engine, cluster.Host) {
	a := addr(i)
	if d.plugins[a] == nil { // its plugin outlives its time in the Swarm
		d.plugins[a] = New(4789)
	}
	d.left[a] = false
	d.tell()
	return d.plugins[a], cluster.Host{ID: ID(a), Name: a.String(), VTEP: netip.AddrPortFrom(a, 4789)}
}

func (d *docker) leave(i int) {
	d.left[addr(i)] = true
	d.tell()
}

func TestReading(t *testing.T) {
	d := newDocker()
	conformance.Reading(t, conformance.Hall{Join: func(i int) (cluster.Engine, cluster.Host) { return d.join(i) }, Leave: d.leave})
}

// What changes is told once; a node that is forgotten does not exist any more, and this host is not one of the others.
func TestTell(t *testing.T) {
	d := newDocker()
	e, self := d.join(1)
	e.Tell(map[netip.Addr]bool{addr(1): false, addr(2): true})
	var all []cluster.Update
	testhost.Must(t, e.Start(self, func(u cluster.Update) { all = append(all, u) }))
	if len(all) != 1 || !all[0].Full || len(all[0].Entries) != 1 || all[0].Entries[0].Name != "192.0.2.2" || all[0].Entries[0].State != cluster.Suspect {
		t.Fatalf("first: %+v", all)
	}
	for range 2 {
		e.Tell(map[netip.Addr]bool{addr(1): false, addr(2): false, addr(3): false})
	}
	e.Tell(map[netip.Addr]bool{addr(3): false})
	if len(all) != 3 || len(all[1].Entries) != 2 || all[1].Full || len(all[2].Entries) != 0 || len(all[2].Removed) != 1 || all[2].Removed[0] != ID(addr(2)) {
		t.Errorf("then: %+v", all[1:])
	}
	testhost.Must(t, e.Close(t.Context()))
	e.Tell(nil)
	if len(all) != 3 {
		t.Error("a closed engine goes on")
	}
}

// The host's id is one that every cluster takes, and each address has its own.
func TestID(t *testing.T) {
	seen := make(map[cluster.HostID]netip.Addr)
	for _, text := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		a := netip.MustParseAddr(text)
		h := cluster.Host{ID: ID(a), Name: text, VTEP: netip.AddrPortFrom(a, 4789)}
		testhost.Must(t, h.Check())
		if other, taken := seen[h.ID]; taken {
			t.Errorf("%s and %s have one id", other, a)
		}
		seen[h.ID] = a
	}
}

// What is Docker's to decide.
func TestStrong(t *testing.T) {
	e, self := newDocker().join(1)
	e.Tell(map[netip.Addr]bool{addr(2): true})
	testhost.Must(t, e.Start(self, func(cluster.Update) {}))
	given := cluster.Spec{Key: "x7s1k2m9qz0pabcdefghijklm", VNI: 8388700}
	if got, err := e.Network(t.Context(), given); err != nil || got.VNI != given.VNI {
		t.Errorf("what Docker gave: %+v, %v", got, err)
	}
	for _, bad := range []cluster.Spec{{Key: given.Key}, {Key: "Blue", VNI: 80}} {
		if _, err := e.Network(t.Context(), bad); err == nil {
			t.Errorf("%+v is no error", bad)
		}
	}
	if _, err := e.Claim(t.Context(), given.Key, cluster.Want{}); !errors.Is(err, cluster.ErrNoChoice) {
		t.Errorf("a block: %v", err)
	}
	testhost.Must(t, e.Free(t.Context(), given.Key, netip.MustParsePrefix("10.60.0.0/26")))
	if err := e.Forget(t.Context(), ID(addr(2))); err == nil || errors.Is(err, cluster.ErrNoHost) {
		t.Errorf("forget a node: %v", err)
	}
	if err := e.Forget(t.Context(), ID(addr(3))); !errors.Is(err, cluster.ErrNoHost) {
		t.Errorf("forget nobody: %v", err)
	}
}

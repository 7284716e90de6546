package member

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func name(key, n, addr string) cluster.Name {
	return cluster.Name{Key: key, Name: n, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
}

// A host tells names of networks that it is on, those of the others later; without being told again they end.
func TestTellNames(t *testing.T) {
	hub := conformance.NewHub()
	one, two := newHost(t, hub, 1), newHost(t, hub, 2)
	testhost.Must(t, two.CreateNetwork(t.Context(), blue(2)))
	version, keys, changed := two.NamesAfter(t.Context(), "")
	if !slices.Equal(keys, []string{"blue"}) || !slices.Equal(changed, keys) {
		t.Errorf("networks %v, %v", keys, changed)
	}
	await := func(what string, want ...cluster.Named) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testhost.Patience)
		defer cancel()
		for ctx.Err() == nil {
			same := func(a, b cluster.Named) bool {
				return a.Name.Name == b.Name.Name && a.Key == b.Key && a.Host == b.Host && slices.Equal(a.Addrs, b.Addrs)
			}
			if slices.EqualFunc(two.Directory.Names("blue"), want, same) {
				return
			}
			version, keys, changed = two.NamesAfter(ctx, version)
		}
		t.Fatalf("%s: it knows %v", what, two.Directory.Names("blue"))
	}
	began := time.Now()
	web := name("blue", "web", "10.77.0.2")
	one.TellNames([]cluster.Name{web, name("green", "db", "10.78.0.2")}, began)
	testhost.Must(t, one.CreateNetwork(t.Context(), blue(1)))
	await("the network came after the names", cluster.Named{Name: web, Host: one.Self})
	if own := one.Own(); len(own.Names) != 1 {
		t.Errorf("it has said %v", own.Names)
	}
	other := name("blue", "web2", "10.77.0.3")
	one.TellNames([]cluster.Name{other}, began)
	await("others", cluster.Named{Name: other, Host: one.Self})
	one.endNames(began.Add(NamesLast))
	if own := one.Own(); len(own.Names) != 1 {
		t.Error("the names have ended too early")
	}
	one.endNames(began.Add(NamesLast + time.Second))
	await("none told")
	if n := one.log.Count("names of this host's containers are not told any more"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// A question for names waits until something has changed, and a version of another run is no version.
func TestNamesAfter(t *testing.T) {
	m, err := New(Config{Cluster: "a", Engine: conformance.NewHub().Engine(), Dir: t.TempDir(), Name: "n1", VTEP: conformance.Self(1).VTEP})
	testhost.Must(t, err)
	m.publishFabric([]cluster.Member{{Spec: cluster.Spec{Key: "red"}}, {Spec: cluster.Spec{Key: "blue"}}}, nil, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	first, keys, changed := m.NamesAfter(t.Context(), "")
	if want := []string{"blue", "red"}; !slices.Equal(keys, want) || !slices.Equal(changed, want) {
		t.Errorf("first %v %v", keys, changed)
	}
	if v, _, changed := m.NamesAfter(ended, first); v != first || len(changed) != 0 {
		t.Errorf("no change: %s %v", v, changed)
	}
	for _, unknown := range []string{"x", "9.1", "1.99", "-1.1", "1."} {
		if _, _, changed := m.NamesAfter(t.Context(), unknown); len(changed) != 2 {
			t.Errorf("%q: %v", unknown, changed)
		}
	}
	answered := make(chan []string)
	go func() {
		_, _, changed := m.NamesAfter(t.Context(), first)
		answered <- changed
	}()
	m.namesChanged([]string{"green"}) // this host is not on it
	m.namesChanged([]string{"red"})
	if changed := <-answered; !slices.Equal(changed, []string{"red"}) {
		t.Errorf("changed %v", changed)
	}
	second, _, _ := m.NamesAfter(t.Context(), first)
	m.publishFabric([]cluster.Member{{Spec: cluster.Spec{Key: "green"}}}, nil, nil)
	if _, keys, changed := m.NamesAfter(t.Context(), second); !slices.Equal(keys, []string{"green"}) || !slices.Equal(changed, keys) {
		t.Errorf("other networks: %v %v", keys, changed)
	}
}

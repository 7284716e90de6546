package ipam

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// networks is what a test's networks show.
type networks struct {
	subnets map[string]bool // "key subnet"
	addrs   map[string]bool // "key subnet address"
}

func (n *networks) HasSubnet(key string, s netip.Prefix) bool {
	return n.subnets[fmt.Sprint(key, " ", s)]
}
func (n *networks) HasAddr(key string, s netip.Prefix, a netip.Addr) bool {
	return n.addrs[fmt.Sprint(key, " ", s, " ", a)]
}

// bed is a Manager with what it looks at.
type bed struct {
	*Manager
	t       *testing.T
	dir     string
	engine  cluster.Engine
	seen    networks
	at      time.Time
	changes []string
}

func newBed(t *testing.T, e cluster.Engine) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), engine: e, seen: networks{make(map[string]bool), make(map[string]bool)}, at: time.Unix(1e9, 0)}
	testhost.Must(t, os.MkdirAll(b.dir+"/networks", 0o700))
	b.open()
	t.Cleanup(func() { b.Close() })
	return b
}

func (b *bed) open() {
	b.t.Helper()
	m, err := Open(Config{Dir: b.dir, Engine: b.engine, Evidence: &b.seen, Changed: func(key string) { b.changes = append(b.changes, key) }})
	testhost.Must(b.t, err)
	m.now = func() time.Time { return b.at }
	b.Manager = m
}

// restart opens the state directory again, a while later.
func (b *bed) restart() {
	b.t.Helper()
	b.Close()
	b.open()
}

func (b *bed) pool(r Request) Pool {
	b.t.Helper()
	p, err := b.RequestPool(b.t.Context(), r)
	testhost.Must(b.t, err)
	return p
}

func (b *bed) any(id string) netip.Addr {
	b.t.Helper()
	p, err := b.RequestAddress(b.t.Context(), id, netip.Addr{}, Use{})
	testhost.Must(b.t, err)
	return p.Addr()
}

func (b *bed) this(id, a string) error {
	_, err := b.RequestAddress(b.t.Context(), id, addr(a), Use{})
	return err
}

func (b *bed) back(id string, a netip.Addr) {
	b.t.Helper()
	testhost.Must(b.t, b.ReleaseAddress(b.t.Context(), id, a))
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("want an error that says %q, got %v", text, err)
	}
}

// Which addresses containers get, and in which order.
func TestLocal(t *testing.T) {
	b := newBed(t, nil)
	p := b.pool(Request{Subnet: prefix("10.77.0.9/29")})
	if p.Subnet != prefix("10.77.0.8/29") || p.Gateway.IsValid() {
		t.Fatalf("pool %+v", p)
	}
	if gw, err := b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{Gateway: true}); err != nil || gw != prefix("10.77.0.9/29") {
		t.Errorf("gateway %v, %v", gw, err)
	}
	var got []string
	for range 5 {
		got = append(got, b.any(p.ID).String())
	}
	if want := "[10.77.0.10 10.77.0.11 10.77.0.12 10.77.0.13 10.77.0.14]"; fmt.Sprint(got) != want {
		t.Errorf("addresses %v, want %s", got, want)
	}
	_, err := b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{})
	wantError(t, err, "every address of 10.77.0.8/29 is in use")
	// What was given back first is used first, also after a restart.
	for _, a := range []string{"10.77.0.12", "10.77.0.10", "10.77.0.14"} {
		b.back(p.ID, addr(a))
		b.back(p.ID, addr(a))
	}
	b.restart()
	for _, want := range []string{"10.77.0.12", "10.77.0.10"} {
		if got := b.any(p.ID); got != addr(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for a, text := range map[string]string{
		"10.77.0.8":  "is no address for a container",
		"10.77.0.15": "is no address for a container",
		"10.77.0.9":  "gateway address",
		"10.77.0.16": "is not in 10.77.0.8/29",
		"10.77.0.12": "belongs to another container",
		"fd00::1":    "is not in 10.77.0.8/29",
	} {
		wantError(t, b.this(p.ID, a), text)
	}
	testhost.Must(t, b.this(p.ID, "10.77.0.14"))
	wantError(t, b.this("local|10.99.0.0/24", "10.99.0.1"), "is not known")
	if len(b.changes) > 0 {
		t.Errorf("blocks of %v have changed", b.changes)
	}
}

// The first address of each kind of subnet.
func TestUsable(t *testing.T) {
	for subnet, want := range map[string]string{"10.0.0.0/31": "10.0.0.0", "10.0.0.4/32": "10.0.0.4", "10.0.0.0/30": "10.0.0.1",
		"fd00::/64": "fd00::1", "fd00::/127": "fd00::", "fd00::5/128": "fd00::5"} {
		b := newBed(t, nil)
		if got := b.any(b.pool(Request{Subnet: prefix(subnet)}).ID); got != addr(want) {
			t.Errorf("%s: %s, want %s", subnet, got, want)
		}
	}
}

// A range, and pools that overlap.
func TestRange(t *testing.T) {
	b := newBed(t, nil)
	r := Request{Subnet: prefix("10.77.0.0/16"), Range: prefix("10.77.5.0/24")}
	p := b.pool(r)
	if gw, err := b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{Gateway: true}); err != nil || gw != prefix("10.77.5.0/16") {
		t.Errorf("gateway of a range: %v, %v", gw, err)
	}
	if got := b.any(p.ID); got != addr("10.77.5.1") {
		t.Errorf("first address %s", got)
	}
	testhost.Must(t, b.this(p.ID, "10.77.200.1")) // as with Docker's own IPAM
	if again := b.pool(r); again.ID != p.ID {
		t.Errorf("asked again: %+v", again)
	}
	b.seen.subnets[" 10.77.0.0/16"] = true
	_, err := b.RequestPool(t.Context(), r)
	wantError(t, err, "belongs to another network")
	for text, r := range map[string]Request{
		"overlaps 10.77.0.0/16":      {Subnet: prefix("10.0.0.0/8")},
		"is no part of":              {Subnet: prefix("10.78.0.0/16"), Range: prefix("10.79.0.0/24")},
		"is no part":                 {Subnet: prefix("10.78.0.0/16"), Range: prefix("10.0.0.0/8")},
		"without a --subnet":         {Range: prefix("10.79.0.0/24")},
		"give an IPv6 --subnet":      {V6: true},
		"this host is in no cluster": {Key: "blue", Subnet: prefix("10.78.0.0/16")},
		`network "Blue"`:             {Key: "Blue", Subnet: prefix("10.78.0.0/16")},
	} {
		_, err := b.RequestPool(t.Context(), r)
		wantError(t, err, text)
	}
	b.pool(Request{Subnet: prefix("10.77.0.0/16"), Range: prefix("10.77.6.0/24")}) // beside the other's range
	if n := len(b.Pools()); n != 2 {
		t.Errorf("%d pools", n)
	}
	// A pool that Docker has forgotten, since it was killed before it made the network, does not stand in the way.
	b.pool(Request{Subnet: prefix("10.90.0.0/16")})
	b.pool(Request{Subnet: prefix("10.90.0.0/16")})
	testhost.Must(t, b.ReleasePool(t.Context(), "local|10.90.0.0/16"))
	testhost.Must(t, b.ReleasePool(t.Context(), "local|10.90.0.0/16"))
	b.restart()
	if n := len(b.Pools()); n != 2 {
		t.Errorf("%d pools after a restart", n)
	}
}

// Subnets that nobody named are private ones, each time another.
func TestAnySubnet(t *testing.T) {
	b := newBed(t, nil)
	seen := make(map[netip.Prefix]bool)
	for range 40 {
		p := b.pool(Request{})
		if seen[p.Subnet] || !p.Subnet.Addr().IsPrivate() {
			t.Errorf("%s", p.Subnet)
		}
		seen[p.Subnet] = true
	}
}

// An address that Docker never gave back is free again when no endpoint has it.
func TestForgottenAddress(t *testing.T) {
	b := newBed(t, nil)
	p := b.pool(Request{Subnet: prefix("10.77.0.0/30")})
	one, two := b.any(p.ID), b.any(p.ID)
	b.seen.addrs[" 10.77.0.0/30 "+one.String()] = true
	_, err := b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{})
	wantError(t, err, "in use") // the second one's endpoint may just be being made
	wantError(t, b.this(p.ID, two.String()), "belongs to another container")
	b.at = b.at.Add(startGrace)
	wantError(t, b.this(p.ID, one.String()), "belongs to another container")
	testhost.Must(t, b.this(p.ID, two.String()))
	b.restart() // whose addresses have no time
	if got := b.any(p.ID); got != two {
		t.Errorf("got %s, want %s", got, two)
	}
}

// In Docker's Swarm the leading manager gives addresses out, and each node is asked for them again.
func TestSwarm(t *testing.T) {
	b := newBed(t, nil)
	manager := Request{Subnet: prefix("10.60.0.0/24"), Global: true}
	ask := func(id, a string, use Use) (netip.Addr, error) {
		var want netip.Addr
		if a != "" {
			want = addr(a)
		}
		p, err := b.RequestAddress(t.Context(), id, want, use)
		return p.Addr(), err
	}
	given := func(id, a string, use Use) netip.Addr {
		t.Helper()
		got, err := ask(id, a, use)
		testhost.Must(t, err)
		return got
	}
	lead := func() string { // all networks, and then all addresses
		t.Helper()
		b.Begin()
		p := b.pool(manager)
		given(p.ID, "10.60.0.1", Use{Gateway: true, Swarm: true})
		return p.ID
	}
	swarm := Use{Swarm: true}
	id := lead()
	first, second := given(id, "", swarm), given(id, "", swarm)
	_, err := ask(id, first.String(), swarm)
	wantError(t, err, "belongs to another container of the Swarm")
	b.at = b.at.Add(time.Hour) // no endpoint of this host has it
	_, err = ask(id, first.String(), swarm)
	wantError(t, err, "belongs to another container of the Swarm")
	_, err = b.RequestPool(t.Context(), manager)
	wantError(t, err, "belongs to another network of the Swarm")
	_, err = b.RequestPool(t.Context(), Request{Subnet: prefix("10.60.0.0/16"), Global: true})
	wantError(t, err, "overlaps 10.60.0.0/24")

	node := b.pool(Request{Subnet: prefix("10.60.0.0/24")})
	if node.ID == id {
		t.Fatal("the manager's pool is the node's")
	}
	given(node.ID, "10.60.0.1", Use{Gateway: true})
	given(node.ID, first.String(), Use{})
	testhost.Must(t, b.ReleaseAddress(t.Context(), node.ID, first))
	given(node.ID, first.String(), Use{})

	for range 2 { // another manager led, and one of the containers ended; the daemon was restarted or not
		lead()
		if got := given(id, second.String(), swarm); got != second {
			t.Errorf("a container had %s, has %s", second, got)
		}
		if next := given(id, "", swarm); next == first || next == second {
			t.Errorf("%s is given out too early", next)
		}
		given(id, first.String(), swarm)
		b.restart()
		_, err = ask(id, first.String(), swarm)
		wantError(t, err, "belongs to another container of the Swarm")
	}
	b.Begin()
	b.pool(Request{Subnet: prefix("10.60.0.0/16"), Global: true}) // the other network was removed meanwhile
}

// A manager that has given out every address uses those again that nobody has when it begins to lead.
func TestSwarmFull(t *testing.T) {
	b := newBed(t, nil)
	r := Request{Subnet: prefix("10.60.0.0/29"), Global: true}
	var id string
	for range 3 {
		b.Begin()
		id = b.pool(r).ID
		for range 6 {
			_, err := b.RequestAddress(t.Context(), id, netip.Addr{}, Use{Swarm: true})
			testhost.Must(t, err)
		}
	}
	_, err := b.RequestAddress(t.Context(), id, netip.Addr{}, Use{Swarm: true})
	wantError(t, err, "every address of 10.60.0.0/29 is in use")
}

// A Swarm's network is not divided among hosts.
func TestSwarmKey(t *testing.T) {
	b := newBed(t, started(t, conformance.NewHub(), 1))
	p := b.pool(Request{Key: "blue", Subnet: prefix("10.50.0.0/16"), Global: true})
	_, err := b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{Swarm: true})
	wantError(t, err, "leave --ipam-opt tapestry.network away")
	if a := b.any(p.ID); a != addr("10.50.0.2") { // outside of a Swarm
		t.Errorf("first address %s", a)
	}
}

// A network of a driver that spans hosts, made outside of a Swarm, is in Docker's address space for those, and is this host's all the same.
func TestGlobalSpace(t *testing.T) {
	b := newBed(t, nil)
	r := Request{Subnet: prefix("10.60.0.0/24"), Global: true}
	p := b.pool(r)
	a := b.any(p.ID)
	wantError(t, b.this(p.ID, a.String()), "belongs to another container of this host")
	b.seen.subnets[" 10.60.0.0/24"] = true
	_, err := b.RequestPool(t.Context(), r)
	wantError(t, err, "belongs to another network of this host")
	b.at = b.at.Add(startGrace)
	testhost.Must(t, b.this(p.ID, a.String())) // dockerd was killed: no endpoint has it
}

// What cannot be written is undone.
func TestSaveFails(t *testing.T) {
	hub := conformance.NewHub()
	b := newBed(t, started(t, hub, 1))
	p := b.pool(Request{Key: "blue", Subnet: prefix("10.50.0.0/16")})
	first := b.any(p.ID)
	before := b.Pools()
	testhost.Must(t, os.Rename(b.dir+"/networks", b.dir+"/away")) // where files are written before they are renamed
	_, err := b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{})
	wantError(t, err, "write the pool")
	wantError(t, b.this(p.ID, "10.50.200.7"), "write the pool")
	wantError(t, b.ReleaseAddress(t.Context(), p.ID, first), "write the pool")
	_, err = b.RequestPool(t.Context(), Request{Subnet: prefix("10.51.0.0/16")})
	wantError(t, err, "write the pool")
	testhost.Must(t, os.Rename(b.dir+"/away", b.dir+"/networks"))
	if after := b.Pools(); fmt.Sprint(after[0].Used, after[0].Blocks, len(after)) != fmt.Sprint(before[0].Used, before[0].Blocks, 1) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if next := b.any(p.ID); next == first {
		t.Errorf("%s was given out twice", first)
	}
}

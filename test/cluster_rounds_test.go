package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// rounds is how often a test does what it does at random: as TAPESTRY_ROUNDS says, or so often that CI stays short.
func rounds(t *testing.T, short int) int {
	t.Helper()
	text := os.Getenv("TAPESTRY_ROUNDS")
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	testhost.Must(t, err)
	return n
}

// TestClusterRounds: five hosts of a cluster whose network breaks in any way and heals, while containers come and go and daemons are
// killed. Traffic between hosts that reach each other never stops; afterwards all hosts agree, and all containers reach each other.
// TAPESTRY_ROUNDS=100 and TAPESTRY_SEED=N repeat more of it, and the same.
func TestClusterRounds(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TAPESTRY_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		testhost.Must(t, err)
	}
	t.Logf("TAPESTRY_SEED=%d", seed)
	for _, kind := range []string{"gossip", "etcd"} {
		t.Run(kind, func(t *testing.T) {
			c := newStorm(t, kind, rand.New(rand.NewPCG(seed, 0)))
			for i := range rounds(t, 1) {
				c.round(t, i)
			}
			t.Logf("after a network healed, all hosts agreed within %v at worst, %v in the middle", c.slowest().Round(time.Millisecond), c.median().Round(time.Millisecond))
		})
	}
}

// A storm is what TestClusterRounds does with a cluster.
type storm struct {
	*rand.Rand
	kind      string
	own       bool // addresses are the test's business
	hosts     []*bare
	outside   *Host
	etcd      *etcdServer
	residents []*bareContainer // one of each host, which stays
	guests    []*bareContainer
	red       map[*bare]bool // has the network red
	healed    []time.Duration
}

const (
	blueSubnet = "10.50.0.0/16"
	redSubnet  = "10.60.0.0/16"
)

func newStorm(t *testing.T, kind string, random *rand.Rand) *storm {
	c := &storm{Rand: random, kind: kind, own: kind == "gossip", red: make(map[*bare]bool)}
	if kind == "etcd" {
		testhost.Tools(t, "etcd")
		c.etcd = &etcdServer{}
		c.hosts, c.outside = newBareHosts(t, "storm-e", 5, func(outside *Host) {
			c.etcd.on = outside
			c.etcd.start(t)
			t.Cleanup(func() { c.etcd.stop(t) })
		}, "--cluster", "etcd", "--etcd", etcdEndpoint)
	} else {
		key := t.TempDir() + "/key"
		c.hosts, c.outside = newBareHosts(t, "storm-g", 5, func(outside *Host) {
			outside.newKey(t, key)
		}, "--cluster", "gossip", "--join", "192.0.2.1", "--join", "192.0.2.3", "--cluster-key-file", key)
	}
	for _, h := range c.hosts {
		testhost.Must(t, h.create("blue", blueSubnet, c.own))
		c.residents = append(c.residents, c.start(t, h, "blue", blueSubnet))
	}
	c.settle(t)
	return c
}

// start starts a container. It may be refused while the cluster cannot be asked: then it returns nil.
func (c *storm) start(t *testing.T, h *bare, key, subnet string) *bareContainer {
	t.Helper()
	addr := ""
	if c.own {
		network, _, _ := strings.Cut(subnet, ".0.0/")
		addr = fmt.Sprintf("%s.%d.%d", network, h.number, h.made+2)
	}
	made, err := h.start(key, subnet, addr)
	if err != nil && strings.Contains(err.Error(), "the cluster cannot be asked") {
		return nil
	}
	testhost.Must(t, err)
	for _, other := range append(slices.Clone(c.residents), c.guests...) {
		if other.addr == made.addr && other.network == made.network {
			t.Fatalf("%s and %s both have %s", made.name, other.name, made.addr)
		}
	}
	return made
}

// cuts says which hosts do not reach each other, and etcd, in one of the forms that networks break in.
func (c *storm) cuts() (form string, cut func(i, j int) bool, etcdCut func(i int) bool) {
	n := len(c.hosts)
	none := func(int) bool { return false }
	switch shift := c.IntN(n); c.IntN(4) {
	case 0:
		small := func(i int) bool { return (i+shift)%n < n/2 }
		away := c.IntN(3) // etcd is with the small half, the large one, or both
		return "halves", func(i, j int) bool { return small(i) != small(j) }, func(i int) bool { return away == 0 && !small(i) || away == 1 && small(i) }
	case 1:
		return "one", func(i, j int) bool { return (i == shift) != (j == shift) }, func(i int) bool { return i == shift }
	case 2:
		return "ring", func(i, j int) bool { return (i-j+n)%n != 1 && (j-i+n)%n != 1 }, none
	}
	return "none", func(int, int) bool { return false }, none
}

// round breaks the network, lets things happen, heals it, and looks.
func (c *storm) round(t *testing.T, number int) {
	form, cut, etcdCut := c.cuts()
	var killed *bare
	if c.IntN(3) == 0 {
		killed = c.hosts[c.IntN(len(c.hosts))]
	}
	pings := make(map[string]*background)
	for i, from := range c.residents {
		for j, to := range c.residents {
			if i < j && !cut(i, j) && from.on != killed && to.on != killed {
				pings[from.name+" to "+to.name] = from.pings(t, to.addr)
			}
		}
	}
	for _, p := range pings { // ARP has answered, which would not wait for a slow machine
		p.goesOn(t)
	}
	for i, h := range c.hosts {
		var script strings.Builder
		for j, other := range c.hosts {
			if i != j && cut(i, j) {
				fmt.Fprintf(&script, "iptables -A INPUT -s %s -j DROP\n", other.addr())
			}
		}
		if etcdCut(i) {
			script.WriteString("iptables -A INPUT -s 192.0.2.254 -j DROP\n")
		}
		h.in(t, "sh", "-ec", script.String())
	}
	if killed != nil {
		killed.stopDaemon(t, "KILL")
	}
	lasts := time.Duration(c.IntN(20)) * time.Second
	t.Logf("round %d: %s, for %v at least, %d guests, killed: %v", number, form, lasts, len(c.guests), killed != nil)
	until := time.Now().Add(lasts)
	for range 6 {
		c.happens(t, killed)
	}
	time.Sleep(time.Until(until)) // the length of what is broken is what is tried
	if killed != nil {
		killed.startDaemon(t)
	}
	for _, h := range c.hosts {
		h.in(t, "iptables", "-F", "INPUT")
	}
	began := time.Now()
	missing := c.settle(t)
	took := time.Since(began)
	c.healed = append(c.healed, took)
	t.Logf("round %d: agreed after %v; the last that was missing: %v", number, took.Round(time.Millisecond), missing)
	for who, p := range pings {
		p.goesOn(t)
		said := p.end(t)
		if n := holes(said); n > 0 {
			t.Errorf("round %d, %s: %s, %d frames lost:\n%s", number, form, who, n, said)
		}
	}
	for i, from := range c.residents {
		from.ping(t, c.residents[(i+1+c.IntN(len(c.residents)-1))%len(c.residents)].addr)
	}
	for _, g := range c.guests {
		if from := c.residents[c.IntN(len(c.residents))]; g.network == "blue" {
			from.ping(t, g.addr)
		}
	}
}

// happens lets one thing happen at a host whose daemon runs.
func (c *storm) happens(t *testing.T, killed *bare) {
	t.Helper()
	h := c.hosts[c.IntN(len(c.hosts))]
	if h == killed {
		return
	}
	switch c.IntN(5) {
	case 0, 1:
		if g := c.start(t, h, "blue", blueSubnet); g != nil {
			c.guests = append(c.guests, g)
		}
	case 2, 3:
		mine := slices.IndexFunc(c.guests, func(g *bareContainer) bool { return g.on == h })
		if mine >= 0 {
			g := c.guests[mine]
			subnet := map[string]string{"blue": blueSubnet, "red": redSubnet}[g.network]
			testhost.Must(t, g.stop(subnet, c.own))
			c.guests = slices.Delete(c.guests, mine, mine+1)
		}
	case 4:
		var err error
		if c.red[h] {
			err = h.remove("red", redSubnet, c.own)
		} else {
			err = h.create("red", redSubnet, c.own)
		}
		if err == nil {
			c.red[h] = !c.red[h]
		} else if !strings.Contains(err.Error(), "the cluster cannot be asked") {
			t.Fatal(err)
		}
	}
}

// settle waits until all hosts say the same of the cluster, and that is what there is. It returns what was missing last.
func (c *storm) settle(t *testing.T) (missing error) {
	t.Helper()
	testhost.Eventually(t, patience, func() (err error) {
		defer func() {
			if err != nil {
				missing = err
			}
		}()
		first := ""
		for i, h := range c.hosts {
			said, err := h.try("tapestry", "cluster", "status", "--json")
			if err != nil {
				return err
			}
			var v clusterView
			if err := json.Unmarshal([]byte(said), &v); err != nil {
				return err
			}
			view, err := c.expected(v)
			if err != nil {
				return fmt.Errorf("%s: %w: %+v", h.name, err, v)
			}
			if i == 0 {
				first = view
			} else if view != first {
				return fmt.Errorf("%s says %s, and %s says %s", c.hosts[0].name, first, h.name, view)
			}
		}
		return nil
	})
	return missing
}

// expected compares what a host says with what there is, and returns what all must say alike.
func (c *storm) expected(v clusterView) (view string, err error) {
	if !v.Reachable || len(v.Hosts) != len(c.hosts) || len(v.Problems) > 0 {
		return "", fmt.Errorf("it is not well")
	}
	for _, h := range v.Hosts {
		if h.State != "alive" && h.State != "this" {
			return "", fmt.Errorf("host %s is %s", h.Name, h.State)
		}
	}
	want := map[string][]string{}
	for _, h := range c.hosts {
		want["blue"] = append(want["blue"], h.name)
		if c.red[h] {
			want["red"] = append(want["red"], h.name)
		}
	}
	if len(v.Networks) != len(want) {
		return "", fmt.Errorf("there are the networks %v", want)
	}
	for _, n := range v.Networks {
		slices.Sort(n.Hosts)
		if !slices.Equal(n.Hosts, want[n.Key]) {
			return "", fmt.Errorf("network %s is at %v", n.Key, want[n.Key])
		}
	}
	return fmt.Sprintf("networks %v, blocks %v", v.Networks, v.Blocks), nil
}

func (c *storm) slowest() time.Duration { return slices.Max(c.healed) }

func (c *storm) median() time.Duration {
	sorted := slices.Sorted(slices.Values(c.healed))
	return sorted[len(sorted)/2]
}

package fabric

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/neighbour"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// asks is an endpoint's ARP request for the address of another.
func asks(e, other Endpoint) []byte {
	return packets.ARP(broadcast, e.MAC, 1, e.Addrs[0].Addr(), ether.MAC{}, other.Addrs[0].Addr())
}

// gets waits for a frame to reach the container, whatever comes before it.
func (d *device) gets(t *testing.T, what string, want []byte) {
	t.Helper()
	limit := time.After(testhost.Patience)
	for {
		select {
		case b := <-d.out:
			if bytes.HasPrefix(b, want) {
				return
			}
		case <-limit:
			t.Fatalf("%s: %x has not come", what, want)
		}
	}
}

// says has the host tell the names of containers, by address.
func (m *member) says(names map[string]string) {
	end := m.locked()
	m.names = nil
	for name, a := range names {
		m.names = append(m.names, cluster.Name{Key: "blue", Name: name, Addrs: []netip.Addr{netip.MustParseAddr(a)}})
	}
	end()
	m.Publish()
}

// A question is answered by this host if another one says that it has the address, and reaches the other hosts if not: also for an
// address of a block that no container has.
func TestAnswered(t *testing.T) {
	hub, one, two := newPair(t, "10.77.0.0/26")
	odd := ep(7)
	odd.MAC = ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 1}
	two.container(netID(2), ep(2))
	two.container(netID(2), odd)
	one.container(netID(1), ep(200))
	two.says(map[string]string{"web": "10.77.0.2"})
	one.await("it is known", func() bool {
		return one.dir.NameOf("blue", ep(2).Addrs[0].Addr()) == "web" && len(one.dir.Stations("blue")) == 1
	})
	answered := func() uint64 { return one.Networks()[0].Answered }
	asker := 0
	check := func(what string, about Endpoint, answer bool, why string) {
		t.Helper()
		asker++ // a question that was answered is not answered again
		e := ep(100 + asker)
		one.container(netID(1), e)
		question := asks(e, about)
		v := one.trace(TraceRequest{Network: netID(1), Port: e.ID, Frame: question})
		if s := stepOf(v, "answer"); (v.Verdict == "answered") != answer || s.Why != why || s.Addr != about.Addrs[0].Addr() {
			t.Errorf("%s: traced as %s, %+v", what, v.Verdict, s)
		}
		before := answered()
		one.m.dev(t, e.ID).feedFrame(ether.Lend(append(make([]byte, ether.Headroom), question...), ether.Offload{}))
		if answer {
			one.m.dev(t, e.ID).gets(t, what, packets.ARP(e.MAC, about.MAC, 2, about.Addrs[0].Addr(), e.MAC, e.Addrs[0].Addr()))
		} else {
			two.m.dev(t, epID(2)).gets(t, what, question)
		}
		one.poller.Sync()
		if n := answered() - before; n > 1 || (n == 1) != answer {
			t.Errorf("%s: %d were answered", what, n)
		}
	}
	const n2 = "n2 (192.0.2.2)"
	check("a name", ep(2), true, n2)
	check("a station", odd, true, n2)
	check("nobody in the block", ep(3), false, "")
	check("a container of this host", ep(200), false, "")
	one.container(netID(1), ep(7)) // by that address, which its network's other host has
	check("an address of both", odd, false, n2)
	testhost.Must(t, one.DeleteEndpoint(t.Context(), netID(1), epID(7)))
	check("and of one again", odd, true, n2)
	two.says(nil)
	one.await("the name has ended", func() bool { return one.dir.NameOf("blue", ep(2).Addrs[0].Addr()) == "" })
	check("a container without a name", ep(2), false, "")
	hub.Cut(two.self.ID, true)
	one.await("the cluster says that it is gone", func() bool { return one.dir.On("blue")[0].State == cluster.Gone })
	check("a host that is gone", odd, false, "")
}

// The host's own port on a network is said of nothing: each host may have one with that address.
func TestHostPortNotTold(t *testing.T) {
	_, all := newMembers(t, 2)
	n := blue(1)
	gateway := ep(1)
	gateway.ID = HostPortID(n.ID)
	n.HostPort = &gateway
	all[0].mustNetwork(n)
	all[1].mustNetwork(blue(2))
	all[0].container(n.ID, ep(2))
	all[1].await("its container is known", func() bool { return len(all[1].dir.Stations("blue")) > 0 })
	if s := all[1].dir.Stations("blue"); len(s) != 1 || s[ep(2).MAC] != all[0].self.ID {
		t.Errorf("stations %v", s)
	}
}

// A container moves between hosts, in any order of what they say and do: it is found where it started last.
func TestMoves(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	_, all := newMembers(t, 3)
	one, two := all[0], all[1]
	two.blocks = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/26")}
	for i, m := range all {
		m.mustNetwork(blue(1 + i))
	}
	for i, m := range all {
		m.meets(netID(1+i), []string{"192.0.2.2 192.0.2.3", "192.0.2.1 192.0.2.3", "192.0.2.1 192.0.2.2"}[i])
	}
	sender := ep(250)
	one.container(netID(1), sender)
	inBlock, outside, odd := ep(2), ep(130), ep(3)
	odd.MAC = ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 1}
	drops := func() (n uint64) {
		for _, d := range one.Networks()[0].Drops {
			n += d
		}
		return n
	}
	id := 1000
	for _, moving := range []Endpoint{inBlock, outside, odd} {
		at := -1 // the host where it is
		var old string
		for round := range 25 {
			to := r.IntN(len(all))
			if to == at {
				continue
			}
			id++
			e, m := moving, all[to]
			e.ID = epID(id)
			what := fmt.Sprintf("%s, round %d, from host %d to %d", moving.MAC, round, at+1, to+1)
			end := func() {
				testhost.Must(t, all[at].DeleteEndpoint(t.Context(), netID(1+at), old))
				what += ", ended"
			}
			when := r.IntN(3)
			if at >= 0 {
				from := all[at]
				if r.IntN(2) == 0 { // it was heard a moment ago
					from.m.dev(t, old).feed(moving.MAC, broadcast, what)
					one.m.dev(t, sender.ID).expect(t, what)
				}
				from.m.die(old)
				_, seq, odd := from.own(old)
				m.await("where it was is known", func() bool {
					_, s, ok := m.dir.Station("blue", moving.MAC)
					return !odd || ok && s == seq
				})
				if when == 0 {
					end()
				}
			}
			m.mustEndpoint(netID(1+to), e)
			m.m.enter(e.ID, "/sandbox")
			if at >= 0 && when == 1 {
				end()
			}
			if at >= 0 && r.IntN(2) == 0 { // whatever the reason
				all[at].Publish()
				what += ", told again"
			}
			_, seq, isOdd := m.own(e.ID)
			one.await("where it is is known", func() bool {
				host, s, ok := one.dir.Station("blue", moving.MAC)
				return to == 0 || !isOdd && !ok || ok && host == m.self.ID && s == seq
			})
			if r.IntN(2) == 0 {
				if _, err := m.Join(t.Context(), netID(1+to), e.ID, "/sandbox"); err != nil {
					t.Fatal(err)
				}
				what += ", announced"
			}
			before := drops()
			one.m.dev(t, sender.ID).feed(sender.MAC, moving.MAC, what)
			m.m.dev(t, e.ID).expect(t, what)
			if n := drops(); n != before {
				t.Errorf("%s: %d frames were dropped", what, n-before)
			}
			if at >= 0 && when == 2 {
				end()
			}
			at, old = to, e.ID
		}
		if at >= 0 {
			testhost.Must(t, all[at].DeleteEndpoint(t.Context(), netID(1+at), old))
		}
	}
}

// own is what the host says of its endpoint.
func (m *member) own(id string) (mac ether.MAC, seq uint64, odd bool) {
	defer m.locked()()
	for _, n := range m.networks {
		if e := n.endpoints[id]; e != nil {
			s, odd := neighbour.Station(n.Key, e.EndpointRecord, m.blocks)
			return s.MAC, s.Seq, odd
		}
	}
	return mac, 0, false
}

// Which of two hosts has a container is decided when it starts there: neither what they say later nor a restart changes it.
func TestSeqStays(t *testing.T) {
	_, all := newMembers(t, 3)
	one, two, three := all[0], all[1], all[2]
	for i, m := range all {
		m.mustNetwork(blue(1 + i))
	}
	two.container(netID(2), ep(2))
	three.await("it is at the second host", func() bool { _, _, ok := three.dir.Station("blue", ep(2).MAC); return ok })
	three.container(netID(3), ep(2))
	is := func(when string) {
		t.Helper()
		one.await(when, func() bool {
			id, _, _ := one.dir.Station("blue", ep(2).MAC)
			return id == three.self.ID
		})
	}
	is("it is at the third host")
	two.await("the second host knows", func() bool { id, _, _ := two.dir.Station("blue", ep(2).MAC); return id == three.self.ID })
	two.container(netID(2), ep(9))
	one.await("the second host has said more", func() bool { _, _, ok := one.dir.Station("blue", ep(9).MAC); return ok })
	is("a container that starts at the second host")
	three.close()
	three.join()
	one.await("the third host has restarted", func() bool {
		on := one.dir.On("blue")
		i := slices.IndexFunc(on, func(s cluster.Seat) bool { return s.ID == three.self.ID })
		return i >= 0 && on[i].Epoch == three.self.Epoch && on[i].State == cluster.Alive
	})
	is("a restart of the third host")
}

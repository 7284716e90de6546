package fabric

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/view"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/tunnel"
)

// offloads returns every offload, in a fixed order.
func (f *Fabric) offloads() []OffloadView {
	all := []OffloadView{{Name: "csum"}, {Name: "tso4"}, {Name: "tso6"}, {Name: "uso"}, {Name: "udp_tunnel"}, {Name: "udp_gso"}, {Name: "udp_gro"}, {Name: "remote_checksum"}}
	gso, gro, sums := &all[5], &all[6], &all[7]
	remoteSums := make(map[netip.Addr]*offload.Status) // by peer; nil: none
	if f.vtep != nil {
		for _, p := range f.vtep.Peers() {
			remoteSums[p.Host.Addr()] = p.State().RemoteSum
		}
	}
	for _, n := range f.networks {
		for _, e := range n.endpoints {
			if e.dev == nil {
				continue
			}
			for i, kind := range []ether.Kind{ether.None, ether.TCP4, ether.TCP6, ether.UDP} {
				all[i].Add(e.dev.Offload(kind))
			}
			all[4].Add(view.Combine(e.dev.Offload(ether.TunnelTCP4), e.dev.Offload(ether.TunnelTCP6), e.dev.Offload(ether.TunnelUDP)))
		}
		for _, r := range n.remotes {
			gso.Add(r.link.Stats().GSO)
			gro.Add(f.vtep.GRO())
			if s := remoteSums[r.addr.Addr()]; s != nil {
				sums.Add(*s)
			}
		}
	}
	for i := range all {
		v := &all[i]
		switch {
		case v.Users == 0:
			v.State = "unused"
		case v.Off == 0:
			v.State = "on"
		case v.State == "":
			v.State = "off"
		}
	}
	return all
}

// testTrains continues the tests with super-frames between hosts, and logs new results.
func (f *Fabric) testTrains(now time.Duration) {
	if f.vtep == nil {
		return
	}
	for _, s := range f.vtep.Tick(now) {
		log := f.log.With("peer", s.Host, "rtt", s.RTT)
		switch s.Result {
		case tunnel.Mangled:
			log.Warn("trains of datagrams do not reach the peer as they were sent: they go one by one from now on", "found", s.Why)
		case tunnel.Good:
			log.Info("trains of datagrams reach the peer")
		default:
			log.Info("trains of datagrams to the peer", "result", s.Result, "why", s.Why)
		}
	}
}

// testFresh is the age up to which a test's result is not tested again on request: with many peers the tests take a while.
const testFresh = 10 * time.Second

// TestPeers tests all remote hosts that were not tested within testFresh, and returns the results, by address. It takes some
// seconds; if ctx ends before, it returns the results so far and an error.
func (f *Fabric) TestPeers(ctx context.Context) ([]PeerTest, error) {
	if err := f.acquire(ctx); err != nil {
		return nil, err
	}
	defer f.release()
	if f.vtep == nil {
		return nil, nil
	}
	now := f.now()
	for _, p := range f.vtep.Peers() {
		s := p.State()
		known := s.Result == tunnel.Good || s.Result == tunnel.NoAnswer // anything else may have been fixed meanwhile
		if !known || s.Narrow > 0 || now-s.Tested > testFresh {
			p.Test()
		}
	}
	var err error
	for err == nil && f.testing() {
		ticked := f.ticked
		f.release()
		select {
		case <-ticked:
		case <-ctx.Done():
			err = fmt.Errorf("wait for the answers of other hosts: %w", ctx.Err())
		}
		<-f.lock
	}
	return f.peerTests(), err
}

// testing tells whether a test is under way.
func (f *Fabric) testing() bool {
	return f.vtep != nil && slices.ContainsFunc(f.vtep.Peers(), func(p *tunnel.Peer) bool { return !p.State().TestDone })
}

func (f *Fabric) peerTests() (all []PeerTest) {
	if f.vtep == nil {
		return nil
	}
	now := f.now()
	for _, p := range f.vtep.Peers() {
		s := p.State()
		t := PeerTest{Addr: s.Host, GSO: string(s.Result), Why: s.Why, RTT: s.RTT, Age: -1, Narrow: s.Narrow, Fits: s.Fits}
		if s.Tested > 0 {
			t.Age = (now - s.Tested).Truncate(time.Second)
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b PeerTest) int { return a.Addr.Compare(b.Addr) })
	return all
}

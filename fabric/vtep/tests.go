package vtep

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/fabric/view"
	"github.com/tapestry-net/tapestry/tunnel"
)

// testFresh is the age up to which a test's result is not tested again on request: with many peers the tests take a while.
const testFresh = 10 * time.Second

// Continue continues the tests with other hosts, and logs new results. now is the time since some fixed start.
func (v *VTEP) Continue(now time.Duration, log *slog.Logger) {
	if v == nil {
		return
	}
	for _, s := range v.Tick(now) {
		log := log.With("peer", s.Host, "rtt", s.RTT)
		switch s.Result {
		case tunnel.Mangled:
			log.Warn("trains of datagrams do not reach the peer as they were sent: they go one by one from now on", "found", s.Why)
		case tunnel.Good:
			log.Info("trains of datagrams reach the peer")
		default:
			log.Info("trains of datagrams to the peer", "result", s.Result, "why", s.Why)
		}
	}
	v.second.Continue(now, log)
}

// Test begins a test of all peers that were not tested within testFresh.
func (v *VTEP) Test(now time.Duration) {
	for _, p := range v.Peers() {
		s := p.State()
		known := s.Result == tunnel.Good || s.Result == tunnel.NoAnswer // anything else may have been fixed meanwhile
		if !known || s.Narrow > 0 || now-s.Tested > testFresh {
			p.Test()
		}
	}
}

// Testing tells whether a test is under way.
func (v *VTEP) Testing() bool {
	return slices.ContainsFunc(v.Peers(), func(p *tunnel.Peer) bool { return !p.State().TestDone })
}

// Tests are the results of the last tests, by address.
func (v *VTEP) Tests(now time.Duration) (all []view.PeerTest) {
	for _, p := range v.Peers() {
		s := p.State()
		t := view.PeerTest{Addr: s.Host, GSO: string(s.Result), Why: s.Why, RTT: s.RTT, Age: -1, Narrow: s.Narrow, Fits: s.Fits, Health: health(s), HealthWhy: s.HealthWhy}
		if s.Tested > 0 {
			t.Age = (now - s.Tested).Truncate(time.Second)
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b view.PeerTest) int { return a.Addr.Compare(b.Addr) })
	return all
}

// Health is what became of the last minute's probes to a host; nil: that is not known.
func (v *VTEP) Health(host netip.Addr) *view.Health {
	for _, p := range v.Peers() {
		if p.Host.Addr() == host {
			return health(p.State())
		}
	}
	return nil
}

func health(s tunnel.PeerState) *view.Health {
	h := s.Health
	if h == nil {
		return nil
	}
	return &view.Health{Sent: view.Ways(h.Sent), Lost: view.Ways(h.Lost), Reordered: view.Ways(h.Reordered), Duplicated: view.Ways(h.Duplicated),
		MinRTT: h.MinRTT, MaxRTT: h.MaxRTT}
}

package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/tunnel"
)

// OffloadView is one kernel offload, summed up over all TAPs or links that could use it.
type OffloadView struct {
	Name    string        // csum, tso4, tso6, uso, udp_tunnel (super-frames within a container's own UDP tunnel): of containers' TAPs; udp_gso: of links to other hosts; udp_gro: of what comes from there; remote_checksum: of links to hosts that complete checksums
	State   string        // "on", "off" (somewhere), "unavailable" (not supported by this kernel), "unused" (there is nothing that could use it)
	Why     string        // why it is off, where it was switched off last
	Since   time.Duration // since it was switched off there
	Users   int           // TAPs, or links to other hosts
	Off     int           // how many of them have it off
	Refused uint64        // how often the kernel refused it
	Resent  uint64        // frames or datagrams that were sent again without it after a refusal
}

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
				all[i].add(e.dev.Offload(kind))
			}
			all[4].add(combine(e.dev.Offload(ether.TunnelTCP4), e.dev.Offload(ether.TunnelTCP6), e.dev.Offload(ether.TunnelUDP)))
		}
		for _, r := range n.remotes {
			gso.add(r.link.Stats().GSO)
			gro.add(f.vtep.GRO())
			if s := remoteSums[r.addr.Addr()]; s != nil {
				sums.add(*s)
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

// combine sums up several features: disabled if one of them is.
func combine(features ...offload.Status) (all offload.Status) {
	for _, s := range features {
		s.Refused += all.Refused
		s.Resent += all.Resent
		if s.Why == nil {
			s.Why, s.Since, s.Blocked = all.Why, all.Since, all.Blocked
		}
		all = s
	}
	return all
}

func (v *OffloadView) add(s offload.Status) {
	v.Users++
	v.Refused += s.Refused
	v.Resent += s.Resent
	if s.Why == nil {
		return
	}
	if age := time.Since(s.Since); v.Off == 0 || age < v.Since {
		v.Why, v.Since = shortReason(s.Why), age
	}
	v.Off++
	if errors.Is(s.Why, offload.ErrUnsupported) {
		v.State = "unavailable"
	}
}

// shortReason is why an offload is off: the errno's name, such as EINVAL, or else the error's text.
func shortReason(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) && unix.ErrnoName(errno) != "" {
		return unix.ErrnoName(errno)
	}
	return errorText(err)
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
		t := PeerTest{Addr: s.Host, GSO: string(s.Result), Why: s.Why, RTT: s.RTT, Age: -1, Narrow: s.Narrow}
		if s.Tested > 0 {
			t.Age = (now - s.Tested).Truncate(time.Second)
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b PeerTest) int { return a.Addr.Compare(b.Addr) })
	return all
}

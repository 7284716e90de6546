package fabric

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/fabric/lookup"
	"github.com/tapestry-net/tapestry/fabric/state"
)

// Peers that are named by DNS names: package lookup finds their addresses, and each of them is a peer.

// nameWait is how long the creation of a network waits for the addresses of names that were not looked up yet.
const nameWait = 2 * time.Second

// configuredNames are the names in the peer list of a network: its own, or the daemon's.
func (f *Fabric) configuredNames(n *network) []PeerName {
	if n.peers == nil {
		return f.cfg.PeerNames
	}
	return n.names
}

// loadNames reads the addresses that names had last, so that the networks of records can be connected while DNS is away.
func (f *Fabric) loadNames(records []state.Record) {
	last, err := f.dir.LoadNames()
	if err != nil {
		f.log.Warn("the last known addresses of peers' names are lost", "err", err)
	}
	f.names = lookup.New(last, f.log)
	hosts := hostsOf(f.cfg.PeerNames)
	for _, r := range records {
		hosts = append(hosts, hostsOf(r.PeerNames)...)
	}
	f.lookUp(hosts)
}

func hostsOf(names []PeerName) (hosts []string) {
	for _, n := range names {
		hosts = append(hosts, n.Host)
	}
	return hosts
}

func (f *Fabric) lookUp(hosts []string) {
	own, _ := f.underlay()
	f.names.Want(hosts, own.Is6(), f.cfg.Second.IsValid())
}

// wantNames says which names are looked up: those of all networks, and the daemon's.
func (f *Fabric) wantNames(more ...PeerName) {
	hosts := hostsOf(append(more, f.cfg.PeerNames...))
	for _, n := range f.networks {
		hosts = append(hosts, hostsOf(n.names)...)
	}
	f.lookUp(hosts)
}

// learnPeers looks up what is not known yet of a new network's peers: the addresses of names, for nameWait at most, and the paths.
// The lock is not held.
func (f *Fabric) learnPeers(ctx context.Context, spec Network) {
	var hosts []netip.Addr
	for _, p := range spec.Peers {
		hosts = append(hosts, p.Addr())
	}
	if len(spec.PeerNames) > 0 && f.acquire(ctx) == nil {
		f.wantNames(spec.PeerNames...)
		f.release()
		wait, cancel := context.WithTimeout(ctx, nameWait)
		f.names.Await(wait, hostsOf(spec.PeerNames))
		cancel()
		for _, n := range spec.PeerNames {
			hosts = append(hosts, f.names.Answer(n.Host).Addrs...)
		}
	}
	f.learnPaths(ctx, hosts)
}

// namesChanged is called when names have other addresses than before. The lock is not held.
func (f *Fabric) namesChanged(ctx context.Context) {
	var hosts []netip.Addr
	last := f.names.Last()
	for _, addrs := range last {
		hosts = append(hosts, addrs...)
	}
	f.learnPaths(ctx, hosts)
	if f.acquire(ctx) != nil {
		return
	}
	defer f.release()
	if err := f.dir.SaveNames(last); err != nil {
		f.log.Warn("the addresses of peers' names are not on the disk: if DNS is away at the next start, these peers are missing", "err", err)
	}
	for _, n := range f.networks {
		if len(f.configuredNames(n)) > 0 {
			f.connectTold(n)
		}
	}
}

// AddPeerName adds a DNS name to the peers of a network, as AddPeer does an address.
func (f *Fabric) AddPeerName(ctx context.Context, id string, name PeerName) error {
	return f.changeList(ctx, id, func(n *network) ([]netip.AddrPort, []PeerName, error) {
		names := f.configuredNames(n)
		for _, p := range names {
			if p.Host == name.Host && p != name {
				return nil, nil, inUsef("%s is a peer with port %d already: remove it first", p.Host, f.withPort(netip.AddrPortFrom(netip.Addr{}, p.Port)).Port())
			}
		}
		if !slices.Contains(names, name) {
			names = append(slices.Clone(names), name)
		}
		return f.configuredPeers(n), names, nil
	})
}

// RemovePeerName removes a DNS name from the peers of a network, as RemovePeer does an address.
func (f *Fabric) RemovePeerName(ctx context.Context, id string, name PeerName) error {
	return f.changeList(ctx, id, func(n *network) ([]netip.AddrPort, []PeerName, error) {
		left := slices.DeleteFunc(slices.Clone(f.configuredNames(n)), func(p PeerName) bool {
			return p.Host == name.Host && (name.Port == 0 || name.Port == p.Port)
		})
		if len(left) == len(f.configuredNames(n)) {
			return nil, nil, fmt.Errorf("network %s: %w %s, its peers by name are %v", short(n.ID), ErrNoPeer, name.Host, hostsOf(left))
		}
		return f.configuredPeers(n), left, nil
	})
}

// unnamed are views of the names in a network's list that have no address.
func (f *Fabric) unnamed(n *network) (all []PeerView) {
	for _, name := range f.configuredNames(n) {
		if a := f.names.Answer(name.Host); len(a.Addrs) == 0 {
			why := "its address is being looked up"
			if a.Err != nil {
				why = a.Err.Error()
			}
			all = append(all, PeerView{Network: n.ID, VNI: n.VNI, Name: name.Host, Default: n.peers == nil, Down: why, NameDown: why, Heard: -1})
		}
	}
	return all
}

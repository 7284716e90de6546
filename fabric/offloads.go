package fabric

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/view"
	"github.com/tapestry-net/tapestry/offload"
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

// TestPeers tests all remote hosts, but those that were tested just now, and returns the results, by address. It takes some
// seconds; if ctx ends before, it returns the results so far and an error.
func (f *Fabric) TestPeers(ctx context.Context) ([]PeerTest, error) {
	if err := f.acquire(ctx); err != nil {
		return nil, err
	}
	defer f.release()
	if f.vtep == nil {
		return nil, nil
	}
	f.vtep.Test(f.now())
	var err error
	for err == nil && f.vtep != nil && f.vtep.Testing() {
		ticked := f.ticked
		f.release()
		select {
		case <-ticked:
		case <-ctx.Done():
			err = fmt.Errorf("wait for the answers of other hosts: %w", ctx.Err())
		}
		<-f.lock
	}
	if f.vtep == nil {
		return nil, err
	}
	return f.vtep.Tests(f.now()), err
}

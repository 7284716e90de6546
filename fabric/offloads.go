package fabric

import (
	"context"
	"fmt"

	"github.com/tapestry-net/tapestry/fabric/view"
)

// offloads returns every offload, in a fixed order.
func (f *Fabric) offloads() []OffloadView {
	all := view.Offloads()
	gro, sums := &all[view.PortOffloads], &all[view.PortOffloads+1]
	peers := f.vtep.ByHost()
	for _, n := range f.networks {
		for _, e := range n.endpoints {
			if e.dev != nil {
				view.AddPort(all, e.dev, nil)
			}
		}
		for _, r := range n.remotes {
			view.AddPort(all, nil, r.link)
			gro.Add(f.vtep.To(r.addr.Addr()).GRO())
			if p := peers[r.addr.Addr()]; p != nil && p.State().RemoteSum != nil {
				sums.Add(*p.State().RemoteSum)
			}
		}
	}
	view.SetStates(all)
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

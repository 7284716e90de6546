package test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	agreed "github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// hall lets the nodes of the Swarm meet by docker swarm join and leave. A node that comes is a worker.
func (c *cluster) hall(t *testing.T) conformance.Hall {
	return conformance.Hall{
		Join: func(i int) (agreed.Engine, agreed.Host) {
			h, manager, addr := c.nodes[i-1], c.nodes[0], c.address(i-1)
			if h.docker(t, "info", "-f", "{{.Swarm.LocalNodeState}}") != "active" {
				h.join(t, "--advertise-addr", addr, "--token", manager.docker(t, "swarm", "join-token", "-q", "worker"), c.address(0)+":2377")
			}
			var v clusterView
			testhost.Eventually(t, patience, func() (err error) {
				if v, err = h.tryClusterView(); err == nil && v.Kind != "swarm" {
					err = errors.New("Docker has told nothing yet")
				}
				return err
			})
			return &watcher{host: h}, agreed.Host{ID: agreed.HostID(v.Host), Name: addr, VTEP: netip.MustParseAddrPort(addr + ":8472")}
		},
		Leave: func(i int) { c.leaves(t, c.nodes[i-1]) },
	}
}

// leaves lets a node leave the Swarm, as a manager too.
func (c *cluster) leaves(t *testing.T, h *Host) {
	t.Helper()
	manager := c.nodes[0]
	manager.docker(t, "node", "demote", h.name)
	testhost.Eventually(t, patience, func() error { // until the node knows that it is a manager no more
		_, err := h.try("docker", "swarm", "leave")
		return err
	})
	manager.docker(t, "node", "rm", "--force", h.name)
}

// A watcher is what `tapestry cluster` says on a host, as the reading part of the conformance suite takes it: it asks again and again.
type watcher struct {
	agreed.Engine // nil: strong calls are not tested
	host          *Host
	stop          chan struct{}
	once          sync.Once
	work          sync.WaitGroup
}

func (w *watcher) Start(_ agreed.Host, sink func(agreed.Update)) error {
	w.stop = make(chan struct{})
	w.work.Go(func() {
		var before map[agreed.HostID]agreed.Entry
		for tick := time.NewTicker(time.Second); ; {
			if v, err := w.host.tryClusterView(); err == nil {
				u := agreed.Update{Full: before == nil}
				now := make(map[agreed.HostID]agreed.Entry)
				for _, h := range v.Hosts {
					var e agreed.Entry
					e.ID, e.Name, e.Epoch, e.VTEP = agreed.HostID(h.ID), h.Name, h.Epoch, netip.MustParseAddrPort(h.VTEP)
					if h.State == "this" {
						continue
					}
					if err := e.State.UnmarshalText([]byte(h.State)); err != nil {
						panic(err)
					}
					now[e.ID] = e
					if old, known := before[e.ID]; !known || old.Host != e.Host || old.State != e.State {
						u.Entries = append(u.Entries, e)
					}
				}
				for id := range before {
					if _, still := now[id]; !still {
						u.Removed = append(u.Removed, id)
					}
				}
				if before = now; u.Full || len(u.Entries)+len(u.Removed) > 0 {
					sink(u)
				}
			}
			select {
			case <-w.stop:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	})
	return nil
}

func (w *watcher) Status() (s agreed.Status) {
	v, err := w.host.tryClusterView()
	if s.Err = err; err == nil && !v.Reachable {
		s.Err = errors.New(v.Why)
	}
	return s
}

func (w *watcher) Close(context.Context) error {
	w.once.Do(func() { close(w.stop) })
	w.work.Wait()
	return nil
}

// hostNames are the hosts of the cluster that h shows, and what it calls them.
func (h *Host) hostNames(t *testing.T, want ...string) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		v, err := h.tryClusterView()
		seen := make(map[string]bool)
		for _, one := range v.Hosts {
			seen[one.Name] = one.State == "alive" || one.State == "this"
		}
		for _, name := range want {
			if !seen[name] || len(seen) != len(want) {
				return fmt.Errorf("%s: hosts %+v, %v, want %v", h.name, v.Hosts, err, want)
			}
		}
		return err
	})
}

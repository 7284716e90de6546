package swarm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
)

// The VNIs of Swarm networks that asked for none: the upper half, so that the lower one is free for users.
const (
	FirstAutoVNI = 1 << 23
	autoVNIs     = ether.MaxVNI + 1 - FirstAutoVNI
)

// replayTime is how long Docker may take to name all networks after a manager became the leader.
const replayTime = time.Minute

// allocated are the networks that Docker is known to have. It repeats all networks before it asks for a new one: those that it
// has not named by now are removed.
func (s *Swarm) allocated() map[string]state.Allocation {
	all := make(map[string]state.Allocation)
	for id, a := range s.Allocated {
		if a.Confirmed {
			all[id] = a
		}
	}
	return all
}

// Choose returns the VNI of a network: the one that it asks for, the one that it has, or one that is free, where taken are those
// that networks of this host have. If another network of the Swarm has it, holder is that one's id, else "".
func (s *Swarm) Choose(id string, asked uint32, taken map[uint32]bool) (vni uint32, holder string) {
	all := s.allocated()
	if vni = asked; vni == 0 {
		vni = all[id].VNI
	}
	if vni == 0 {
		vni = freeVNI(id, all, taken)
	}
	for other, a := range all {
		if other != id && a.VNI == vni {
			return vni, other
		}
	}
	return vni, ""
}

// Allocate gives a network the VNI that Choose has found. After an error, which may be ctx's, the network has none.
func (s *Swarm) Allocate(ctx context.Context, id string, vni uint32) error {
	with := s.Swarm
	with.Allocated = s.allocated()
	with.Allocated[id] = state.Allocation{VNI: vni, Confirmed: true}
	err := s.dir.SaveSwarm(with)
	if err == nil {
		err = ctx.Err() // nobody waits for the answer any more: undo it
	}
	if err != nil {
		s.Unsaved = true // the old content is written again
		return err
	}
	s.Swarm, s.Unsaved = with, false
	s.log.Info("network of the Swarm allocated", "network", id, "vni", vni)
	return nil
}

// Replay is called for a network that was allocated before. A manager that becomes the leader is told of all networks. That
// begins with one that was named before, or after replayTime without any. now is the fabric's clock.
func (s *Swarm) Replay(id string, vni uint32, now time.Duration) {
	known, ok := s.Allocated[id]
	all := maps.Clone(s.Allocated)
	if all == nil {
		all = make(map[string]state.Allocation)
	}
	begins := ok && known.Confirmed && s.replayed[id] || s.replayedAt == 0 || now-s.replayedAt > replayTime
	if begins {
		s.replayed = make(map[string]bool)
		for other, a := range all {
			a.Confirmed = false
			all[other] = a
		}
	}
	s.replayed[id], s.replayedAt = true, now
	for other, a := range all {
		if other != id && a.VNI == vni {
			if a.Confirmed {
				s.log.Warn("two networks of the Swarm have one VNI", "vni", vni, "network", id, "other", other)
			}
			delete(all, other)
		}
	}
	all[id] = state.Allocation{VNI: vni, Confirmed: true}
	if !maps.Equal(all, s.Allocated) {
		s.Allocated = all
		s.Save()
	}
}

// Free forgets a network that was removed from the Swarm. It may not be known.
func (s *Swarm) Free(id string) {
	if _, ok := s.Allocated[id]; ok {
		delete(s.Allocated, id)
		s.Save()
	}
}

// freeVNI is a VNI that no network known here has. It follows from the network's id, so that managers that know the same
// networks choose the same one.
func freeVNI(id string, allocated map[string]state.Allocation, taken map[uint32]bool) uint32 {
	taken = maps.Clone(taken)
	if taken == nil {
		taken = make(map[uint32]bool)
	}
	for _, a := range allocated {
		taken[a.VNI] = true
	}
	h := sha256.Sum256([]byte(id))
	for try := binary.BigEndian.Uint32(h[:]); ; try++ {
		if vni := FirstAutoVNI + try%autoVNIs; !taken[vni] {
			return vni
		}
	}
}

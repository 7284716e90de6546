// Package swarm remembers what Docker has told of its Swarm: which nodes there are, and which VNIs its managers have given out.
// Docker tells each of it once, so it is on the disk (swarm.json), and in memory also while the disk cannot be written.
//
// allocate.go is what a manager does; the fabric decides what follows for networks and peers.
package swarm

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/fabric/state"
)

// A node that Docker says has left may still be running: Docker also says so when a dockerd restarts or when its own gossip is
// interrupted. So it stays known, and only gets fewer floods, until it is heard, Docker says that it is back, or ForgetAfter has passed.
const (
	SparseAfter = 30 * time.Second // without a datagram from a node that is said to have left
	ForgetAfter = 24 * time.Hour
)

// Swarm is what Docker has told. It has no lock: the fabric's guards it.
type Swarm struct {
	state.Swarm
	Unsaved bool // the last write failed

	dir  state.Dir
	log  *slog.Logger
	tell func(left map[netip.Addr]bool)

	replayed   map[string]bool // networks that Docker has named since this host last became the Swarm's leader
	replayedAt time.Duration   // when Docker last named one, in the fabric's clock; 0: never
}

// Load reads what is on the disk. Docker says most of it again, so a damaged file is put aside; an error means that this failed. tell is
// called now and whenever the nodes change: with all of them, and whether they have left, as Docker says. It must not call back.
func Load(dir state.Dir, log *slog.Logger, tell func(left map[netip.Addr]bool)) (*Swarm, error) {
	s := &Swarm{dir: dir, log: log, tell: tell}
	var err error
	if s.Swarm, err = dir.LoadSwarm(); err != nil {
		log.Warn("what Docker told of its Swarm is lost: the file is put aside; tapestry peers learn asks for the nodes", "err", err)
		if err := dir.SetSwarmAside(); err != nil {
			return nil, err
		}
	}
	for i, d := range s.Nodes {
		if !d.Left.IsZero() {
			s.Nodes[i].Left = time.Now() // the silence counts from now: it may have sent while we were down
		}
	}
	s.tellNodes()
	return s, nil
}

// Save writes what is known. If that fails, it is logged once, and Unsaved asks for another try.
func (s *Swarm) Save() {
	err := s.dir.SaveSwarm(s.Swarm)
	if err != nil && !s.Unsaved {
		s.log.Warn("what Docker tells of its Swarm is not on the disk, and would be lost with this process; tried again", "err", err)
	}
	s.Unsaved = err != nil
}

func (s *Swarm) tellNodes() {
	left := make(map[netip.Addr]bool)
	for _, d := range s.Nodes {
		left[d.Addr] = !d.Left.IsZero()
	}
	s.tell(left)
}

// nodesChanged writes and tells what has become of the nodes.
func (s *Swarm) nodesChanged() {
	s.Save()
	s.tellNodes()
}

// SetSelf remembers this host's address as Docker names it.
func (s *Swarm) SetSelf(addr netip.Addr) {
	if s.Self != addr {
		s.Self = addr
		s.Save()
	}
}

// Joined remembers a node that Docker tells of. It is false if that is nothing new.
func (s *Swarm) Joined(addr netip.Addr) bool {
	switch d := s.Node(addr); {
	case d == nil:
		s.Nodes = append(s.Nodes, state.Node{Addr: addr})
	case !d.Left.IsZero():
		d.Left = time.Time{}
	default:
		return false
	}
	s.nodesChanged()
	return true
}

// LeftNow remembers that a node has left, as Docker says. It is false if that is nothing new.
func (s *Swarm) LeftNow(addr netip.Addr) bool {
	d := s.Node(addr)
	if d == nil || !d.Left.IsZero() {
		return false
	}
	d.Left = time.Now()
	s.nodesChanged()
	return true
}

// Node is what is known of a node; nil: nothing. It is valid until the next call of another method.
func (s *Swarm) Node(addr netip.Addr) *state.Node {
	i := slices.IndexFunc(s.Nodes, func(n state.Node) bool { return n.Addr == addr })
	if i < 0 {
		return nil
	}
	return &s.Nodes[i]
}

// Others are the other hosts of the Swarm, by address.
func (s *Swarm) Others() (all []netip.Addr) {
	for _, d := range s.Nodes {
		all = append(all, d.Addr)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// AnyLeft tells whether a node has left, as Docker says.
func (s *Swarm) AnyLeft() bool {
	return slices.ContainsFunc(s.Nodes, func(d state.Node) bool { return !d.Left.IsZero() })
}

// Silent returns the nodes that have left, as Docker says, and were not heard for SparseAfter, and forgets those of ForgetAfter.
// heard tells whether a node was heard lately.
func (s *Swarm) Silent(heard func(netip.Addr) bool) (sparse map[netip.Addr]bool, forgot bool) {
	now := time.Now()
	sparse = make(map[netip.Addr]bool)
	for i := range s.Nodes {
		d := &s.Nodes[i]
		if d.Left.IsZero() {
			continue
		}
		if heard(d.Addr) {
			d.Left = now // the time of silence begins again
		}
		if now.Sub(d.Left) >= SparseAfter {
			sparse[d.Addr] = true
		}
	}
	s.Nodes = slices.DeleteFunc(s.Nodes, func(d state.Node) bool {
		gone := !d.Left.IsZero() && now.Sub(d.Left) >= ForgetAfter
		if gone {
			s.log.Info("node of the Swarm is forgotten: it left and was not heard for a day", "peer", d.Addr)
			forgot = true
		}
		return gone
	})
	if forgot {
		s.nodesChanged()
	}
	return sparse, forgot
}

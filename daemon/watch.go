package daemon

import (
	"context"
	"time"

	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric/view"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// The data path tells nobody anything: it counts. A watcher looks at the counts each second, and tells what has happened.
const (
	watchEvery = time.Second
	quietFor   = 10 * time.Second // after a network's moves were told, or a port's offload
	guardQuiet = time.Minute      // after a guard's drops at a port were told
	toldMoves  = 4                // of a network at a time
)

// watcher is what Watch has seen and told. Times are by its own clock.
type watcher struct {
	live  *Live
	bus   *events.Bus
	moves map[string]seen // by network
	ports map[uint32]*seenPort
}

type seen struct {
	count uint64
	told  time.Time
}

type seenPort struct {
	guards   map[vswitch.Verdict]seen
	offloads [view.PortOffloads]seen
}

// Watch tells bus of addresses that move, guards that drop frames and offloads that the kernel refuses, until ctx ends.
func (l *Live) Watch(ctx context.Context, bus *events.Bus) error {
	w := &watcher{live: l, bus: bus, moves: make(map[string]seen), ports: make(map[uint32]*seenPort)}
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			w.look(now)
		}
	}
}

func (w *watcher) look(now time.Time) {
	networks, ports := w.live.sorted()
	moves := make(map[string]seen)
	for _, n := range networks {
		last, count := w.moves[n.ID], n.sw.Moves()
		if count != last.count && now.Sub(last.told) >= quietFor {
			w.tellMoves(n, count-last.count)
			last = seen{count, now}
		}
		moves[n.ID] = last
	}
	w.moves = moves // without networks that are gone
	before := w.ports
	w.ports = make(map[uint32]*seenPort, len(ports))
	for i := range ports {
		p := &ports[i]
		s := before[p.Number]
		if s == nil {
			s = &seenPort{guards: make(map[vswitch.Verdict]seen)}
		}
		w.ports[p.Number] = s
		w.lookAtGuards(p, s, now)
		for i, o := range p.offloads() {
			if last := s.offloads[i]; o.Refused != last.count && now.Sub(last.told) >= quietFor {
				s.offloads[i] = seen{o.Refused, now}
				w.bus.Debug(events.OffloadShut, "the kernel refuses an offload", "network", p.Network, "port", p.Name, "offload", o.Name, "why", o.Why, "refused", o.Refused-last.count)
			}
		}
	}
}

// tellMoves tells of some of the moves of a network's addresses: the first ones since they were told last.
func (w *watcher) tellMoves(n liveNetwork, count uint64) {
	for i, m := range n.sw.TakeMoves() {
		if m.Held {
			w.bus.Warn(events.MACHeld, "an address moves between ports again and again, and is held at one: a loop, or two stations have it",
				"network", n.ID, "port", m.To.Name, "mac", m.MAC, "from", m.From.Name)
		}
		if m.Held || i >= toldMoves {
			continue
		}
		more := uint64(0)
		if i == 0 {
			more = count - 1
		}
		w.bus.Debug(events.MACMoved, "an address has moved", "network", n.ID, "port", m.To.Name, "mac", m.MAC, "from", m.From.Name, "more", more)
	}
}

// lookAtGuards tells of the first frames of a port that a guard has dropped in a while.
func (w *watcher) lookAtGuards(p *countedPort, s *seenPort, now time.Time) {
	for v, count := range p.at.Stats().Rx {
		v := vswitch.Verdict(v)
		kind, text := events.GuardTripped, "a guard has dropped frames"
		if v == vswitch.Storm {
			kind, text = events.Storm, "a container floods more than it may"
		} else if !v.Guard() {
			continue
		}
		if last := s.guards[v]; count != last.count && now.Sub(last.told) >= guardQuiet {
			s.guards[v] = seen{count, now}
			args := []any{"network", p.Network, "port", p.Name, "reason", v.String(), "frames", count - last.count, "means", v.Meaning()}
			for _, trip := range p.at.Trips() {
				if trip.Verdict == v && trip.Of != nil {
					args = append(args, "owner", trip.Of.Name)
				}
			}
			w.bus.Warn(kind, text, args...)
		}
	}
}

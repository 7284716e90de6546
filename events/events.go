// Package events tells what has happened on this host: ports and peers that come and go, addresses that move or are claimed twice, guards,
// offloads, captures.
//
// Who sees something happen says so once, to a Bus. The Bus writes it to the log, keeps the latest events in memory, and hands each on
// to who follows. Nobody who says something waits for anybody: a follower that is too slow misses events, and is told how many.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A Kind is what has happened.
type Kind uint8

// The kinds. See texts for what each means.
const (
	PortUp Kind = iota
	PortDown
	PeerUp
	PeerDown
	PeerSuspect
	TunnelUp
	TunnelDown
	MACMoved
	AddressConflict
	GuardTripped
	OffloadShut
	CaptureBegun
	CaptureEnded
	MACHeld
	Storm
	kinds
)

// texts are the kinds' names and meanings. docs/events.md repeats them, which a test compares.
var texts = [kinds]struct{ name, meaning string }{
	PortUp:          {"port_up", "frames reach a container, or this host's own port: its link is up"},
	PortDown:        {"port_down", "frames do not reach it any more: its link is down, or it is gone"},
	PeerUp:          {"peer_up", "there is a route to another host again, or a host of the cluster is there again"},
	PeerDown:        {"peer_down", "there is no route to another host any more, or a host of the cluster is gone, and nothing is sent to it"},
	PeerSuspect:     {"peer_suspect", "a host of the cluster does not answer the others: it is asked, and gets frames until it is gone"},
	TunnelUp:        {"tunnel_up", "the tunnel to other hosts was opened"},
	TunnelDown:      {"tunnel_down", "the tunnel was closed: no network needs it, or this host has lost its address"},
	MACMoved:        {"mac_moved", "an address was seen at another port than before: a container that has moved; many: a loop, or two stations with one address"},
	AddressConflict: {"address_conflict", "frames with a container's address come by another port, and are dropped"},
	GuardTripped:    {"guard_tripped", "a guard has dropped frames of a container, the first in a while"},
	OffloadShut:     {"offload_shut", "the kernel has refused an offload, which is not used for a while"},
	CaptureBegun:    {"capture_begun", "somebody captures frames"},
	CaptureEnded:    {"capture_ended", "a capture has ended"},
	MACHeld:         {"mac_held", "an address has moved too often, and is held at one port for a while: a loop, or two stations with one address"},
	Storm:           {"storm", "a container floods more than it may, and the rest of that is dropped, the first in a while"},
}

// String is the kind's name.
func (k Kind) String() string { return texts[k].name }

// Meaning says what has happened.
func (k Kind) Meaning() string { return texts[k].meaning }

// Kinds are all kinds, in the order of docs/events.md.
func Kinds() (all []Kind) {
	for k := range kinds {
		all = append(all, k)
	}
	return all
}

// An Event is something that has happened. It is not changed any more.
type Event struct {
	Number  uint64 // from 1, without gaps
	Time    time.Time
	Kind    Kind
	Text    string            // as in the log
	Network string            // id; "": it is about none
	Port    string            // endpoint id, or a peer's address; "": it is about none
	Fields  map[string]string // what else the log has, by its keys
}

const (
	kept    = 2048 // events in memory: some hundred KB
	pending = 256  // that a follower may be behind
)

// A Bus takes events. Its methods may be called by several goroutines.
type Bus struct {
	log *slog.Logger

	mu        sync.Mutex
	last      uint64      // number of the latest event
	ring      [kept]Event // by number
	counts    [kinds]uint64
	followers []*Follower
}

// New makes a Bus that writes to a log.
func New(log *slog.Logger) *Bus { return &Bus{log: log} }

// Log is the log, for what is no event.
func (b *Bus) Log() *slog.Logger { return b.log }

// Debug tells of something that happens all day long. The text and args are as those of a slog.Logger, in pairs of key and value: network, and
// endpoint, port or peer, say what it is about.
func (b *Bus) Debug(k Kind, text string, args ...any) { b.tell(slog.LevelDebug, k, text, args) }

// Info tells of something that people may want to read, as Debug does.
func (b *Bus) Info(k Kind, text string, args ...any) { b.tell(slog.LevelInfo, k, text, args) }

// Warn tells of something that people should look at, as Debug does.
func (b *Bus) Warn(k Kind, text string, args ...any) { b.tell(slog.LevelWarn, k, text, args) }

func (b *Bus) tell(level slog.Level, k Kind, text string, args []any) {
	b.log.Log(context.Background(), level, text, args...)
	e := Event{Time: time.Now(), Kind: k, Text: text, Fields: make(map[string]string)}
	for i := 0; i+1 < len(args); i += 2 {
		key, value := fmt.Sprint(args[i]), fmt.Sprint(args[i+1])
		switch {
		case key == "network":
			e.Network = value
		case e.Port == "" && (key == "endpoint" || key == "port" || key == "peer"):
			e.Port = value
		case args[i+1] != nil && value != "":
			e.Fields[key] = value
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	e.Number = b.last
	b.ring[e.Number%kept] = e
	b.counts[k]++
	for _, f := range b.followers {
		f.take(e)
	}
}

// Counts are how many events there were, by kind.
func (b *Bus) Counts() map[string]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]uint64)
	for k, n := range b.counts {
		if n > 0 {
			all[Kind(k).String()] = n
		}
	}
	return all
}

// Since are the events that are still known and not older than a time, oldest first.
func (b *Bus) Since(from time.Time) []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.since(from)
}

func (b *Bus) since(from time.Time) (all []Event) {
	for n := b.last; n > 0 && n+kept > b.last && !b.ring[n%kept].Time.Before(from); n-- {
		all = append(all, b.ring[n%kept])
	}
	slices.Reverse(all)
	return all
}

// A Follower gets each event once.
type Follower struct {
	bus    *Bus
	events chan Event
	lost   uint64 // guarded by bus.mu
}

// Follow begins to follow, and returns what Since does: no event is missing in between. The caller calls Close.
func (b *Bus) Follow(from time.Time) ([]Event, *Follower) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := &Follower{bus: b, events: make(chan Event, pending)}
	b.followers = append(b.followers, f)
	return b.since(from), f
}

// take gets an event if there is room. bus.mu is held.
func (f *Follower) take(e Event) {
	select {
	case f.events <- e:
	default:
		f.lost++
	}
}

// Next are the events as they come.
func (f *Follower) Next() <-chan Event { return f.events }

// Lost is how many events the follower has missed since it was called last.
func (f *Follower) Lost() uint64 {
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	n := f.lost
	f.lost = 0
	return n
}

// Close ends following.
func (f *Follower) Close() {
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	f.bus.followers = slices.DeleteFunc(f.bus.followers, func(x *Follower) bool { return x == f })
}

// Package cluster is what hosts agree on: which hosts there are, which networks they share, and whose addresses are whose.
//
// An Engine carries it between hosts; package conformance tests one. A Directory keeps what an engine has said last, so that
// frames are forwarded and names answered for as long as the engine is away.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// A HostID names a host: 16 hex digits, random, made once for each state directory. Addresses and names may change.
type HostID string

// A Host is one member of the cluster.
type Host struct {
	ID    HostID         `json:"id"`
	Name  string         `json:"name"`  // the host's own, for people: two may have the same
	Epoch uint64         `json:"epoch"` // how often its daemon has started
	VTEP  netip.AddrPort `json:"vtep"`  // where it receives VXLAN
}

// String is a host as errors name it.
func (h Host) String() string { return fmt.Sprintf("%s (%s)", h.Name, h.VTEP.Addr()) }

// A Spec is a network as all its hosts must have it.
type Spec struct {
	Key     string         `json:"key"`               // its name among hosts, see CheckKey
	VNI     uint32         `json:"vni,omitempty"`     // 0: to be chosen
	Subnets []netip.Prefix `json:"subnets,omitempty"` // in ascending order
	MTU     int            `json:"mtu,omitempty"`     // of the containers' links; 0: each host's own choice
}

// A Member is a network that a host has, with the addresses that only this host gives out.
type Member struct {
	Spec
	Blocks []netip.Prefix `json:"blocks,omitempty"`
}

// A Station is a container whose place does not follow from its host's blocks: its address is another one, its MAC does not
// follow from its IPv4 address, or it has moved.
type Station struct {
	Key   string       `json:"key"`
	MAC   ether.MAC    `json:"mac"`
	Addrs []netip.Addr `json:"addrs,omitempty"`
	Seq   uint64       `json:"seq,omitempty"` // of two hosts that have the station, the higher one has it now
}

// A Name is a container's name on a network.
type Name struct {
	Key   string       `json:"key"`
	Name  string       `json:"name"`
	Addrs []netip.Addr `json:"addrs"`
}

// A Record is all that a host says. Only that host writes it.
type Record struct {
	Host
	Seq      uint64    `json:"seq"` // counts the records of one epoch
	Members  []Member  `json:"members,omitempty"`
	Stations []Station `json:"stations,omitempty"`
	Names    []Name    `json:"names,omitempty"`
}

// Newer tells whether r was written after q, by the same host. No clock is compared.
func (r *Record) Newer(q *Record) bool {
	if r.Epoch != q.Epoch {
		return r.Epoch > q.Epoch
	}
	return r.Seq > q.Seq
}

// A State is what an engine knows of a host's health.
type State uint8

// The states. A host that is Gone keeps its addresses: only Engine.Forget, or a day, ends that.
const (
	Alive State = iota
	Suspect
	Gone
)

var stateNames = [...]string{"alive", "suspect", "gone"}

func (s State) String() string { return stateNames[s] }

// MarshalText writes it as String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *State) UnmarshalText(b []byte) error {
	i := slices.Index(stateNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("%q is no state of a host", b)
	}
	*s = State(i)
	return nil
}

// An Entry is a host's record with its state.
type Entry struct {
	Record
	State State `json:"state"`
}

// An Update tells what has changed.
type Update struct {
	Full    bool    // Entries is everything: a host that is not in it does not exist any more
	Entries []Entry // new ones, and those that have changed
	Removed []HostID
}

// Consistency is what an engine's strong calls promise.
type Consistency uint8

// Kinds of consistency.
const (
	None     Consistency = iota // what is configured on each host
	Eventual                    // hosts that cannot talk may both be told yes; when they can again, the later one is told no
	Strong                      // one answer for the whole cluster
)

func (c Consistency) String() string { return [...]string{"none", "eventual", "strong"}[c] }

// Info is what an engine can do.
type Info struct {
	Name        string
	Consistency Consistency
	Membership  bool          // it tells when a host is gone
	Allocates   bool          // Claim chooses blocks
	Detects     time.Duration // the longest time until a dead host is Gone; 0 without Membership
}

// Status is how an engine is doing.
type Status struct {
	Since time.Time // since when it is as it is now
	Err   error     // why it cannot be reached; nil: it can be
}

// StrongLimit is the time after which a strong call gives up.
const StrongLimit = 2 * time.Second

// An Engine connects this host to the others. Its methods may be called by several goroutines. Strong calls ask the cluster and
// may fail; they take no longer than StrongLimit, and may be repeated.
type Engine interface {
	Info() Info

	// Start connects. It does not wait for other hosts: it goes on trying until Close. sink is called by one goroutine at a time,
	// first with a full update, then with changes; after any gap with a full one again. It is never called for this host's own
	// record. An error is of the configuration.
	Start(self Host, sink func(Update)) error

	// Network agrees on a network. It returns the spec that is valid in the cluster: with a VNI. It is a *Conflict if another
	// host has the key with other values, or the VNI with another key. (Strong.)
	Network(ctx context.Context, s Spec) (Spec, error)

	// Claim makes a block of a network's addresses this host's own: the one that is wanted, or with an invalid prefix any of the
	// subnet of that family whose address bits are given. Claiming one's own block again is no error. It is a *Conflict if another
	// host has a part of it, and ErrExhausted if nothing is free. (Strong.)
	Claim(ctx context.Context, key string, want Want) (netip.Prefix, error)

	// Free gives a block back. One that is not this host's is no error. (Strong.)
	Free(ctx context.Context, key string, block netip.Prefix) error

	// Publish replaces all that this host says. The engine fills in Host and Seq. It never waits: what cannot be sent now is sent
	// later, and only the last one. Before Start it says what the host begins with: the others must not see a host that was
	// restarted without its networks for a moment.
	Publish(members []Member, stations []Station, names []Name)

	// Forget removes a host that is Gone, with all that it owns. (Strong.)
	Forget(ctx context.Context, id HostID) error

	Status() Status

	// Close leaves the cluster: the others do not wait for this host. What it owns stays its own.
	Close(ctx context.Context) error
}

// A Want says which block is wanted.
type Want struct {
	Block  netip.Prefix // this one; invalid: any of Bits bits in Subnet
	Subnet netip.Prefix
	Bits   int
}

// Errors of strong calls, beside *Conflict.
var (
	ErrUnavailable = errors.New("the cluster cannot be asked")
	ErrExhausted   = errors.New("no block of addresses is free")
	ErrNotGone     = errors.New("the host is still there")
	ErrNoHost      = errors.New("no such host")
	ErrNoChoice    = errors.New("this kind of cluster chooses no blocks") // see Info.Allocates
)

// A Conflict is a strong call that another host's word forbids.
type Conflict struct {
	What string // what both want: "network blue", "VNI 80", "10.50.0.0/26"
	Host Host   // who has it
	Have string // its values, in words: "subnet 10.50.0.0/16, VNI 80"; "": nothing to say
}

func (c *Conflict) Error() string {
	if c.Have == "" {
		return fmt.Sprintf("%s belongs to host %s", c.What, c.Host)
	}
	return fmt.Sprintf("%s has %s at host %s", c.What, c.Have, c.Host)
}

// Package neighbour is what containers and hosts are told of each other's addresses: announcements, answers, stations of a cluster.
package neighbour

import (
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Announcements are frames that tell the whole network which MAC has the endpoint's addresses. So other hosts' switches learn the
// port, and neighbours replace stale entries. Docker before 28 does not send them itself.
func Announcements(e state.Endpoint) (frames []ether.Frame) {
	for _, a := range Addrs(e) {
		room := append(make([]byte, ether.Headroom), ether.Announcement(e.MAC, a)...)
		frames = append(frames, ether.Lend(room, ether.Offload{}))
	}
	return frames
}

// Answers are the vswitch.Answers of a network: the stations that other hosts vouch for, but for addresses that this host has too.
// Its fields are never changed.
type Answers struct {
	Vouched *cluster.VouchedTable
	Ports   map[cluster.HostID]*vswitch.Port
	Own     map[netip.Addr]bool
}

// Station is that of vswitch.Answers.
func (a *Answers) Station(addr netip.Addr) (ether.MAC, *vswitch.Port) {
	v, ok := a.Vouched.Of(addr)
	if !ok || a.Own[addr] {
		return ether.MAC{}, nil
	}
	return v.MAC, a.Ports[v.Host]
}

// Station is an endpoint as a station of a network of the cluster. It is odd if its place does not follow from the host's blocks: its
// MAC is not made of its IPv4 address, that address is in no block, or another host has had it before.
func Station(key string, e state.EndpointRecord, blocks []netip.Prefix) (s cluster.Station, odd bool) {
	odd = true
	s = cluster.Station{Key: key, MAC: e.MAC, Addrs: Addrs(e.Endpoint), Seq: e.Seq}
	for _, a := range s.Addrs {
		if e.Seq == 0 && a.Is4() && e.MAC == ether.DockerMAC(a) {
			odd = !slices.ContainsFunc(blocks, func(b netip.Prefix) bool { return b.Contains(a) })
		}
	}
	return s, odd
}

// Addrs are an endpoint's IP addresses.
func Addrs(e state.Endpoint) (all []netip.Addr) {
	for _, p := range e.Addrs {
		all = append(all, p.Addr())
	}
	return all
}

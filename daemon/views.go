package daemon

import (
	"cmp"
	"net/netip"
	"strconv"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/fabric"
)

func toOffload(o fabric.OffloadView) api.Offload {
	r := api.Offload{Name: o.Name, State: o.State, Why: o.Why, Users: o.Users, Off: o.Off, Refused: o.Refused, Resent: o.Resent}
	if o.Off > 0 {
		seconds := int64(o.Since / time.Second)
		r.OffSeconds = &seconds
	}
	return r
}

func toConflict(c fabric.Conflict) api.Conflict {
	return api.Conflict{Network: c.Network, MAC: c.MAC, Addresses: addresses(c.Addrs), Owner: c.Owner,
		Rival: c.Rival, Frames: c.Count}
}

func toTrip(t fabric.Trip) api.Trip {
	return api.Trip{Network: t.Network, Port: t.Port, Guard: t.Guard, Owner: t.Owner, Frames: t.Count}
}

func toNetwork(n fabric.NetworkView) api.Network {
	r := api.Network{ID: n.ID, VNI: n.VNI, MTU: n.LinkMTU, Attach: string(n.Attach),
		AgeingSeconds: n.Ageing.Seconds(), External: n.External, Swarm: n.Swarm, Key: n.Key, Endpoints: n.Endpoints, AddressesKnown: n.Stations,
		Down: n.Down, Rx: n.Rx, Forwarded: n.Forwarded, Flooded: n.Flooded, Answered: n.Answered, TooBig: n.TooBig, MSSLowered: n.Lowered, Drops: counts(n.Drops), Host: []string{}}
	r.Snooping, r.Settings = n.Snooping, toSettings(n.Settings)
	r.Reserved, r.Tagged, r.DSCP, r.TTL = n.Wire.Words()
	if n.Network.HostPort != nil {
		r.Host = addresses(n.Network.HostPort.Addrs)
	}
	return r
}

func toPort(p fabric.PortView) api.Port {
	r := api.Port{Network: p.Network, VNI: p.VNI, Kind: p.Kind, Name: p.Name, Link: p.Link,
		Addresses: addresses(p.Addrs), MTU: p.MTU, State: state(p.Down), Why: p.Down,
		RxFrames: p.RxFrames, RxBytes: p.RxBytes, TxFrames: p.TxFrames, TxBytes: p.TxBytes,
		VLAN: p.Settings.VLAN, Settings: toSettings(p.Settings), Offered: p.Offered, Refused: p.Refused, Drops: counts(p.Drops), Missed: p.Missed, WireTx: p.WireTx, WireRx: p.WireRx}
	if !p.MAC.IsZero() {
		r.MAC = p.MAC.String()
	}
	return r
}

func toSettings(s fabric.Settings) api.Settings {
	r := api.Settings{Guard: s.Guard, Allow: append([]string{}, s.Allow...), Rate: s.Rate, Storm: s.Storm, Isolated: s.Isolated, AllowTo: addresses(s.AllowTo), MSS: strconv.Itoa(s.MSS)}
	switch {
	case s.MSS == 0:
		r.MSS = "off"
	case s.MSS < 0:
		r.MSS = "auto"
	}
	return r
}

func toEntry(e fabric.EntryView) api.Entry {
	r := api.Entry{Network: e.Network, VNI: e.VNI, MAC: e.MAC, Port: e.Port, Kind: "learned",
		AgeSeconds: int64(e.Age / time.Second)}
	switch {
	case e.Pinned:
		r.Kind, r.AgeSeconds = "pinned", 0
	case e.Group:
		r.Kind = "group"
	}
	return r
}

func toPeer(p fabric.PeerView) api.Peer {
	r := api.Peer{Network: p.Network, VNI: p.VNI, Default: p.Default, Group: p.Group, Learned: p.Learned, Name: p.Name, NameDown: p.NameDown, Swarm: p.Node, Left: p.Left, State: state(p.Down),
		Host: p.Host, HostState: p.HostState, Why: p.Down, MTU: p.MTU, GSO: p.GSO, GSOWhy: p.GSOWhy, RemoteSum: p.RemoteSum, Test: p.Test.GSO, TestWhy: p.Test.Why, RxFrames: p.RxFrames, RxBytes: p.RxBytes, TxFrames: p.TxFrames,
		TxBytes: p.TxBytes, WireTx: p.WireTx, WireRx: p.WireRx, Fragmented: p.Fragmented, Lost: counts(p.Lost)}
	if p.Addr.IsValid() {
		r.Addr = p.Addr.String()
	}
	if p.Heard >= 0 {
		seconds := int64(p.Heard / time.Second)
		r.HeardSeconds = &seconds
	}
	if p.Test.GSO == "" { // there is no link to it
		r.Test = "untested"
	} else if p.Test.Age >= 0 {
		seconds := int64(p.Test.Age / time.Second)
		r.TestSeconds = &seconds
	}
	r.RTTSeconds = seconds(p.Test.RTT)
	r.PathMTU, r.Health, r.HealthWhy = p.PathMTU, toHealth(p.Test.Health), p.Test.HealthWhy
	if p.Test.Fits > 0 {
		r.PathMTUWhy = "longer datagrams do not arrive, and nobody says so"
	}
	if r.Health == nil {
		r.HealthWhy = cmp.Or(r.HealthWhy, "there is no link to it")
	}
	return r
}

func toHealth(h *fabric.Health) *api.Health {
	if h == nil {
		return nil
	}
	return &api.Health{Probes: h.Sent.There, Echoes: h.Sent.Back, Lost: h.Lost.There, LostBack: h.Lost.Back,
		Reordered: h.Reordered.There, ReorderedBack: h.Reordered.Back, Duplicated: h.Duplicated.There, DuplicatedBack: h.Duplicated.Back,
		RTTMinSeconds: seconds(h.MinRTT), RTTMaxSeconds: seconds(h.MaxRTT)}
}

// seconds is nil for a time that is not known.
func seconds(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	s := d.Seconds()
	return &s
}

func toTest(t fabric.PeerTest) api.PeerTest {
	r := api.PeerTest{Addr: t.Addr.String(), GSO: t.GSO, Why: t.Why, AgeSeconds: -1, Answers: t.RTT > 0, Narrow: t.Narrow, Fits: t.Fits}
	if t.Age >= 0 {
		r.AgeSeconds = int64(t.Age / time.Second)
	}
	return r
}

func state(down string) string {
	if down == "" {
		return "up"
	}
	return "down"
}

func addresses(prefixes []netip.Prefix) []string {
	return api.Map(prefixes, netip.Prefix.String)
}

// counts is never null in JSON.
func counts(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}

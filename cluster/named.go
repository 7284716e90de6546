package cluster

import (
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/ether"
)

// A Named is a name that another host has told.
type Named struct {
	Name
	Host  Host
	State State
	MAC   ether.MAC // of the container, as Place has it; zero: none has told
}

// Names are those of the containers that other hosts have on a network, host by host, in the order in which they were told, also
// of hosts that are gone.
func (d *Directory) Names(key string) (all []Named) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	x := d.keys[key]
	if x == nil {
		return nil
	}
	for _, id := range x.ids {
		e := d.hosts[id]
		macs := make(map[netip.Addr]ether.MAC)
		for _, s := range e.Stations {
			for _, a := range s.Addrs {
				if s.Key == key {
					macs[a] = s.MAC
				}
			}
		}
		for _, n := range e.Names {
			if n.Key != key {
				continue
			}
			named := Named{Name: n, Host: e.Host, State: e.State}
			for _, a := range n.Addrs {
				if mac, ok := macs[a]; ok {
					named.MAC = mac
				} else if named.MAC.IsZero() {
					named.MAC = macOf(a)
				}
			}
			all = append(all, named)
		}
	}
	return all
}

// Place tells which other host has an address, as Where does, what state that host is in, and which MAC has the address: the one that the host
// says of that station, or the one that Docker makes of an IPv4 address. The MAC is zero if neither is known.
func (d *Directory) Place(key string, a netip.Addr) (h Host, state State, mac ether.MAC, ok bool) {
	if h, ok = d.Where(key, a); !ok {
		return h, state, mac, false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.hosts[h.ID]
	if e == nil { // it has just been removed
		return h, Gone, macOf(a), true
	}
	for _, s := range e.Stations {
		if s.Key == key && slices.Contains(s.Addrs, a) {
			return h, e.State, s.MAC, true
		}
	}
	return h, e.State, macOf(a), true
}

// HostOf tells which other host a MAC address is at: of a station, or by the IPv4 address that Docker has made it of; "": none has told.
func (d *Directory) HostOf(key string, mac ether.MAC) HostID {
	id, _, ok := d.Station(key, mac)
	if a, derived := mac.DockerIPv4(); !ok && derived {
		h, _ := d.Where(key, netip.AddrFrom4(a))
		return h.ID
	}
	return id
}

// macOf is the MAC that Docker makes of an IPv4 address; zero of IPv6.
func macOf(a netip.Addr) (mac ether.MAC) {
	if a.Is4() {
		return ether.DockerMAC(a)
	}
	return mac
}

package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
)

// CheckAddr returns why an address can never be that of a VTEP, on any host: nil if it can. An IPv4-mapped IPv6 address
// (RFC 4291 section 2.5.5.2) has to be unmapped before.
func CheckAddr(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("no address")
	case a.IsUnspecified(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is no host's address", a)
	case a.IsMulticast():
		return fmt.Errorf("%s is a multicast group; tapestry sends to each peer by itself: name the hosts, or give it as tapestry.group in place of a list", a)
	case a.Zone() != "", a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("%s holds on one link only; want an address that every host can reach", a)
	}
	return nil
}

// CheckPeer returns why a peer can never be reached from a VTEP, whatever the routes are: nil if it can. A zero vtep is
// not known yet, and taken for no loopback address.
func CheckPeer(vtep, peer netip.Addr) error {
	if err := CheckAddr(peer); err != nil {
		return fmt.Errorf("peer %w", err)
	}
	own := ""
	if vtep.IsValid() {
		own = fmt.Sprintf(", as this one has %s", vtep)
	}
	if err := SameFamily(vtep, peer); vtep.IsValid() && err != nil {
		return err
	}
	switch {
	case peer.IsLoopback() && !vtep.IsLoopback():
		return fmt.Errorf("peer %s is a loopback address, which every host has for itself: name the address that the other host has as its VTEP%s", peer, own)
	case vtep.IsLoopback() && !peer.IsLoopback():
		return fmt.Errorf("peer %s cannot be reached from this host's VTEP %s, a loopback address: start tapestry with another --vtep", peer, vtep)
	}
	return nil
}

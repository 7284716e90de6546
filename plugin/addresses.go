package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/tunnel"
)

// ParseVTEP parses this host's VTEP address: see ParsePeer for what it cannot be.
func ParseVTEP(s string) (netip.Addr, error) {
	const want = "want one host's IP address, such as 192.0.2.1 or 2001:db8::1"
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, errors.New(want)
	}
	if a, err = hostAddr(a); err != nil {
		return a, fmt.Errorf("%s: %w", want, err)
	}
	return a, nil
}

// ParseVTEPs parses this host's VTEP address, or the main one and a second one of the other IP version, with a comma between them.
func ParseVTEPs(s string) (all fabric.Addrs, err error) {
	main, second, two := strings.Cut(s, ",")
	if all.Main, err = ParseVTEP(main); err != nil || !two {
		return all, err
	}
	if all.Second, err = ParseVTEP(second); err != nil {
		return all, fmt.Errorf("after the comma: %w", err)
	}
	if all.Main.Is4() == all.Second.Is4() {
		return all, fmt.Errorf("%s and %s are of one IP version: want one address of each at most", all.Main, all.Second)
	}
	return all, nil
}

// ReadVTEPs parses as ParseVTEPs does, for a flag: it sets the second address, and returns the main one.
func ReadVTEPs(second *netip.Addr) func(string) (netip.Addr, error) {
	return func(s string) (netip.Addr, error) {
		all, err := ParseVTEPs(s)
		if err == nil {
			*second = all.Second
		}
		return all.Main, err
	}
}

// hostAddr converts an IPv4-mapped IPv6 address to IPv4. The error says why no VTEP can have the address.
func hostAddr(a netip.Addr) (netip.Addr, error) {
	if a.Zone() == "" { // Unmap would remove a zone
		a = a.Unmap()
	}
	return a, tunnel.CheckAddr(a)
}

package tap

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Routes are the destinations of the IPv4 routes in the main table of the network namespace at path; none if that does
// not exist yet.
func Routes(path string) (dst []netip.Prefix, err error) {
	if path == "" {
		return nil, nil
	}
	err = inNamespace(path, func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
		if err != nil {
			return fmt.Errorf("list routes of %s: %w", path, explain(err, ""))
		}
		for _, r := range routes {
			if r.Dst == nil {
				continue // the default route, in older versions of netlink
			}
			if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
				bits, _ := r.Dst.Mask.Size()
				dst = append(dst, netip.PrefixFrom(a.Unmap(), bits))
			}
		}
		return nil
	})
	if errors.Is(err, ErrGone) {
		err = nil
	}
	return dst, err
}

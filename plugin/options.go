package plugin

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fabric/lookup"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Keys of `docker network create --opt`. README and docs/options.md explain them.
const (
	optVNI       = "tapestry.vni"
	optPeers     = "tapestry.peers"
	optGroup     = "tapestry.group"
	optNetwork   = "tapestry.network" // also of --ipam-opt
	optAttach    = "tapestry.attach"
	optAgeing    = "tapestry.ageing"
	optExternal  = "tapestry.external"
	optSnooping  = "tapestry.snooping"
	optHostPort  = "tapestry.host"
	optAllocated = "tapestry.allocated" // set by AllocateNetwork, for itself
	optMTU       = "com.docker.network.driver.mtu"
	optVNIList   = "com.docker.network.driver.overlay.vxlanid_list"
	optPrefix    = "com.docker.network.container_iface_prefix"
	optEncrypted = "encrypted" // of Docker's overlay

	ownSpace = "tapestry."
	generic  = "com.docker.network.generic" // where the daemon puts what --opt gave
)

const (
	maxName   = 15          // bytes of a link's name, IFNAMSIZ less the final zero
	maxPrefix = maxName - 4 // leaves room for the number that Docker appends
)

// networkOptions are all options of a network. Those of other drivers are in foreignOptions.
func networkOptions() []option[fabric.Network] {
	return slices.Concat([]option[fabric.Network]{
		{optVNI, setVNI},
		{optVNIList, setVNIList},
		{optPeers, setPeers},
		{optGroup, setGroup},
		{optNetwork, setKey},
		{optReserved, setReserved},
		{optTagged, setTagged},
		{optDSCP, setDSCP},
		{optTTL, setTTL},
		{optAttach, setAttach},
		{optAgeing, setAgeing},
		{optExternal, setExternal},
		{optSnooping, setSnooping},
		{optHostPort, setHostPort},
		{optMTU, setMTU},
		{optPrefix, setPrefix},
		{optEncrypted, setEncrypted},
	}, within(func(n *fabric.Network) *fabric.Guards { return &n.Guards }, guardOptions),
		within(func(n *fabric.Network) *fabric.Limits { return &n.Limits }, limitOptions))
}

// parseNetwork parses a CreateNetwork request: its id, its options with their defaults, and its pools. An error names the key,
// its value and what would be right.
func parseNetwork(req *network.CreateNetworkRequest) (fabric.Network, error) {
	n := fabric.Network{
		ID:       req.NetworkID,
		Swarm:    fabric.IsSwarmID(req.NetworkID),
		Attach:   tap.Veth,
		Ageing:   fabric.DefaultAgeing,
		External: true,
	}
	if err := checkID("NetworkID", n.ID); err != nil {
		return fabric.Network{}, err
	}
	given, err := genericOptions(req.Options)
	if err != nil {
		return fabric.Network{}, err
	}
	delete(given, optAllocated) // not an option for users
	if err := cmp.Or(refuseUnknown(given), refuseForeign(req.Options, given)); err != nil {
		return fabric.Network{}, err
	}
	if err := apply(&n, networkOptions(), given); err != nil {
		return fabric.Network{}, err
	}
	switch {
	case n.Key != "" && n.Peers != nil:
		return fabric.Network{}, fmt.Errorf("%s and %s: the cluster says which hosts have the network; leave %s away, and add hosts that are in no cluster by tapestry peers add", optNetwork, optPeers, optPeers)
	case n.Key != "" && n.Swarm:
		return fabric.Network{}, fmt.Errorf("%s: the network is shared by Docker's Swarm already: leave the option away", optNetwork)
	}
	if n.Group.IsValid() {
		switch {
		case n.Peers != nil:
			return fabric.Network{}, fmt.Errorf("%s and %s: a network has a group or a list; who joins the group needs no list", optGroup, optPeers)
		case n.Key != "":
			return fabric.Network{}, fmt.Errorf("%s and %s: the cluster says which hosts have the network; leave one of the two away", optGroup, optNetwork)
		case n.VNI == 0:
			return fabric.Network{}, fmt.Errorf("%s without %s: a network without a VNI stays on this host; add -o %s=NUMBER, the same on every host", optGroup, optVNI, optVNI)
		}
	}
	if n.Peers != nil && n.VNI == 0 {
		return fabric.Network{}, fmt.Errorf("%s without %s: a network without a VNI stays on this host; add -o %s=NUMBER, the same on every host",
			optPeers, optVNI, optVNI)
	}
	if err := checkWire(&n); err != nil {
		return fabric.Network{}, err
	}
	if n.Pools, err = parsePools(req.IPv4Data, req.IPv6Data); err != nil {
		return fabric.Network{}, err
	}
	if n.HostPort != nil {
		if err := completeHostPort(n.HostPort, poolsForHostPort(req.IPv4Data, req.IPv6Data)); err != nil {
			return fabric.Network{}, err
		}
	}
	return n, nil
}

// genericOptions is the map with the --opt options; Docker omits it if there are none.
func genericOptions(all map[string]any) (map[string]any, error) {
	switch m := all[generic].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return m, nil
	default:
		return nil, fmt.Errorf("%s: want an object of strings, got %s", generic, kind(m))
	}
}

// refuseUnknown refuses keys that begin with "tapestry." and are no option. Case does not matter: Tapestry.VNI must not
// silently create a host-local network.
func refuseUnknown(given map[string]any) error {
	known := ownKeys()
	for _, k := range sortedOwn(given) {
		if slices.Contains(known, k) {
			continue
		}
		hint := ""
		if near := nearest(strings.ToLower(k), known); near != "" {
			hint = fmt.Sprintf("; did you mean %s?", near)
		}
		return fmt.Errorf("%s: no such option%s Known are %s; the MTU is %s",
			show(k), cmp.Or(hint, "."), strings.Join(known, ", "), optMTU)
	}
	return nil
}

// ownKeys are the keys of tapestry's own options, in alphabetical order.
func ownKeys() []string {
	var keys []string
	for _, o := range networkOptions() {
		if strings.HasPrefix(o.key, ownSpace) {
			keys = append(keys, o.key)
		}
	}
	slices.Sort(keys)
	return keys
}

// sortedOwn are the given keys that begin with "tapestry.", in alphabetical order.
func sortedOwn(given map[string]any) []string {
	var keys []string
	for k := range given {
		if strings.HasPrefix(strings.ToLower(k), ownSpace) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// stringOption is the string at key. Docker sends every option as a string.
func stringOption(given map[string]any, key string) (value string, ok bool, err error) {
	v, ok := given[key]
	if !ok {
		return "", false, nil
	}
	s, ok := v.(string)
	if !ok {
		return "", false, fmt.Errorf("%s: want a string, got %s", key, kind(v))
	}
	return s, true, nil
}

func setVNI(n *fabric.Network, value string) error {
	v, err := strconv.ParseUint(value, 10, 32)
	if err != nil || v == 0 || v > ether.MaxVNI {
		return fmt.Errorf("want a number from 1 to %d", ether.MaxVNI)
	}
	n.VNI = uint32(v)
	return nil
}

// setVNIList parses the overlay driver's key for the VNI. Overlay has one VNI for each subnet, tapestry one for each network.
func setVNIList(n *fabric.Network, value string) error {
	if strings.Contains(value, ",") {
		return errors.New("want exactly one number: a tapestry network is one layer 2 with one VNI, however many subnets it has")
	}
	before := n.VNI
	if err := setVNI(n, value); err != nil {
		return err
	}
	if before != 0 && before != n.VNI {
		return fmt.Errorf("%s says %d; give only one of the two, or both the same", optVNI, before)
	}
	return nil
}

func setPeers(n *fabric.Network, value string) error {
	if value == "" {
		return fmt.Errorf("want addresses or DNS names of other hosts, as in 192.0.2.2,192.0.2.3; leave %s away to use the daemon's --peer list", optPeers)
	}
	for s := range strings.SplitSeq(value, ",") {
		p, name, err := ParsePeer(strings.TrimSpace(s))
		if err != nil {
			return err
		}
		if name.Host != "" {
			if slices.ContainsFunc(n.PeerNames, func(other fabric.PeerName) bool { return other.Host == name.Host }) {
				return fmt.Errorf("%s is there twice; name each host once", name.Host)
			}
			n.PeerNames = append(n.PeerNames, name)
			continue
		}
		// A peer is identified by its address alone: the source port of its datagrams is that of a flow.
		if slices.ContainsFunc(n.Peers, func(q netip.AddrPort) bool { return q.Addr() == p.Addr() }) {
			return fmt.Errorf("%s is there twice; name each host once", p.Addr())
		}
		n.Peers = append(n.Peers, p)
	}
	if n.Peers == nil { // the network has a list of its own
		n.Peers = []netip.AddrPort{}
	}
	return nil
}

func setGroup(n *fabric.Network, value string) (err error) {
	if n.Group, err = netip.ParseAddr(value); err != nil {
		return errors.New("want a multicast group, such as 239.1.1.1 or ff05::100, the same on every host")
	}
	n.Group = n.Group.Unmap()
	return tunnel.CheckGroup(netip.Addr{}, n.Group)
}

func setKey(n *fabric.Network, value string) error {
	n.Key = value
	return cluster.CheckKey(value)
}

// ParsePeer parses a peer: an IP address or a DNS name, or one with a UDP port as in 192.0.2.2:4789, [2001:db8::2]:4789 and
// host-b.example.org:4789. Without a port the result has port 0. Of the two results one is not zero: names are looked up later,
// again and again (package fabric/lookup). An address that cannot be a VTEP's (multicast, unspecified, link-local IPv6) is an
// error, and so is what looks like an address and is none.
func ParsePeer(s string) (addr netip.AddrPort, name fabric.PeerName, err error) {
	if a, err := netip.ParseAddr(s); err == nil {
		addr = netip.AddrPortFrom(a, 0)
	} else if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		addr = ap
	} else if name, err = parsePeerName(s); err != nil {
		return addr, fabric.PeerName{}, fmt.Errorf("%s is no peer, want an IP address or a DNS name, or one with a port from 1 to 65535 as in 192.0.2.2:4789, [2001:db8::2]:4789 or host-b:4789 (%w)",
			quote(s), err)
	} else {
		return addr, name, nil
	}
	a, err := hostAddr(addr.Addr())
	return netip.AddrPortFrom(a, addr.Port()), name, err
}

func parsePeerName(s string) (name fabric.PeerName, err error) {
	host, port, has := strings.Cut(s, ":")
	if has {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return name, errors.New("it has no such port")
		}
		name.Port = uint16(n)
	}
	name.Host = strings.ToLower(host)
	return name, lookup.CheckName(name.Host)
}

func setAttach(n *fabric.Network, value string) (err error) {
	if n.Attach, err = tap.ParseMode(value); err != nil {
		return fmt.Errorf("want %s or %s", tap.Veth, tap.Direct)
	}
	return nil
}

func setAgeing(n *fabric.Network, value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < time.Second {
		return errors.New("want a duration of 1s or more, as in 300s or 5m")
	}
	n.Ageing = d
	return nil
}

func setMTU(n *fabric.Network, value string) error {
	v, err := strconv.ParseUint(value, 10, 32)
	if err != nil || v < ether.MinMTU || v > ether.MaxMTU {
		return fmt.Errorf("want a number from %d to %d; leave the option away to follow the underlay", ether.MinMTU, ether.MaxMTU)
	}
	n.MTU = int(v)
	return nil
}

func setPrefix(n *fabric.Network, value string) error {
	if !linkName(value, maxPrefix) {
		return fmt.Errorf("want 1 to %d letters, digits, '.', '_' or '-', as in eth", maxPrefix)
	}
	n.Prefix = value
	return nil
}

const notEncrypted = "tapestry's VXLAN is not encrypted; leave the option away and, where the underlay is not trusted, join the hosts by IPsec or WireGuard"

// setEncrypted refuses overlay's key for encryption, since there is none. As in overlay, an empty value and every value that is
// not false ask for it.
func setEncrypted(_ *fabric.Network, value string) error {
	if on, err := strconv.ParseBool(value); err == nil && !on {
		return nil
	}
	return errors.New(notEncrypted)
}

// parsePools parses the subnets of a network, IPv4 first. It skips what means "no pool": an absent one, the "<nil>" that Go
// prints for a nil network, and the null IPAM driver's 0.0.0.0/0.
func parsePools(lists ...[]*network.IPAMData) ([]netip.Prefix, error) {
	var pools []netip.Prefix
	for _, list := range lists {
		for _, d := range list {
			if d == nil || absent(d.Pool) {
				continue
			}
			p, err := netip.ParsePrefix(d.Pool)
			if err != nil {
				return nil, fmt.Errorf("pool %s: want a subnet, as in 10.77.0.0/24", show(d.Pool))
			}
			if p.Bits() > 0 {
				pools = append(pools, p.Masked())
			}
		}
	}
	return pools, nil
}

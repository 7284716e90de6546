package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/tunnel"
)

// examineDaemon looks at what a running daemon says of itself.
func (d *doctor) examineDaemon(ctx context.Context, status statusReply, names *docker, tell func(finding)) error {
	networks, err := d.networks(ctx)
	if err != nil {
		return err
	}
	ports, err := of[portReply](ctx, d.client, "ports", "")
	if err != nil {
		return err
	}
	peers, err := of[peerReply](ctx, d.client, "peers", "")
	if err != nil {
		return err
	}
	nameAll(ctx, names, ports, func(p *portReply) { p.NetworkName, p.Container = names.label(p.Network), names.portLabel(p.Name) },
		func(p portReply) string { return p.Network })
	for i := range networks {
		networks[i].Name = names.label(networks[i].ID)
	}
	for i := range peers {
		peers[i].NetworkName = names.label(peers[i].Network)
	}
	each := func(all []finding) {
		for _, f := range all {
			tell(f)
		}
	}
	each(checkNetworks(networks, status.Conflicts, names))
	each(checkPorts(ports))
	link, err := d.carrier(d.vtep) // without a name if there is none: checkUnderlay said so
	each(checkMTU(networks, ports, peers, link))
	each(checkPeers(peers, status))
	if err == nil {
		filter := max(d.sysctl("net/ipv4/conf/all/rp_filter"), d.sysctl("net/ipv4/conf/"+link.Name+"/rp_filter")) // the greater one counts
		tell(checkReversePath(filter == "1", link.Name, d.vtep, peers, d.source))
	}
	tests, err := d.testPeers(ctx)
	if err != nil {
		return err
	}
	each(checkTests(tests.Tests, tests.Why, link.Name))
	if status, err = d.status(ctx); err != nil { // anew: the tests may have switched something
		return err
	}
	tell(checkOffloads(status.Offloads))
	return nil
}

func checkNetworks(networks []networkReply, conflicts []conflictReply, names *docker) (all []finding) {
	for _, n := range networks {
		if n.Down != "" {
			all = append(all, finding{"networks", bad, n.Name + " has no tunnel: " + n.Down, "tapestry networks shows when it has: it is tried every 5 s"})
		}
	}
	for _, c := range conflicts {
		all = append(all, finding{"networks", warn, fmt.Sprintf("%s: address %s of %s is claimed by %s too", names.label(c.Network), c.MAC, names.portLabel(c.Owner), names.portLabel(c.Rival)),
			"give each host an --ip-range of its own: docker network rm and create on one of them"})
	}
	if all == nil {
		all = []finding{{Check: "networks", State: good, Seen: many(len(networks), "network") + ", no address claimed twice"}}
	}
	return all
}

func checkPorts(ports []portReply) (all []finding) {
	containers := 0
	for _, p := range ports {
		if p.Kind != "container" {
			continue
		}
		containers++
		if p.Why != "" {
			all = append(all, finding{"ports", bad, fmt.Sprintf("%s on %s is cut off: %s", p.Container, p.NetworkName, p.Why),
				fmt.Sprintf("docker network disconnect %s %s, and connect", p.NetworkName, p.Container)})
		}
	}
	if all == nil {
		all = []finding{{Check: "ports", State: good, Seen: many(containers, "container") + ", none cut off"}}
	}
	return all
}

// checkMTU holds what containers may send against what the ways to other hosts take, in bytes of IP packet.
func checkMTU(networks []networkReply, ports []portReply, peers []peerReply, link net.Interface) (all []finding) {
	for _, p := range peers {
		longest := 0
		for _, n := range networks {
			if n.ID == p.Network {
				longest = n.MTU // of the next container
			}
		}
		for _, c := range ports {
			if c.Network == p.Network && c.Kind == "container" {
				longest = max(longest, c.MTU)
			}
		}
		if p.MTU == 0 || longest <= p.MTU {
			continue
		}
		remedy := "widen the way"
		to, _ := netip.ParseAddrPort(p.Addr)
		if outer := longest + tunnel.Overhead(to.Addr().Is6()); link.Name != "" && link.MTU < outer {
			remedy = fmt.Sprintf("ip link set %s mtu %d", link.Name, outer)
		}
		all = append(all, finding{"mtu", bad,
			fmt.Sprintf("%s: containers send packets of up to %d bytes, the way to %s takes %d: longer ones are lost", p.NetworkName, longest, p.Addr, p.MTU),
			fmt.Sprintf("%s, or make the network anew with -o com.docker.network.driver.mtu=%d", remedy, p.MTU)})
	}
	if all == nil {
		all = []finding{{Check: "mtu", State: good, Seen: fmt.Sprintf("what containers send fits %s", many(len(peers), "way"))}}
	}
	return all
}

func checkPeers(peers []peerReply, s statusReply) (all []finding) {
	var silent []string
	for _, p := range peers {
		switch {
		case p.Why != "":
			all = append(all, finding{"peers", bad, fmt.Sprintf("%s: no way to %s: %s", p.NetworkName, p.Addr, p.Why), "tapestry peers shows when there is: it is tried every 5 s"})
		case p.HeardSeconds == nil:
			silent = append(silent, p.Addr+" on "+p.NetworkName)
		}
	}
	if silent != nil {
		all = append(all, finding{"peers", warn, "never heard: " + strings.Join(silent, ", "),
			fmt.Sprintf("on those hosts: tapestry peers add NET %s; and let UDP %d pass the firewalls of both", s.VTEP, s.VXLANPort)})
	}
	if all == nil {
		all = []finding{{Check: "peers", State: good, Seen: many(len(peers), "peer") + ", all heard"}}
	}
	return all
}

// checkReversePath is of rp_filter: a strict one drops what comes by another link than the way back takes.
func checkReversePath(strict bool, link string, vtep netip.Addr, peers []peerReply, source func(netip.AddrPort) netip.Addr) finding {
	var others []string
	for _, p := range peers {
		to, err := netip.ParseAddrPort(p.Addr)
		if err != nil {
			continue
		}
		if from := source(to); from.IsValid() && from != vtep && !slices.Contains(others, p.Addr) {
			others = append(others, p.Addr)
		}
	}
	f := finding{Check: "rp_filter", State: good, Seen: "lets in what peers send"}
	if strict && vtep.Is4() && others != nil {
		f.State, f.Remedy = warn, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2 net.ipv4.conf.all.rp_filter=2; or --vtep with the address on that way", link)
		f.Seen = fmt.Sprintf("strict on %s, and the way to %s leaves by another link: what they send to %s may be dropped", link, strings.Join(others, ", "), vtep)
	}
	return f
}

// checkTests is of the segments that the daemon sent to its peers.
func checkTests(tests []testReply, why, link string) (all []finding) {
	var sound, mute, untested []string
	if why != "" {
		all = append(all, finding{"selftest", warn, "not finished: " + why, "tapestry doctor, again"})
	}
	for _, t := range tests {
		switch t.GSO {
		case "ok":
			sound = append(sound, t.Addr)
		case "no answer": // checkPeers tells whether it is heard
			mute = append(mute, t.Addr)
		case "mangled":
			all = append(all, finding{"selftest", warn, fmt.Sprintf("segments arrive mangled at %s, so they go one by one, slower: %s", t.Addr, t.Why),
				fmt.Sprintf("ethtool -K %s tx-udp-segmentation off; if that does not help, take another kernel on either host", link)})
		case "refused":
			all = append(all, finding{"selftest", warn, fmt.Sprintf("this kernel refuses segments to %s, so they go one by one, slower: %s", t.Addr, t.Why),
				fmt.Sprintf("ethtool -K %s tx-checksum-ip-generic on; or take another kernel", link)})
		default:
			untested = append(untested, t.Addr)
		}
	}
	if untested != nil {
		all = append(all, finding{"selftest", warn, "too many segments were lost to tell: " + strings.Join(untested, ", "),
			"ping these hosts, and tapestry doctor again"})
	}
	if all == nil {
		seen := fmt.Sprintf("segments arrive whole at %s", many(len(sound), "peer"))
		if mute != nil {
			seen += "; no tapestry answers at " + strings.Join(mute, ", ")
		}
		all = []finding{{Check: "selftest", State: good, Seen: seen}}
	}
	return all
}

// checkOffloads is of what the kernel does, or refused to do, for the daemon's ports and peers.
func checkOffloads(all []offloadReply) finding {
	off := slices.ContainsFunc(all, func(o offloadReply) bool { return o.State == "off" })
	switch text := offloadsText(all); {
	case off:
		return finding{"offloads", warn, text + ": done in software there, slower", "tapestry peers shows which peers; what was refused is tried again every 10 s, a newer kernel may take it"}
	case text == "":
		return finding{Check: "offloads", State: good, Seen: "nothing uses any yet"}
	default:
		return finding{Check: "offloads", State: good, Seen: text}
	}
}

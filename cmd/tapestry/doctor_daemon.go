package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// examineDaemon looks at what a running daemon says of itself. What it does not say is a finding.
func (d *doctor) examineDaemon(ctx context.Context, status statusReply, names *docker, tell func(finding)) {
	each := func(all []finding) {
		for _, f := range all {
			if ctx.Err() == nil { // else they are what it was interrupted in
				tell(f)
			}
		}
	}
	mute := func(err error) {
		each([]finding{{"daemon", bad, "does not answer any more: " + err.Error(), d.by.restart()}})
	}
	networks, err := d.networks(ctx)
	if err != nil {
		mute(err)
		return
	}
	ports, err := of[portReply](ctx, d.client, "ports", "")
	if err != nil {
		mute(err)
		return
	}
	nameAll(ctx, names, ports, func(p *portReply) { p.NetworkName, p.Container = names.label(p.Network), names.portLabel(p.Name) },
		func(p portReply) string { return p.Network })
	for i := range networks {
		networks[i].Name = names.label(networks[i].ID)
	}
	known := make(map[string]bool)
	for _, n := range networks {
		known[n.ID] = true
	}
	lost := d.checkLost(names.networks, known, func(id string) (bool, error) { return names.used(ctx, id) })
	each(checkNetworks(networks, status.Conflicts, names, lost))
	each(checkPorts(ports, d.by))

	began := time.Now()
	tests, untested := d.testPeers(ctx) // first: peers are heard by it, and show what is narrow
	tests.judge(time.Since(began))
	peers, err := of[peerReply](ctx, d.client, "peers", "")
	if err != nil {
		mute(err)
		return
	}
	for i := range peers {
		peers[i].NetworkName = names.label(peers[i].Network)
	}
	link, err := d.carrier(d.vtep) // without a name if there is none: checkUnderlay said so
	each(checkMTU(networks, ports, peers, tests.Tests, d.way))
	each(checkPeers(peers, tests.Tests, status))
	d.examineNodes(ctx, names, func(f finding) { each([]finding{f}) })
	if err == nil {
		filter := max(d.sysctl("net/ipv4/conf/all/rp_filter"), d.sysctl("net/ipv4/conf/"+link.Name+"/rp_filter")) // the greater one counts
		each([]finding{checkReversePath(filter == "1", link, d.vtep, peers, d.way, d.by)})
	}
	if untested != nil {
		each([]finding{{"selftest", warn, "not tested: " + untested.Error(), d.by.restart()}})
	} else {
		each(checkTests(tests.Tests, tests.Why, func(addr string) string {
			to, _ := netip.ParseAddrPort(addr) // the daemon wrote it
			return d.way(to).Name
		}))
	}
	if status, err = d.status(ctx); err != nil { // anew: the tests may have switched something
		mute(err)
		return
	}
	each([]finding{checkOffloads(status.Offloads), checkReceived(status, link.Name)})
}

// way is the link by which datagrams to a host leave; without a name if there is no way.
func (d *doctor) way(to netip.AddrPort) net.Interface {
	p, err := d.path(d.vtep, to.Addr())
	if err != nil {
		return net.Interface{}
	}
	link, err := d.link(p.Link)
	if err != nil { // it has just gone
		return net.Interface{}
	}
	return *link
}

// judge takes back the verdicts that are older than a call that took so long: a test that shows nothing leaves the last one.
func (r *testsReply) judge(took time.Duration) {
	const fresh = 10 * time.Second // what is younger is not tested again
	for i := range r.Tests {
		t := &r.Tests[i]
		if age := time.Duration(t.AgeSeconds) * time.Second; t.GSO == "ok" && (age < 0 || age > took+fresh) {
			t.GSO = "untested"
		}
	}
}

func checkNetworks(networks []networkReply, conflicts []conflictReply, names *docker, lost []finding) (all []finding) {
	all = lost
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

func checkPorts(ports []portReply, by supervisor) (all []finding) {
	containers := 0
	for _, p := range ports {
		if p.Kind == "host" && p.Why != "" {
			all = append(all, finding{"ports", bad, fmt.Sprintf("this host is cut off from %s: %s", p.NetworkName, p.Why),
				"what it says: the port is tried again every 5 s"})
		}
		if p.Kind != "container" {
			continue
		}
		containers++
		switch p.Why {
		case "":
		case tap.ErrGone.Error():
			all = append(all, finding{"ports", warn, fmt.Sprintf("%s on %s: %s, as after a reboot", p.Container, p.NetworkName, p.Why),
				"nothing: it is swept after --sweep-after (60 s) and some seconds, unless its container comes back"})
		case tap.ErrHostEnd.Error(): // the daemon sets it up when it starts
			all = append(all, finding{"ports", bad, fmt.Sprintf("%s on %s is cut off: %s", p.Container, p.NetworkName, p.Why), by.restart()})
		case tap.ErrDown.Error():
			all = append(all, finding{"ports", warn, fmt.Sprintf("%s on %s gets nothing: %s", p.Container, p.NetworkName, p.Why),
				fmt.Sprintf("docker exec --privileged %s ip link set eth0 up (the link that has %s)", p.Container, p.MAC)})
		default:
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
func checkMTU(networks []networkReply, ports []portReply, peers []peerReply, tests []testReply, way func(netip.AddrPort) net.Interface) (all []finding) {
	for _, p := range peers {
		longest := 0
		for _, n := range networks {
			if n.ID == p.Network {
				longest = n.MTU // of the next container
			}
		}
		for _, c := range ports {
			if c.Network == p.Network && c.Kind != "remote" {
				longest = max(longest, c.MTU)
			}
		}
		to, _ := netip.ParseAddrPort(p.Addr) // the daemon wrote it
		overhead := tunnel.Overhead(to.Addr().Is6())
		narrow := 0
		for _, t := range tests {
			if t.Addr == p.Addr {
				narrow = t.Narrow
			}
		}
		if narrow > 0 && min(longest, p.MTU)+overhead >= narrow {
			all = append(all, finding{"mtu", bad,
				fmt.Sprintf("%s: datagrams of %d bytes do not reach %s, shorter ones do: something on the way drops them and does not say so", p.NetworkName, narrow, p.Addr),
				fmt.Sprintf("find the longest SIZE that passes: ping -M do -s SIZE %s; then make the network anew with SIZE - 22 for -o com.docker.network.driver.mtu", to.Addr())})
			continue
		}
		if p.MTU == 0 || longest <= p.MTU {
			continue
		}
		remedy, link := "widen the way", way(to)
		if outer := longest + overhead; link.Name != "" && link.MTU < outer {
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

func checkPeers(peers []peerReply, tests []testReply, s statusReply) (all []finding) {
	var silent, quiet []string
	for _, p := range peers {
		switch {
		case p.Why != "":
			all = append(all, finding{"peers", bad, fmt.Sprintf("%s: no way to %s: %s", p.NetworkName, p.Addr, p.Why), remedyOf(p)})
		case p.HeardSeconds == nil && slices.ContainsFunc(tests, func(t testReply) bool { return t.Addr == p.Addr && t.Answers }):
			quiet = append(quiet, p.Addr+" on "+p.NetworkName)
		case p.HeardSeconds == nil:
			silent = append(silent, p.Addr+" on "+p.NetworkName)
		}
	}
	if silent != nil {
		all = append(all, finding{"peers", warn, "never heard: " + strings.Join(silent, ", "),
			fmt.Sprintf("on those hosts: tapestry peers add NET %s; and let UDP %d pass the firewalls of both", s.VTEP, s.VXLANPort)})
	}
	if all == nil {
		f := finding{Check: "peers", State: good, Seen: many(len(peers), "peer") + ", all heard"}
		if quiet != nil {
			f.Seen = fmt.Sprintf("%s; silent so far, but the host answers: %s", many(len(peers), "peer"), strings.Join(quiet, ", "))
		}
		all = []finding{f}
	}
	return all
}

// remedyOf is of a peer that there is no way to.
func remedyOf(p peerReply) string {
	to, _ := netip.ParseAddrPort(p.Addr) // the daemon wrote it
	return fmt.Sprintf("ip -brief link; ip route get %s; `tapestry peers` shows when there is one", to.Addr())
}

// checkReversePath is of rp_filter: a strict one drops what comes by another link than the way back takes. An address on
// the loopback link is reached by any.
func checkReversePath(strict bool, link net.Interface, vtep netip.Addr, peers []peerReply, way func(netip.AddrPort) net.Interface, by supervisor) finding {
	var others []string
	for _, p := range peers {
		to, err := netip.ParseAddrPort(p.Addr)
		if err != nil {
			continue
		}
		by := way(to)
		if by.Name != "" && by.Index != link.Index && (by.Flags|link.Flags)&net.FlagLoopback == 0 && !slices.Contains(others, p.Addr) {
			others = append(others, p.Addr)
		}
	}
	f := finding{Check: "rp_filter", State: good, Seen: "lets in what peers send"}
	if strict && vtep.Is4() && others != nil {
		f.State, f.Remedy = warn, fmt.Sprintf("sysctl -w net/ipv4/conf/%s/rp_filter=2; or %s, with the address on that way", link.Name, by.flags("--vtep ADDR")) // the greater of this and all's counts
		f.Seen = fmt.Sprintf("strict on %s, and the way to %s leaves by another link: what they send to %s may be dropped", link.Name, strings.Join(others, ", "), vtep)
	}
	return f
}

// checkTests is of the segments that the daemon sent to its peers; way gives the link of the way to one, "" if none.
func checkTests(tests []testReply, why string, way func(addr string) string) (all []finding) {
	var sound, mute, narrow, untested []string
	if why != "" {
		all = append(all, finding{"selftest", warn, "not finished: " + why, "tapestry doctor, again"})
	}
	for _, t := range tests {
		remedy := "take another kernel on either host"
		link := way(t.Addr)
		switch {
		case t.GSO == "no answer": // checkPeers tells whether it is heard
			mute = append(mute, t.Addr)
		case t.Narrow > 0: // checkMTU tells
			narrow = append(narrow, t.Addr)
		case t.GSO == "ok":
			sound = append(sound, t.Addr)
		case t.GSO == "mangled":
			if link != "" {
				remedy = fmt.Sprintf("ethtool -K %s tx-udp-segmentation off; if that does not help, %s", link, remedy)
			}
			all = append(all, finding{"selftest", warn, fmt.Sprintf("segments arrive mangled at %s, so they go one by one, slower: %s", t.Addr, t.Why), remedy})
		case t.GSO == "refused":
			remedy = "take another kernel"
			if link != "" {
				remedy = fmt.Sprintf("ethtool -K %s tx on; if that does not help, %s", link, remedy)
			}
			all = append(all, finding{"selftest", warn, fmt.Sprintf("this kernel refuses segments to %s, so they go one by one, slower: %s", t.Addr, t.Why), remedy})
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
		if narrow != nil {
			seen += "; not tested where long ones are lost: " + strings.Join(narrow, ", ")
		}
		all = []finding{{Check: "selftest", State: good, Seen: seen}}
	}
	return all
}

// checkReceived is of what came to this host and no network got for this host's own sake.
func checkReceived(s statusReply, link string) finding {
	if link == "" {
		link = "the underlay's link"
	}
	f := finding{Check: "received", State: good, Seen: "no datagram was lost between the link and the networks"}
	switch {
	case s.Outside["bad_checksum"] > 0:
		f.State = warn
		f.Seen = fmt.Sprintf("the kernel dropped %s for a wrong checksum (of all UDP of this host, while the tunnel was open)", count(s.Outside["bad_checksum"], "datagram"))
		f.Remedy = fmt.Sprintf("tcpdump -ni %s -vv udp port %d shows whose are wrong; there: ethtool -K LINK tx off. A NAT on the way breaks them too", link, s.VXLANPort)
	case s.Outside["no_memory"] > 0:
		f.State = warn
		f.Seen = fmt.Sprintf("the kernel dropped %s since all UDP had too little memory", count(s.Outside["no_memory"], "datagram"))
		f.Remedy = "raise the third number of sysctl net.ipv4.udp_mem: the pages (mostly 4 KiB) that UDP of the whole host may take, IPv6 too. Only the host's own network namespace shows it. If the daemon's cgroup bounds its memory, raise that instead"
	case s.Strangers["overflow"] > 0:
		f.State = warn
		f.Seen = count(s.Strangers["overflow"], "datagram") + " came faster than they were read"
		f.Remedy = "more processor time for this host; the buffers line tells whether a burst has room"
	}
	return f
}

// checkOffloads is of what the kernel does, or refused to do, for the daemon's ports and peers.
func checkOffloads(all []offloadReply) finding {
	refused, flagLost := false, false
	for _, o := range all {
		refused = refused || o.State == "off" && o.Name != "remote_checksum"
		flagLost = flagLost || o.State == "off" && o.Name == "remote_checksum"
	}
	switch text := offloadsText(all); {
	case refused:
		return finding{"offloads", warn, text + ": done in software there, slower", "tapestry peers shows which peers; what was refused is tried again every 10 s, a newer kernel may take it"}
	case flagLost:
		return finding{"offloads", warn, text + ": summed twice there, slower", "find what clears reserved bits of VXLAN headers on the way, if it matters; it is tried again each minute"}
	case text == "":
		return finding{Check: "offloads", State: good, Seen: "nothing uses any yet"}
	default:
		return finding{Check: "offloads", State: good, Seen: text}
	}
}

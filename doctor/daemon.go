package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// examineDaemon checks what a running daemon reports about itself. If it stops answering, that is a finding.
func (d *Doctor) examineDaemon(ctx context.Context, status api.Status, names *docker.Engine, report func(Finding)) {
	each := func(all []Finding) {
		for _, f := range all {
			if ctx.Err() == nil { // after an interrupt the findings would be about the interrupt
				report(f)
			}
		}
	}
	unreachable := func(err error) {
		each([]Finding{{"daemon", Fail, "does not answer any more: " + err.Error(), d.supervisor.Restart()}})
	}
	networks, err := d.Networks(ctx)
	if err != nil {
		unreachable(err)
		return
	}
	ports, err := client.List[api.Port](ctx, d.Client, api.PortsPath, "")
	if err != nil {
		unreachable(err)
		return
	}
	docker.FillNames(ctx, names, ports, func(p *api.Port) { p.NetworkName, p.Container = names.NetworkLabel(p.Network), names.PortLabel(p.Name) },
		func(p api.Port) string { return p.Network })
	for i := range networks {
		networks[i].Name = names.NetworkLabel(networks[i].ID)
	}
	known := make(map[string]bool)
	for _, n := range networks {
		known[n.ID] = true
	}
	missing := d.checkMissing(names.Networks, known, func(id string) (bool, error) { return names.InUse(ctx, id) })
	each(checkNetworks(networks, status.Conflicts, names, missing))
	each(checkPorts(ports, d.supervisor))

	began := time.Now()
	tests, testErr := d.TestPeers(ctx) // before peers are listed: an answer to a test counts as heard, and shows a small path MTU
	discardStale(&tests, time.Since(began))
	peers, err := client.List[api.Peer](ctx, d.Client, api.PeersPath, "")
	if err != nil {
		unreachable(err)
		return
	}
	for i := range peers {
		peers[i].NetworkName = names.NetworkLabel(peers[i].Network)
	}
	link, _ := d.LinkWithAddr(d.VTEP) // if there is no such link, checkUnderlay has reported it
	each(checkMTU(networks, ports, peers, tests.Tests, d.linkTo))
	each(checkPeers(peers, tests.Tests, status))
	d.examineCluster(ctx, networks, peers, tests.Tests, names, each)
	d.examineNodes(ctx, names, func(f Finding) { each([]Finding{f}) })
	own := d.own().To(netip.IPv4Unspecified()) // rp_filter is of IPv4
	if link, err := d.LinkWithAddr(own); err == nil {
		filter := max(d.sysctl("net/ipv4/conf/all/rp_filter"), d.sysctl("net/ipv4/conf/"+link.Name+"/rp_filter")) // the greater one counts
		each([]Finding{checkReversePath(filter == "1", link, own, d.towards(own, peers), d.linkTo, d.supervisor)})
	}
	if testErr != nil {
		each([]Finding{{"selftest", Warn, "not tested: " + testErr.Error(), d.supervisor.Restart()}})
	} else {
		each(checkTests(tests.Tests, tests.Why, func(addr string) string {
			to, _ := netip.ParseAddrPort(addr) // the daemon wrote it
			return d.linkTo(to).Name
		}))
	}
	if status, err = d.Status(ctx); err != nil { // again: a test may have turned an offload on or off
		unreachable(err)
		return
	}
	each([]Finding{checkOffloads(status.Offloads), checkReceived(status, link.Name)})
}

// linkTo returns the link by which datagrams to a host leave; one without a name if there is no route.
func (d *Doctor) linkTo(to netip.AddrPort) net.Interface {
	p, err := d.Path(d.own().To(to.Addr()), to.Addr())
	if err != nil {
		return net.Interface{}
	}
	link, err := d.Link(p.Link)
	if err != nil { // it has just gone
		return net.Interface{}
	}
	return *link
}

func (d *Doctor) own() fabric.Addrs { return fabric.Addrs{Main: d.VTEP, Second: d.Second} }

// towards are the peers of one of this host's addresses: with a second one, those of its IP version.
func (d *Doctor) towards(own netip.Addr, peers []api.Peer) []api.Peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p api.Peer) bool {
		to, err := netip.ParseAddrPort(p.Addr)
		return err == nil && d.own().To(to.Addr()) != own
	})
}

// discardStale sets results that are older than this call to untested: a test without a result leaves the previous one in place.
// took is the duration of the call.
func discardStale(r *api.PeerTests, took time.Duration) {
	const fresh = 10 * time.Second // the daemon does not repeat a test that is younger
	for i := range r.Tests {
		t := &r.Tests[i]
		if age := time.Duration(t.AgeSeconds) * time.Second; t.GSO == "ok" && (age < 0 || age > took+fresh) {
			t.GSO = "untested"
		}
	}
}

// checkNetworks reports networks without a tunnel, addresses that two containers claim, and missing, the findings of
// checkMissing.
func checkNetworks(networks []api.Network, conflicts []api.Conflict, names *docker.Engine, missing []Finding) (all []Finding) {
	all = missing
	for _, n := range networks {
		if n.Down != "" {
			all = append(all, Finding{"networks", Fail, n.Name + " has no tunnel: " + n.Down, "tapestry networks shows when it has: it is tried every 5 s"})
		}
	}
	for _, c := range conflicts {
		all = append(all, Finding{"networks", Warn, fmt.Sprintf("%s: address %s of %s is claimed by %s too", names.NetworkLabel(c.Network), c.MAC, names.PortLabel(c.Owner), names.PortLabel(c.Rival)),
			"give each host an --ip-range of its own: docker network rm and create on one of them"})
	}
	if all == nil {
		all = []Finding{{Check: "networks", State: OK, Seen: human.Plural(len(networks), "network") + ", no address claimed twice"}}
	}
	return all
}

// checkPorts reports the ports of containers and of this host that are down.
func checkPorts(ports []api.Port, by docker.Supervisor) (all []Finding) {
	containers := 0
	for _, p := range ports {
		if p.Kind == "host" && p.Why != "" {
			all = append(all, Finding{"ports", Fail, fmt.Sprintf("this host is cut off from %s: %s", p.NetworkName, p.Why),
				"remove that cause; the port is tried again every 5 s"})
		}
		if p.Kind != "container" {
			continue
		}
		containers++
		switch p.Why {
		case "":
		case tap.ErrGone.Error():
			all = append(all, Finding{"ports", Warn, fmt.Sprintf("%s on %s: %s, as after a reboot", p.Container, p.NetworkName, p.Why),
				"nothing to do: it is removed --sweep-after (60 s) and some seconds later, unless its container comes back"})
		case tap.ErrHostEnd.Error(): // the daemon sets it up when it starts
			all = append(all, Finding{"ports", Fail, fmt.Sprintf("%s on %s is cut off: %s", p.Container, p.NetworkName, p.Why), by.Restart()})
		case tap.ErrDown.Error():
			all = append(all, Finding{"ports", Warn, fmt.Sprintf("%s on %s gets nothing: %s", p.Container, p.NetworkName, p.Why),
				fmt.Sprintf("docker exec --privileged %s ip link set eth0 up (the link that has %s)", p.Container, p.MAC)})
		default:
			all = append(all, Finding{"ports", Fail, fmt.Sprintf("%s on %s is cut off: %s", p.Container, p.NetworkName, p.Why),
				fmt.Sprintf("docker network disconnect %s %s, and connect", p.NetworkName, p.Container)})
		}
	}
	if all == nil {
		all = []Finding{{Check: "ports", State: OK, Seen: human.Plural(containers, "container") + ", none cut off"}}
	}
	return all
}

// checkMTU compares the MTUs of containers with those of the paths to other hosts, in bytes of the inner IP packet. linkTo
// returns the link towards a peer.
func checkMTU(networks []api.Network, ports []api.Port, peers []api.Peer, tests []api.PeerTest, linkTo func(netip.AddrPort) net.Interface) (all []Finding) {
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
		narrow, fits := 0, 0
		for _, t := range tests {
			if t.Addr == p.Addr {
				narrow, fits = t.Narrow, t.Fits
			}
		}
		if narrow > 0 && (fits > 0 && longest+overhead > fits || fits == 0 && min(longest, p.MTU)+overhead >= narrow) {
			found, size := "what does is being searched", "SIZE, as tapestry peers shows it in a minute"
			if fits > 0 {
				found, size = fmt.Sprintf("%d do, and who sends more is told so", fits), strconv.Itoa(fits-overhead)
			}
			all = append(all, Finding{"mtu", Fail,
				fmt.Sprintf("%s: datagrams of %d bytes do not reach %s: something on the path drops them and does not say so; %s", p.NetworkName, narrow, p.Addr, found),
				fmt.Sprintf("let ICMP (fragmentation needed, packet too big) from the way to %s pass, or make the network anew with -o com.docker.network.driver.mtu=%s", to.Addr(), size)})
			continue
		}
		if p.MTU == 0 || longest <= p.MTU {
			continue
		}
		remedy, link := "raise the MTU on the path", linkTo(to)
		if outer := longest + overhead; link.Name != "" && link.MTU < outer {
			remedy = fmt.Sprintf("ip link set %s mtu %d", link.Name, outer)
		}
		all = append(all, Finding{"mtu", Fail,
			fmt.Sprintf("%s: containers send packets of up to %d bytes, the path to %s takes %d: who sends longer ones is told so, or they are lost", p.NetworkName, longest, p.Addr, p.MTU),
			fmt.Sprintf("%s, or make the network anew with -o com.docker.network.driver.mtu=%d", remedy, p.MTU)})
	}
	if all == nil {
		all = []Finding{{Check: "mtu", State: OK, Seen: fmt.Sprintf("what containers send fits the path to %s", human.Plural(len(peers), "peer"))}}
	}
	return all
}

// checkPeers reports peers without a route, and those that were never heard.
func checkPeers(peers []api.Peer, tests []api.PeerTest, s api.Status) (all []Finding) {
	silent, answering, stale := []string(nil), []string(nil), make(map[string]string)
	peers = slices.DeleteFunc(slices.Clone(peers), func(p api.Peer) bool { return p.Group && p.Why == "" }) // nobody need be in it
	for _, p := range peers {
		if p.Addr != "" && p.NameDown != "" {
			stale[p.Name] = p.NameDown
		}
		if p.Fragmented > 0 {
			all = append(all, Finding{"peers", Warn, fmt.Sprintf("%s: %s from %s came in fragments: each costs as much as several", p.NetworkName, human.Count(p.Fragmented, "datagram"), p.Addr),
				"lower the MTU of the network there, or raise that of the path: a VTEP should send none that is too long (a tapestry never does)"})
		}
		switch {
		case p.Addr == "":
			all = append(all, Finding{"peers", Fail, fmt.Sprintf("%s: %s is named as a peer and has no address: %s", p.NetworkName, p.Name, p.Why),
				fmt.Sprintf("getent ahosts %s; see /etc/resolv.conf; the daemon looks it up every 5 s", p.Name)})
		case p.Why != "":
			all = append(all, Finding{"peers", Fail, fmt.Sprintf("%s: %s is unreachable: %s", p.NetworkName, p.Addr, p.Why), peerRemedy(p)})
		case p.HeardSeconds == nil && slices.ContainsFunc(tests, func(t api.PeerTest) bool { return t.Addr == p.Addr && t.Answers }):
			answering = append(answering, p.Addr+" on "+p.NetworkName)
		case p.HeardSeconds == nil:
			silent = append(silent, p.Addr+" on "+p.NetworkName)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(stale)) {
		all = append(all, Finding{"peers", Warn, fmt.Sprintf("%s cannot be looked up, and what it was last stays the peer: %s", host, stale[host]),
			fmt.Sprintf("getent ahosts %s; see /etc/resolv.conf; the daemon looks it up every 5 s", host)})
	}
	all = append(all, checkLoss(peers)...)
	if silent != nil {
		all = append(all, Finding{"peers", Warn, "never heard: " + strings.Join(silent, ", "),
			fmt.Sprintf("on those hosts: tapestry peers add NET %s; and let UDP %d pass the firewalls of both", s.VTEP, s.VXLANPort)})
	}
	if all == nil {
		f := Finding{Check: "peers", State: OK, Seen: human.Plural(len(peers), "peer") + ", all heard"}
		if answering != nil {
			f.Seen = fmt.Sprintf("%s; silent so far, but the host answers: %s", human.Plural(len(peers), "peer"), strings.Join(answering, ", "))
		}
		all = []Finding{f}
	}
	return all
}

// peerRemedy is the remedy for a peer that there is no route to.
func peerRemedy(p api.Peer) string {
	to, _ := netip.ParseAddrPort(p.Addr) // the daemon wrote it
	return fmt.Sprintf("ip -brief link; ip route get %s; `tapestry peers` shows when there is one", to.Addr())
}

// checkReversePath checks rp_filter (Linux, ip-sysctl): if it is strict, the kernel drops a datagram that comes in by another
// link than the route back to its sender has. A VTEP on the loopback link is reached by any link, so it is not checked.
func checkReversePath(strict bool, link net.Interface, vtep netip.Addr, peers []api.Peer, linkTo func(netip.AddrPort) net.Interface, by docker.Supervisor) Finding {
	var others []string
	for _, p := range peers {
		to, err := netip.ParseAddrPort(p.Addr)
		if err != nil || p.Group { // nobody's address
			continue
		}
		out := linkTo(to)
		if out.Name != "" && out.Index != link.Index && (out.Flags|link.Flags)&net.FlagLoopback == 0 && !slices.Contains(others, p.Addr) {
			others = append(others, p.Addr)
		}
	}
	f := Finding{Check: "rp_filter", State: OK, Seen: "lets in what peers send"}
	if strict && vtep.Is4() && others != nil {
		f.State, f.Remedy = Warn, fmt.Sprintf("sysctl -w net/ipv4/conf/%s/rp_filter=2; or %s, with the address of that link", link.Name, by.Flags("--vtep ADDR")) // the greater of this and all's counts
		f.Seen = fmt.Sprintf("strict on %s, and the route to %s leaves by another link: what they send to %s may be dropped", link.Name, strings.Join(others, ", "), vtep)
	}
	return f
}

// checkTests reports the daemon's tests of segmentation offload to its peers. linkTo returns the name of the link towards a
// peer, "" if there is no route.
func checkTests(tests []api.PeerTest, why string, linkTo func(addr string) string) (all []Finding) {
	var ok, noAnswer, narrow, untested []string
	if why != "" {
		all = append(all, Finding{"selftest", Warn, "not finished: " + why, "tapestry doctor, again"})
	}
	for _, t := range tests {
		remedy := "take another kernel on either host"
		link := linkTo(t.Addr)
		switch {
		case t.GSO == "no answer": // checkPeers tells whether it is heard
			noAnswer = append(noAnswer, t.Addr)
		case t.Narrow > 0: // checkMTU tells
			narrow = append(narrow, t.Addr)
		case t.GSO == "ok":
			ok = append(ok, t.Addr)
		case t.GSO == "mangled":
			if link != "" {
				remedy = fmt.Sprintf("ethtool -K %s tx-udp-segmentation off; if that does not help, %s", link, remedy)
			}
			all = append(all, Finding{"selftest", Warn, fmt.Sprintf("segments arrive mangled at %s, so they go one by one, slower: %s", t.Addr, t.Why), remedy})
		case t.GSO == "refused":
			remedy = "take another kernel"
			if link != "" {
				remedy = fmt.Sprintf("ethtool -K %s tx on; if that does not help, %s", link, remedy)
			}
			all = append(all, Finding{"selftest", Warn, fmt.Sprintf("this kernel refuses segments to %s, so they go one by one, slower: %s", t.Addr, t.Why), remedy})
		default:
			untested = append(untested, t.Addr)
		}
	}
	if untested != nil {
		all = append(all, Finding{"selftest", Warn, "too many segments were lost for a result: " + strings.Join(untested, ", "),
			"ping these hosts, and tapestry doctor again"})
	}
	if all == nil {
		seen := fmt.Sprintf("segments arrive whole at %s", human.Plural(len(ok), "peer"))
		if noAnswer != nil {
			seen += "; no tapestry answers at " + strings.Join(noAnswer, ", ")
		}
		if narrow != nil {
			seen += "; not tested where long ones are lost: " + strings.Join(narrow, ", ")
		}
		all = []Finding{{Check: "selftest", State: OK, Seen: seen}}
	}
	return all
}

// checkOffloads reports the kernel's offloads that are off for some of the daemon's ports or peers.
func checkOffloads(all []api.Offload) Finding {
	refused, flagLost := false, false
	for _, o := range all {
		refused = refused || o.State == "off" && o.Name != "remote_checksum"
		flagLost = flagLost || o.State == "off" && o.Name == "remote_checksum"
	}
	switch text := OffloadsText(all); {
	case refused:
		return Finding{"offloads", Warn, text + ": done in software there, slower", "tapestry peers shows which peers; what was refused is tried again every 10 s, a newer kernel may take it"}
	case flagLost:
		return Finding{"offloads", Warn, text + ": checksums are computed twice there, slower", "find what clears reserved bits of VXLAN headers on the path, if it matters; it is tried again each minute"}
	case text == "":
		return Finding{Check: "offloads", State: OK, Seen: "nothing uses any yet"}
	default:
		return Finding{Check: "offloads", State: OK, Seen: text}
	}
}

// OffloadsText lists the offloads that are on everywhere, and then the others one by one with the reason; "" if none is in use.
func OffloadsText(all []api.Offload) string {
	var on, off []string
	for _, o := range all {
		counts := ""
		if o.Refused > 0 {
			counts = fmt.Sprintf("refused %s×, %s sent again", human.Number(o.Refused), human.Number(o.Resent))
		}
		switch o.State {
		case "on":
			if counts != "" {
				off = append(off, o.Name+" on ("+counts+")")
				continue
			}
			on = append(on, o.Name)
		case "off", "unavailable":
			text := fmt.Sprintf("%s %s at %d of %d (%s", o.Name, o.State, o.Off, o.Users, o.Why)
			if o.OffSeconds != nil {
				text += ", since " + human.Age(*o.OffSeconds)
			}
			if counts != "" {
				text += ", " + counts
			}
			off = append(off, text+")")
		}
	}
	if on != nil {
		off = append([]string{strings.Join(on, " ") + " on"}, off...)
	}
	return strings.Join(off, "; ")
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// machine is what the checks look at; tests have machines of their own.
type machine struct {
	root           string // of /proc, /sys and /lib
	tun            func() (tap.TUN, error)
	veth, redirect func() error
	sockets        func() (tunnel.Sockets, error)
	bind           func(netip.AddrPort) error
	holder         func(port uint16) string
	address        func() (netip.Addr, error)                     // of the default route
	carrier        func(netip.Addr) (net.Interface, error)        // the link that has an address
	underlay       func(netip.Addr) (tunnel.Path, error)          // the ways to other hosts, from an address
	path           func(from, to netip.Addr) (tunnel.Path, error) // the way to one of them
	link           func(name string) (*net.Interface, error)
	space          func(dir string) (unix.Statfs_t, error)
}

func thisMachine() machine {
	return machine{root: "/", tun: tap.ProbeTUN, veth: tap.ProbeVeth, redirect: tap.ProbeRedirect,
		sockets: tunnel.ProbeSockets, bind: tunnel.ProbePort, holder: tunnel.PortUser,
		address: tunnel.DefaultAddr, carrier: carrier, underlay: tunnel.Underlay, path: tunnel.FindPath, link: net.InterfaceByName,
		space: func(dir string) (s unix.Statfs_t, err error) { return s, unix.Statfs(dir, &s) }}
}

func carrier(a netip.Addr) (net.Interface, error) {
	links, err := net.Interfaces()
	for _, l := range links {
		addrs, _ := l.Addrs() // none of a link that has just gone
		for _, has := range addrs {
			if p, err := netip.ParsePrefix(has.String()); err == nil && p.Addr().Unmap() == a {
				return l, nil
			}
		}
	}
	if err != nil {
		return net.Interface{}, fmt.Errorf("list links: %w", err)
	}
	return net.Interface{}, fmt.Errorf("%w %s", tunnel.ErrNoAddress, a)
}

// sysctl is a kernel setting, "" where the kernel has none.
func (m machine) sysctl(name string) string {
	b, _ := os.ReadFile(filepath.Join(m.root, "proc/sys", name))
	return strings.TrimSpace(string(b))
}

func (m machine) hasLink(name string) bool {
	_, err := os.Stat(filepath.Join(m.root, "proc/sys/net/ipv4/conf", name))
	return err == nil
}

// load says how to get a part of the kernel that is missing.
func (m machine) load(modules string) string {
	release := m.sysctl("kernel/osrelease")
	if _, err := os.Stat(filepath.Join(m.root, "lib/modules", release)); err != nil {
		return fmt.Sprintf("the running kernel has no modules in /lib/modules/%s: reboot into the kernel that is installed, or take one with %s", release, modules)
	}
	remedy := "modprobe -a " + modules
	return remedy + " (not found? cloud kernels have it in a package of its own, as linux-modules-extra-" + release + ")"
}

func (d *doctor) examineKernel(tell func(finding)) {
	t, err := d.tun()
	tell(checkTUN(t, err, d.load("tun")))
	noVeth := d.veth()
	tell(checkTried("veth", "a pair can be made", noVeth, d.load("veth")))
	if err == nil && t.Header && noVeth == nil { // it is made of both
		tell(checkTried("tc", "frames pass from a veth to a TAP and back by ingress, u32, mirred", d.redirect(),
			d.load("sch_ingress cls_u32 act_mirred")+"; or make networks with -o tapestry.attach=tap"))
	}
	s, err := d.sockets()
	tell(checkTrains(s, err))
	if err == nil {
		tell(checkBuffers(s))
	}
}

func checkTUN(t tap.TUN, err error, load string) finding {
	f := finding{Check: "tun", State: bad}
	var node *tap.NodeError
	switch {
	case errors.As(err, &node):
		if f.Seen, f.Remedy = node.Wrong, node.Remedy; f.Remedy == "" {
			f.Remedy = load
		}
		return f
	case err != nil:
		return checkTried("tun", "", err, load)
	case !t.Header:
		f.Seen, f.Remedy = "TAPs have no virtio-net header (IFF_VNET_HDR)", "take a newer kernel"
		return f
	case !t.Csum, !t.TSO:
		f.State, f.Seen, f.Remedy = warn, "TAPs cut and sum in the kernel, packet by packet: slow", "take a newer kernel"
	default:
		f.State, f.Seen = good, "/dev/net/tun makes TAPs with virtio-net headers"
	}
	takes := map[bool]string{true: "yes", false: "no"}
	f.Seen += fmt.Sprintf(" (checksums %s, TSO %s, USO %s, UDP tunnels %s)", takes[t.Csum], takes[t.TSO], takes[t.USO], takes[t.Tunnels])
	return f
}

// checkTried is of what either works or gives an error.
func checkTried(check, works string, err error, remedy string) finding {
	switch {
	case err == nil:
		return finding{Check: check, State: good, Seen: works}
	case errors.Is(err, tap.ErrNoNamespace):
		return finding{check, warn, "not tried: " + err.Error(), "run it on the host itself, not in a container"}
	case errors.Is(err, fs.ErrPermission):
		return finding{check, bad, err.Error(), "run it on the host itself, as root with CAP_NET_ADMIN"}
	}
	return finding{check, bad, err.Error(), remedy}
}

func checkTrains(s tunnel.Sockets, err error) finding {
	f := finding{Check: "udp", State: warn, Remedy: "take a kernel from 5.0 on; tapestry works without, slower"}
	switch {
	case err != nil:
		f.State, f.Seen, f.Remedy = bad, err.Error(), "see what holds sockets back: ulimit -n; ip address show lo"
	case s.GSO != nil:
		f.Seen = "no segmentation (UDP_SEGMENT) on the loopback: " + s.GSO.Error()
	case s.GRO != nil:
		f.Seen = "no joining (UDP_GRO) on the loopback: " + s.GRO.Error()
	default:
		return finding{Check: "udp", State: good, Seen: "one send makes many datagrams (UDP_SEGMENT), one receive takes many (UDP_GRO)"}
	}
	return f
}

func checkBuffers(s tunnel.Sockets) finding {
	f := finding{Check: "buffers", State: good, Seen: fmt.Sprintf("%d KiB to receive, %d KiB to send", s.Receive>>10, s.Send>>10)}
	if s.Receive < s.Wanted || s.Send < s.Wanted {
		f.State = warn
		f.Seen += fmt.Sprintf(", %d KiB wanted: bursts are lost sooner", s.Wanted>>10)
		f.Remedy = fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d; or give the daemon CAP_NET_ADMIN", s.Wanted, s.Wanted)
	}
	return f
}

func (d *doctor) examineUnderlay(status statusReply, tell func(finding)) {
	var err error
	if !d.vtep.IsValid() {
		d.vtep, err = d.address()
	}
	var way tunnel.Path
	if err == nil {
		way, err = d.underlay(d.vtep)
	}
	tell(checkUnderlay(d.vtep, way, err, d.by))
	if d.vtep.IsValid() && !errors.Is(err, tunnel.ErrNoAddress) {
		err = nil
	}
	if err == nil {
		local := netip.AddrPortFrom(d.vtep, d.port)
		if status.Tunnel != "open" {
			err = d.bind(local)
		}
		holder := ""
		if errors.Is(err, unix.EADDRINUSE) {
			holder = d.holder(d.port)
		}
		tell(checkPort(d.port, status, err, holder, d.by))
	}
	gateway := d.hasLink("docker_gwbridge")
	tell(checkBridge(d.sysctl("net/bridge/bridge-nf-call-iptables"), gateway, d.load("br_netfilter")))
	tell(checkForward(d.sysctl("net/ipv4/ip_forward"), gateway, d.info.FirewallBackend.Driver))
}

// checkUnderlay is of this host's address and the link by which other hosts are reached: err is why they are not.
func checkUnderlay(vtep netip.Addr, way tunnel.Path, err error, by supervisor) finding {
	const ipv6 = ether.MinMTUv6
	switch {
	case err != nil && !vtep.IsValid():
		return finding{"underlay", warn, err.Error(), by.flags("--vtep ADDR") + ", if networks shall span hosts"}
	case errors.Is(err, tunnel.ErrNoAddress):
		return finding{"underlay", bad, err.Error(), by.flags("--vtep ADDR") + ", with one of the addresses that `ip -brief address` shows"}
	case err != nil && way.Link != "":
		return finding{"underlay", bad, fmt.Sprintf("%s: %v", vtep, err), fmt.Sprintf("ip link set %s up; without a carrier, see what it is connected to", way.Link)}
	case err != nil:
		return finding{"underlay", bad, err.Error(), "ip route"}
	case way.MTU == 0:
		return finding{Check: "underlay", State: good, Seen: fmt.Sprintf("%s, no default route: the route to each peer tells its MTU", vtep)}
	}
	room := way.MTU - tunnel.Overhead(vtep.Is6())
	f := finding{Check: "underlay", State: good, Seen: fmt.Sprintf("%s by %s, MTU %d: room for %d in a network with a VNI", vtep, way.Link, way.MTU, room)}
	if room < ipv6 {
		f.State, f.Remedy = warn, fmt.Sprintf("ip link set %s mtu 1500, if what it is connected to can take that", way.Link)
		f.Seen += fmt.Sprintf(", IPv6 needs %d", ipv6)
	}
	return f
}

// checkPort is of the VXLAN port: err and holder are what an attempt to bind it gave, unless the tunnel is open.
func checkPort(port uint16, s statusReply, err error, holder string, by supervisor) finding {
	const firewall = "; whether firewalls let it pass cannot be seen from here"
	f := finding{Check: "port", State: warn}
	if s.Tunnel == "down" {
		f.State = bad
	}
	switch {
	case s.Tunnel == "open":
		return finding{Check: "port", State: good, Seen: fmt.Sprintf("UDP %d is the daemon's", port) + firewall}
	case holder != "":
		f.Seen = fmt.Sprintf("UDP %d is taken by %s: no network can have a VNI", port, holder)
		f.Remedy = by.flags("--vxlan-port PORT") + " with another one, on every host; or free this one: ip -detail link show type vxlan; " +
			fmt.Sprintf("ss -ulpn sport = :%d", port)
	case err != nil:
		f.Seen, f.Remedy = err.Error(), by.flags("--vtep ADDR", "--vxlan-port PORT")+", with what can be had"
	case s.Tunnel == "down":
		f.Seen, f.Remedy = "the tunnel is down: "+s.Why, "look again: it is tried every 5 s"
	default:
		return finding{Check: "port", State: good, Seen: fmt.Sprintf("UDP %d is free", port) + firewall}
	}
	return f
}

// checkBridge is of br_netfilter. tapestry's frames cross no bridge; but Docker keeps the containers of
// different networks apart on docker_gwbridge by iptables, and makes that bridge only where it can.
func checkBridge(call string, gateway bool, load string) finding {
	f := finding{Check: "br_netfilter", State: warn}
	switch {
	case call == "1":
		return finding{Check: "br_netfilter", State: good,
			Seen: "bridged frames meet the firewall, as docker_gwbridge needs it; tapestry's own cross no bridge"}
	case call == "" && !gateway:
		return finding{Check: "br_netfilter", State: good, Seen: "not loaded; Docker loads it when needed, for docker_gwbridge"}
	case call == "":
		f.Seen, f.Remedy = "not loaded: containers of different networks reach each other over docker_gwbridge", load
	case !gateway:
		return finding{Check: "br_netfilter", State: good, Seen: "bridged frames pass the firewall by; Docker changes that with docker_gwbridge"}
	default:
		f.Seen = "bridged frames pass the firewall by: containers of different networks reach each other over docker_gwbridge"
		f.Remedy = "sysctl -w net.bridge.bridge-nf-call-iptables=1"
	}
	return f
}

// checkForward is of IPv4 forwarding. firewall is what Docker writes its rules with: with nftables it turns forwarding on
// for no bridge, and makes none without it, unless dockerd runs with --ip-forward=false.
func checkForward(forward string, gateway bool, firewall string) finding {
	switch {
	case forward == "0" && !gateway && firewall == "nftables":
		return finding{"ip_forward", bad, "off, and Docker with nftables does not turn it on: it makes no docker_gwbridge, so no container starts on a network with tapestry.external=on",
			"sysctl -w net.ipv4.ip_forward=1, and a line in /etc/sysctl.d for the next boot; Docker then drops nothing that is forwarded between other links, so look at this host's own rules"}
	case forward == "0" && gateway:
		return finding{"ip_forward", warn, "off: containers do not get out over docker_gwbridge; tapestry itself does not need it", "sysctl -w net.ipv4.ip_forward=1"}
	}
	seen := "on, for the containers' way out over docker_gwbridge"
	if forward == "0" {
		seen = "off; Docker turns it on with its first bridge"
	}
	return finding{Check: "ip_forward", State: good, Seen: seen}
}

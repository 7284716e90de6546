package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// A Machine has the functions by which the checks look at the host; tests have fakes of it.
type Machine struct {
	Root           string                                         // directory of proc, sys and lib: "/"
	TUN            func() (tap.TUN, error)                        // makes a TAP and returns its features
	Veth, Redirect func() error                                   // make a veth pair; redirect frames between one and a TAP
	Sockets        func() (tunnel.Sockets, error)                 // tries segmentation and buffers of UDP sockets
	Bind           func(netip.AddrPort) error                     // binds a UDP port and releases it
	PortUser       func(port uint16) string                       // what has a UDP port; "": not known
	DefaultAddr    func() (netip.Addr, error)                     // source address of the default route
	LinkWithAddr   func(netip.Addr) (net.Interface, error)        // the link that has an address
	Underlay       func(netip.Addr) (tunnel.Path, error)          // the path to other hosts in general, from an address
	Path           func(from, to netip.Addr) (tunnel.Path, error) // the path to one host
	Link           func(name string) (*net.Interface, error)
	Statfs         func(dir string) (unix.Statfs_t, error)

	Lookup func(ctx context.Context, server netip.Addr, name string) ([]netip.Addr, error) // asks a DNS server
}

// ThisMachine returns the Machine of this host. Most of its functions need root.
func ThisMachine() Machine {
	return Machine{Root: "/", TUN: tap.ProbeTUN, Veth: tap.ProbeVeth, Redirect: tap.ProbeRedirect,
		Sockets: tunnel.ProbeSockets, Bind: tunnel.ProbePort, PortUser: tunnel.PortUser,
		Lookup: lookup, DefaultAddr: tunnel.DefaultAddr, LinkWithAddr: linkWithAddr, Underlay: tunnel.Underlay, Path: tunnel.FindPath, Link: net.InterfaceByName,
		Statfs: func(dir string) (s unix.Statfs_t, err error) { return s, unix.Statfs(dir, &s) }}
}

// linkWithAddr returns the link that has an address; tunnel.ErrNoAddress if none has.
func linkWithAddr(a netip.Addr) (net.Interface, error) {
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

// sysctl returns a kernel setting by its path below /proc/sys, "" if there is none.
func (m Machine) sysctl(name string) string {
	b, _ := os.ReadFile(filepath.Join(m.Root, "proc/sys", name))
	return strings.TrimSpace(string(b))
}

func (m Machine) hasLink(name string) bool {
	_, err := os.Stat(filepath.Join(m.Root, "proc/sys/net/ipv4/conf", name))
	return err == nil
}

// moduleRemedy says how to load kernel modules that are missing. modules are names with spaces between.
func (m Machine) moduleRemedy(modules string) string {
	release := m.sysctl("kernel/osrelease")
	if _, err := os.Stat(filepath.Join(m.Root, "lib/modules", release)); err != nil {
		return fmt.Sprintf("the running kernel has no modules in /lib/modules/%s: reboot into the kernel that is installed, or take one with %s", release, modules)
	}
	remedy := "modprobe -a " + modules
	return remedy + " (not found? cloud kernels have it in a package of its own, as linux-modules-extra-" + release + ")"
}

func (d *Doctor) examineKernel(report func(Finding)) {
	t, err := d.TUN()
	report(checkTUN(t, err, d.moduleRemedy("tun")))
	noVeth := d.Veth()
	report(checkProbe("veth", "a pair can be made", noVeth, d.moduleRemedy("veth")))
	if err == nil && t.Header && noVeth == nil { // the test needs a TAP and a veth pair
		report(checkProbe("tc", "frames pass from a veth to a TAP and back by ingress, u32, mirred", d.Redirect(),
			d.moduleRemedy("sch_ingress cls_u32 act_mirred")+"; or make networks with -o tapestry.attach=tap"))
	}
	s, err := d.Sockets()
	report(checkUDPOffload(s, err))
	if err == nil {
		report(checkBuffers(s))
	}
}

// checkTUN checks TAPs and the offloads that they take. load is the remedy if the kernel has no tun driver.
func checkTUN(t tap.TUN, err error, load string) Finding {
	f := Finding{Check: "tun", State: Fail}
	var node *tap.NodeError
	switch {
	case errors.As(err, &node):
		if f.Seen, f.Remedy = node.Wrong, node.Remedy; f.Remedy == "" {
			f.Remedy = load
		}
		return f
	case err != nil:
		return checkProbe("tun", "", err, load)
	case !t.Header:
		f.Seen, f.Remedy = "TAPs have no virtio-net header (IFF_VNET_HDR)", "take a newer kernel"
		return f
	case !t.Csum, !t.TSO:
		f.State, f.Seen, f.Remedy = Warn, "the kernel segments and checksums a TAP's packets one by one: slow", "take a newer kernel"
	default:
		f.State, f.Seen = OK, "/dev/net/tun makes TAPs with virtio-net headers"
	}
	takes := map[bool]string{true: "yes", false: "no"}
	f.Seen += fmt.Sprintf(" (checksums %s, TSO %s, USO %s, UDP tunnels %s)", takes[t.Csum], takes[t.TSO], takes[t.USO], takes[t.Tunnels])
	return f
}

// checkProbe is the finding of a probe that either works or returns an error.
func checkProbe(check, works string, err error, remedy string) Finding {
	switch {
	case err == nil:
		return Finding{Check: check, State: OK, Seen: works}
	case errors.Is(err, tap.ErrNoNamespace):
		return Finding{check, Warn, "not tried: " + err.Error(), "run it on the host itself, not in a container"}
	case errors.Is(err, fs.ErrPermission):
		return Finding{check, Fail, err.Error(), "run it on the host itself, as root with CAP_NET_ADMIN"}
	}
	return Finding{check, Fail, err.Error(), remedy}
}

// checkUDPOffload checks UDP_SEGMENT and UDP_GRO (udp(7)).
func checkUDPOffload(s tunnel.Sockets, err error) Finding {
	f := Finding{Check: "udp", State: Warn, Remedy: "take a kernel from 5.0 on; tapestry works without, slower"}
	switch {
	case err != nil:
		f.State, f.Seen, f.Remedy = Fail, err.Error(), "see why no socket can be opened: ulimit -n; ip address show lo"
	case s.GSO != nil:
		f.Seen = "no segmentation (UDP_SEGMENT) on the loopback: " + s.GSO.Error()
	case s.GRO != nil:
		f.Seen = "no joining (UDP_GRO) on the loopback: " + s.GRO.Error()
	default:
		return Finding{Check: "udp", State: OK, Seen: "one send makes many datagrams (UDP_SEGMENT), one receive takes many (UDP_GRO)"}
	}
	return f
}

// checkBuffers checks the sizes that the kernel granted to socket buffers.
func checkBuffers(s tunnel.Sockets) Finding {
	f := Finding{Check: "buffers", State: OK, Seen: fmt.Sprintf("%d KiB to receive, %d KiB to send", s.Receive>>10, s.Send>>10)}
	if s.Receive < s.Wanted || s.Send < s.Wanted {
		f.State = Warn
		f.Seen += fmt.Sprintf(", %d KiB wanted: bursts are lost sooner", s.Wanted>>10)
		f.Remedy = fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d; or give the daemon CAP_NET_ADMIN", s.Wanted, s.Wanted)
	}
	return f
}

// examineUnderlay checks the VTEP, its link, the VXLAN port, and the settings that docker_gwbridge needs.
func (d *Doctor) examineUnderlay(status api.Status, report func(Finding)) {
	var err error
	if !d.VTEP.IsValid() {
		d.VTEP, err = d.DefaultAddr()
	}
	var path tunnel.Path
	if err == nil {
		path, err = d.Underlay(d.VTEP)
	}
	report(checkUnderlay(d.VTEP, path, err, d.supervisor))
	if d.Second.IsValid() {
		path, err := d.Underlay(d.Second)
		f := checkUnderlay(d.Second, path, err, d.supervisor)
		if f.State == OK && status.SecondWhy != "" {
			f.State, f.Seen, f.Remedy = Fail, fmt.Sprintf("%s: %s", d.Second, status.SecondWhy), "look again: it is tried every 5 s"
		}
		report(f)
	}
	if d.VTEP.IsValid() && !errors.Is(err, tunnel.ErrNoAddress) {
		err = nil
	}
	if err == nil {
		local := netip.AddrPortFrom(d.VTEP, d.Port)
		if status.Tunnel != "open" {
			err = d.Bind(local)
		}
		holder := ""
		if errors.Is(err, unix.EADDRINUSE) {
			holder = d.PortUser(d.Port)
		}
		report(checkPort(d.Port, status, err, holder, d.supervisor))
	}
	gateway := d.hasLink("docker_gwbridge")
	report(checkBridge(d.sysctl("net/bridge/bridge-nf-call-iptables"), gateway, d.moduleRemedy("br_netfilter")))
	report(checkForward(d.sysctl("net/ipv4/ip_forward"), gateway, d.info.FirewallBackend.Driver))
}

// checkUnderlay checks this host's VTEP and the path from it to other hosts. err is why there is none.
func checkUnderlay(vtep netip.Addr, path tunnel.Path, err error, by docker.Supervisor) Finding {
	const ipv6 = ether.MinMTUv6
	switch {
	case err != nil && !vtep.IsValid():
		return Finding{"underlay", Warn, err.Error(), by.Flags("--vtep ADDR") + ", if networks shall span hosts"}
	case errors.Is(err, tunnel.ErrNoAddress):
		return Finding{"underlay", Fail, err.Error(), by.Flags("--vtep ADDR") + ", with one of the addresses that `ip -brief address` shows"}
	case err != nil && path.Link != "":
		return Finding{"underlay", Fail, fmt.Sprintf("%s: %v", vtep, err), fmt.Sprintf("ip link set %s up; without a carrier, see what it is connected to", path.Link)}
	case err != nil:
		return Finding{"underlay", Fail, err.Error(), "ip route"}
	case path.MTU == 0:
		return Finding{Check: "underlay", State: OK, Seen: fmt.Sprintf("%s, no default route: the route to each peer tells its MTU", vtep)}
	}
	room := path.MTU - tunnel.Overhead(vtep.Is6())
	f := Finding{Check: "underlay", State: OK, Seen: fmt.Sprintf("%s by %s, MTU %d: room for %d in a network with a VNI", vtep, path.Link, path.MTU, room)}
	if room < ipv6 {
		f.State, f.Remedy = Warn, fmt.Sprintf("ip link set %s mtu 1500, if what it is connected to can take that", path.Link)
		f.Seen += fmt.Sprintf(", IPv6 needs %d", ipv6)
	}
	return f
}

// checkPort checks the VXLAN port. err is the error of binding it, nil if the tunnel is open; holder is what has it, "" if that
// is not known.
func checkPort(port uint16, s api.Status, err error, holder string, by docker.Supervisor) Finding {
	const firewall = "; whether firewalls let it pass cannot be seen from here"
	f := Finding{Check: "port", State: Warn}
	if s.Tunnel == "down" {
		f.State = Fail
	}
	switch {
	case s.Tunnel == "open":
		return Finding{Check: "port", State: OK, Seen: fmt.Sprintf("UDP %d is the daemon's", port) + firewall}
	case holder != "":
		f.Seen = fmt.Sprintf("UDP %d is taken by %s: no network can have a VNI", port, holder)
		f.Remedy = by.Flags("--vxlan-port PORT") + " with another one, on every host; or free this one: ip -detail link show type vxlan; " +
			fmt.Sprintf("ss -ulpn sport = :%d", port)
	case err != nil:
		f.Seen, f.Remedy = err.Error(), by.Flags("--vtep ADDR", "--vxlan-port PORT")+", with an address of this host and a free port"
	case s.Tunnel == "down":
		f.Seen, f.Remedy = "the tunnel is down: "+s.Why, "look again: it is tried every 5 s"
	default:
		return Finding{Check: "port", State: OK, Seen: fmt.Sprintf("UDP %d is free", port) + firewall}
	}
	return f
}

// checkBridge checks br_netfilter. tapestry's frames cross no bridge, but Docker separates the containers of different networks
// on docker_gwbridge by iptables rules, and these see bridged frames only with br_netfilter. call is the setting
// bridge-nf-call-iptables, gateway whether docker_gwbridge exists.
func checkBridge(call string, gateway bool, load string) Finding {
	f := Finding{Check: "br_netfilter", State: Warn}
	switch {
	case call == "1":
		return Finding{Check: "br_netfilter", State: OK,
			Seen: "bridged frames pass through the firewall, as docker_gwbridge needs; tapestry's own cross no bridge"}
	case call == "" && !gateway:
		return Finding{Check: "br_netfilter", State: OK, Seen: "not loaded; Docker loads it when needed, for docker_gwbridge"}
	case call == "":
		f.Seen, f.Remedy = "not loaded: containers of different networks reach each other over docker_gwbridge", load
	case !gateway:
		return Finding{Check: "br_netfilter", State: OK, Seen: "bridged frames bypass the firewall; Docker changes that with docker_gwbridge"}
	default:
		f.Seen = "bridged frames bypass the firewall: containers of different networks reach each other over docker_gwbridge"
		f.Remedy = "sysctl -w net.bridge.bridge-nf-call-iptables=1"
	}
	return f
}

// checkForward checks IPv4 forwarding. firewall is Docker's backend, "" if it is not known: with nftables Docker does not turn
// forwarding on, and makes no bridge without it, unless dockerd runs with --ip-forward=false.
func checkForward(forward string, gateway bool, firewall string) Finding {
	switch {
	case forward == "0" && !gateway && firewall == "nftables":
		return Finding{"ip_forward", Fail, "off, and Docker with nftables does not turn it on: it makes no docker_gwbridge, so no container starts on a network with tapestry.external=on",
			"sysctl -w net.ipv4.ip_forward=1, and a line in /etc/sysctl.d for the next boot; Docker then drops nothing that is forwarded between other links, so look at this host's own rules"}
	case forward == "0" && gateway:
		return Finding{"ip_forward", Warn, "off: containers do not get out by docker_gwbridge; tapestry itself does not need it", "sysctl -w net.ipv4.ip_forward=1"}
	}
	seen := "on: containers reach the outside by docker_gwbridge"
	if forward == "0" {
		seen = "off; Docker turns it on with its first bridge"
	}
	return Finding{Check: "ip_forward", State: OK, Seen: seen}
}

package tunnel

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dump repeats a netlink dump that was interrupted by a change.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range 10 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// DefaultAddr is the source address of this host's default route, IPv4 before IPv6.
func DefaultAddr() (netip.Addr, error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		best, err := defaultRoute(family)
		if err != nil {
			return netip.Addr{}, err
		}
		if best == nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(best.Src); ok && a.Unmap().IsGlobalUnicast() {
			return a.Unmap(), nil
		}
		link, err := netlink.LinkByIndex(best.LinkIndex)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("find the default route's link: %w", explainLimit(err))
		}
		addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, family) })
		if err != nil {
			return netip.Addr{}, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, explainLimit(err))
		}
		const unusable = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED // on IPv6
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if ok && ip.Unmap().IsGlobalUnicast() && (ip.Is4() || a.Flags&unusable == 0) {
				return ip.Unmap(), nil
			}
		}
	}
	return netip.Addr{}, ErrNoDefault
}

// ErrNoDefault is a host without a default route.
var ErrNoDefault = errors.New("there is no default route to take this host's address from: name the address with --vtep")

// defaultRoute is an IP version's default route of the least metric; nil if there is none.
func defaultRoute(family int) (best *netlink.Route, err error) {
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", explainLimit(err))
	}
	for i := range routes {
		r := &routes[i]
		if r.LinkIndex == 0 && len(r.MultiPath) > 0 { // any of them: all lead to the same destination
			r.LinkIndex = r.MultiPath[0].LinkIndex
		}
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
			continue
		}
		if best == nil || r.Priority < best.Priority {
			best = r
		}
	}
	return best, nil
}

// PortUser names who holds a UDP port of this host, as well as can be told.
func PortUser(port uint16) string { return portUser(port, processOf) }

func portUser(port uint16, processOf func(inode string) string) string {
	if links, err := netlink.LinkList(); err == nil {
		for _, l := range links {
			if vx, ok := l.(*netlink.Vxlan); ok && vx.Port == int(port) && vx.Flags&net.FlagUp != 0 {
				return fmt.Sprintf("the kernel's vxlan device %s (VNI %d)", vx.Name, vx.VxlanId)
			}
		}
	}
	for _, table := range []string{"/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"} {
		if inode, ok := udpInode(table, port); ok {
			if who := processOf(inode); who != "" {
				return who
			}
		}
	}
	if !canSeeSockets() {
		return fmt.Sprintf("another program, or by the kernel for a Docker Swarm overlay network (`ss -ulpn sport = :%d` as root shows which)", port)
	}
	return "the kernel itself: a vxlan device whose link is in another namespace, as Docker Swarm's overlay networks make them"
}

// canSeeSockets tells whether this process may see which sockets other processes have: CAP_SYS_PTRACE (proc(5), /proc/PID/fd),
// which a hardened systemd unit does not grant.
func canSeeSockets() bool {
	var data [2]unix.CapUserData
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capget(&head, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0
}

// udpInode finds a port's socket in a table of proc(5), /proc/net/udp.
func udpInode(table string, port uint16) (string, bool) {
	f, err := os.Open(table)
	if err != nil {
		return "", false
	}
	defer f.Close()
	want := fmt.Sprintf(":%04X", port)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if col := strings.Fields(sc.Text()); len(col) > 9 && strings.HasSuffix(col[1], want) {
			return col[9], true
		}
	}
	return "", false
}

func processOf(inode string) string {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		if _, err := strconv.Atoi(pid); err == nil {
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(comm)), pid)
		}
	}
	return ""
}

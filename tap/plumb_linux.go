package tap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/songgao/water"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrGone means that the container's link does not exist any more.
var ErrGone = errors.New("the container's link is gone")

// A Spec is the wanted state of one container's port.
type Spec struct {
	ID      string    // endpoint id; the links are named from it
	Tag     string    // alias of every link, by which ours are recognised
	Mode    Mode      //
	MAC     ether.MAC // of the container's end
	MTU     int       // of every link, in bytes of IP packet
	Queues  int       // to open, one for each worker; 0: one
	GSOMax  int       // longest super-frame the container may make, in bytes; 0: the kernel's default
	Sandbox string    // path of the container's network namespace once Join has named it; for Direct

	Host []netip.Prefix // not nil: the host's own port, a TAP in the daemon's namespace with these addresses; for Direct
}

// Names of the links of an endpoint, at most 15 bytes (IFNAMSIZ in net_device(7) less the NUL): the
// TAP, the veth's host end and its container end.
func Names(id string) (tap, outer, inner string) {
	k := id
	if len(k) < 12 || strings.Trim(k[:12], "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
		h := sha256.Sum256([]byte(id))
		k = hex.EncodeToString(h[:])
	}
	return "tpt" + k[:12], "tpv" + k[:12], "tpc" + k[:12]
}

// Link is the name that Docker is told to move into the container.
func (s *Spec) Link() string {
	tap, _, inner := Names(s.ID)
	if s.Mode == Direct {
		return tap
	}
	return inner
}

// A linkSetup works on a port's links with one netlink socket: a socket for each request would cost more than most requests.
type linkSetup struct {
	Spec
	*netlink.Handle
}

// newSetup opens a netlink socket in the namespace of the calling thread.
func (s Spec) newSetup() (*linkSetup, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", explain(err, ""))
	}
	return &linkSetup{s, h}, nil
}

// Create makes the links, or completes those that exist, and opens the TAP.
func Create(s Spec) (*Device, error) {
	p, err := s.newSetup()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if s.Mode == Veth {
		if err := p.ensureVeth(); err != nil {
			return nil, err
		}
	}
	if err := p.ensureTAP(); err != nil {
		return nil, err
	}
	return s.open()
}

// Adopt opens the port of a container that may be running: it repairs the TAP and the redirects, but does not make a new
// link for the container. ErrGone if the container's link does not exist.
func Adopt(s Spec) (*Device, error) {
	p, err := s.newSetup()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	tap, outer, _ := Names(s.ID)
	if s.Mode == Veth {
		l, err := p.find(outer)
		if err == nil {
			err = p.completeVeth(l)
		}
		if gone(err) {
			return nil, ErrGone
		}
		if err != nil {
			return nil, err
		}
	} else if _, err := p.find(tap); gone(err) {
		return s.openInSandbox()
	} else if err != nil {
		return nil, err
	}
	if err := p.ensureTAP(); err != nil {
		return nil, err
	}
	return s.open()
}

// Remove removes the links that exist and have the tag. The Device must be closed.
func Remove(s Spec) error {
	p, err := s.newSetup()
	if err != nil {
		return err
	}
	defer p.Close()
	tap, outer, inner := Names(s.ID)
	hosts := s.Host
	var errs []error
	for _, name := range []string{outer, inner, tap} {
		l, err := p.find(name)
		if gone(err) {
			continue
		}
		if err == nil && !s.ours(l) {
			err = errors.New("its alias is not tapestry's any more (ip -d link show " + name + "), so it is left alone")
		}
		if err == nil && name == tap && hosts == nil {
			hosts = p.hostAddrs(l) // of a port that no record names
		}
		if err == nil {
			err = p.LinkDel(l)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove link %s: %w", name, explain(err, "")))
		}
	}
	if hosts != nil {
		errs = append(errs, p.removeHostRules(tap, hosts))
	}
	return errors.Join(errs...)
}

// Found is what exists of one endpoint in the daemon's namespace.
type Found struct {
	TAP, Outer, Inner bool
	Overruns          uint64 // frames that were dropped since the TAP's queue was full
}

// List finds the links whose tag begins with prefix, by the rest of the tag.
func List(prefix string) (map[string]Found, error) {
	links, err := linkList()
	if err != nil {
		return nil, err
	}
	m := make(map[string]Found)
	for _, l := range links {
		a := l.Attrs()
		id, ok := strings.CutPrefix(a.Alias, prefix)
		if !ok {
			continue
		}
		f := m[id]
		switch tap, outer, inner := Names(id); a.Name {
		case tap:
			f.TAP = true
			if s := l.Attrs().Statistics; s != nil {
				f.Overruns = s.TxDropped
			}
		case outer:
			f.Outer = true
		case inner:
			f.Inner = true
		default:
			continue
		}
		m[id] = f
	}
	return m, nil
}

// linkList dumps the links; a dump that was interrupted by a change is repeated.
func linkList() (links []netlink.Link, err error) {
	for range 10 {
		links, err = netlink.LinkList()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list links: %w", explain(err, ""))
	}
	return links, nil
}

func (p *linkSetup) find(name string) (netlink.Link, error) {
	l, err := p.LinkByName(name)
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("look for link %s: %w", name, explain(err, ""))
	}
	return l, err
}

func gone(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, unix.ENODEV)
}

// ours tells whether we made l. A link with our name and without an alias is ours, too: a process has ended between making
// and tagging it.
func (s *Spec) ours(l netlink.Link) bool {
	a := l.Attrs().Alias
	return a == s.Tag || a == ""
}

func (p *linkSetup) ensureVeth() error {
	_, outer, inner := Names(p.ID)
	l, err := p.find(outer)
	if gone(err) {
		at := netlink.NewLinkAttrs()
		at.Name, at.MTU, at.TxQLen = outer, p.MTU, 1000
		v := &netlink.Veth{LinkAttrs: at, PeerName: inner, PeerTxQLen: -1, PeerHardwareAddr: net.HardwareAddr(p.MAC[:])}
		if err := p.LinkAdd(v); errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make veth %s and %s: there is a link %s already: see whose it is (ip -d link show %s), and rename or remove it (%w)", outer, inner, inner, inner, err)
		} else if err != nil {
			return fmt.Errorf("make veth %s and %s: %w", outer, inner, explain(err, "veth"))
		}
		l, err = p.find(outer)
	}
	if err != nil {
		return err
	}
	return p.completeVeth(l)
}

// completeVeth configures both ends of a veth. Once Docker has moved the container's end, only the host's end is changed.
func (p *linkSetup) completeVeth(l netlink.Link) error {
	_, outer, inner := Names(p.ID)
	if !p.ours(l) {
		return fmt.Errorf("link %s exists and is not ours (alias %q): rename or remove it, tapestry needs the name", outer, l.Attrs().Alias)
	}
	if err := p.setMTU(l); err != nil {
		return err
	}
	peer, err := p.find(inner)
	if err == nil && p.ours(peer) {
		if err := p.LinkSetAlias(peer, p.Tag); err != nil {
			return fmt.Errorf("tag link %s: %w", inner, explain(err, ""))
		}
		if err := errors.Join(p.setMTU(peer), p.limitGSO(peer)); err != nil {
			return err
		}
	} else if err != nil && !gone(err) {
		return err
	}
	return p.bringUp(l)
}

func (p *linkSetup) setMTU(l netlink.Link) error {
	if l.Attrs().MTU == p.MTU {
		return nil
	}
	if err := p.LinkSetMTU(l, p.MTU); err != nil {
		return fmt.Errorf("set MTU %d on %s: %w", p.MTU, l.Attrs().Name, explain(err, ""))
	}
	return nil
}

// limitGSO sets GSOMax on a link, so that each super-frame of the container fits one send.
func (p *linkSetup) limitGSO(l netlink.Link) error {
	if p.GSOMax == 0 {
		return nil
	}
	if err := p.LinkSetGSOMaxSize(l, p.GSOMax); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("set gso_max_size of %s: %w", l.Attrs().Name, explain(err, ""))
	}
	return nil
}

// bringUp tags a host end, disables its IPv6 and brings it up.
func (p *linkSetup) bringUp(l netlink.Link) error {
	name := l.Attrs().Name
	if err := p.LinkSetAlias(l, p.Tag); err != nil {
		return fmt.Errorf("tag link %s: %w", name, explain(err, ""))
	}
	if err := p.disableHostIPv6(l); err != nil {
		return err
	}
	if err := p.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring link %s up: %w", name, explain(err, ""))
	}
	return nil
}

// disableHostIPv6 keeps the host from sending IPv6 on the container's segment: no link-local address, no router
// solicitation, no MLD report. If /proc/sys is read-only, only the link-local address is prevented.
func (p *linkSetup) disableHostIPv6(l netlink.Link) error {
	if err := p.disableLinkLocal(l); err != nil {
		return err
	}
	disableIPv6(l.Attrs().Name)
	return nil
}

// disableLinkLocal prevents the automatic link-local IPv6 address of a link.
func (p *linkSetup) disableLinkLocal(l netlink.Link) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE, linux/if_link.h
	if err := p.LinkSetIP6AddrGenMode(l, none); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("disable link-local IPv6 addresses on %s: %w", l.Attrs().Name, explain(err, ""))
	}
	return nil
}

func disableIPv6(link string) {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte("1"), 0)
}

// ensureTAP makes the persistent TAP, and closes the descriptor that made it: the first open queue of a device determines
// whether the device has virtio-net headers, and that must be one that requests them (see openQueue).
func (p *linkSetup) ensureTAP() error {
	name, outer, _ := Names(p.ID)
	l, err := p.find(name)
	if gone(err) {
		w, err := water.New(water.Config{DeviceType: water.TAP,
			PlatformSpecificParams: water.PlatformSpecificParams{Name: name, Persist: true, MultiQueue: true}})
		if err != nil {
			return fmt.Errorf("make tap %s: %w", name, explainNode(node, err))
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("close tap %s: %w", name, err)
		}
		l, err = p.find(name)
		if err != nil {
			return err
		}
		// A multi-queue TAP gets a qdisc of 16 KiB and more for each of 256 possible queues, which are 7 MB of kernel
		// memory. The TAP's own ring is enough of a queue.
		none := &netlink.GenericQdisc{QdiscType: "noqueue", QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT}}
		if err := p.QdiscReplace(none); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOENT) { // a kernel without tc
			return fmt.Errorf("set qdisc noqueue on tap %s: %w", name, explain(err, ""))
		}
	} else if err != nil {
		return err
	}
	if !p.ours(l) {
		return fmt.Errorf("link %s exists and is not ours (alias %q): rename or remove it, tapestry needs the name", name, l.Attrs().Alias)
	}
	if err := p.setMTU(l); err != nil {
		return err
	}
	if p.Mode == Direct {
		if err := p.LinkSetAlias(l, p.Tag); err != nil {
			return fmt.Errorf("tag link %s: %w", name, explain(err, ""))
		}
		if err := p.LinkSetHardwareAddr(l, net.HardwareAddr(p.MAC[:])); err != nil {
			return fmt.Errorf("set address %s on %s: %w", p.MAC, name, explain(err, ""))
		}
		if err := p.limitGSO(l); err != nil || p.Host == nil {
			return err // Docker brings up a container's link
		}
		return p.configureHostPort(l)
	}
	if err := p.bringUp(l); err != nil {
		return err
	}
	o, err := p.find(outer)
	if err != nil {
		return err
	}
	return errors.Join(p.redirect(o, l), p.redirect(l, o))
}

func (s *Spec) open() (*Device, error) {
	tap, outer, _ := Names(s.ID)
	d, err := openQueues(tap, s.Queues)
	if err != nil || s.Mode != Veth {
		return d, err
	}
	if err := d.carrier.watchVeth(outer); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openInSandbox opens a TAP that Docker has moved into the container, and renamed there. The kernel looks for a TAP in the
// namespace in which /dev/net/tun was opened, so the thread enters that of the container.
func (s *Spec) openInSandbox() (d *Device, err error) {
	if s.Sandbox == "" {
		return nil, ErrGone
	}
	err = inNamespace(s.Sandbox, func() error {
		links, err := linkList()
		if err != nil {
			return err
		}
		name := s.findTagged(links)
		if name == "" {
			return ErrGone
		}
		d, err = openQueues(name, s.Queues)
		return err
	})
	return d, err
}

// findTagged finds the TAP in a container by its tag. The container may have changed that: then by its MAC, among TAPs
// without a tag of ours.
func (s *Spec) findTagged(links []netlink.Link) (name string) {
	for _, l := range links {
		a := l.Attrs()
		if _, is := l.(*netlink.Tuntap); !is {
			continue
		}
		if a.Alias == s.Tag {
			return a.Name
		}
		if bytes.Equal(a.HardwareAddr, s.MAC[:]) && !strings.HasPrefix(a.Alias, "tapestry:") {
			name = a.Name
		}
	}
	return name
}

// inNamespace runs fn on a thread in the network namespace at path. ErrGone if that does not exist.
func inNamespace(path string, fn func() error) error {
	ns, err := netns.GetFromPath(path)
	if errors.Is(err, os.ErrNotExist) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, explainNamespace(err))
	}
	defer ns.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := netns.Set(ns); err != nil {
			if errors.Is(err, unix.EINVAL) { // the namespace was unmounted, and an empty file is left
				err = ErrGone
			}
			done <- fmt.Errorf("enter namespace %s: %w", path, explainNamespace(err))
			return
		}
		done <- fn()
	}()
	return <-done
}

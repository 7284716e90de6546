package tap

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
)

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

// limitGSO sets GSOMax on a link, so that each super-frame of the container fits one send, and how many segments it may have at most.
func (p *linkSetup) limitGSO(l netlink.Link) error {
	if err := p.LinkSetGSOMaxSegs(l, ether.MaxSegments); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("set gso_max_segs of %s: %w", l.Attrs().Name, explain(err, ""))
	}
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

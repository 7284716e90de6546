package tap

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// redirectModules are the kernel modules for redirects, and what to do if a kernel lacks them.
const redirectModules = "sch_ingress cls_u32 act_mirred; or make networks with -o tapestry.attach=tap"

// redirect makes the kernel send everything that from receives by to, before the host's stack sees it. A filter whose
// target does not exist any more drops every frame without counting it, so anything but the right filter is removed first.
func (p *linkSetup) redirect(from, to netlink.Link) error {
	index, name := from.Attrs().Index, from.Attrs().Name
	qdisc := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	err := p.QdiscAdd(qdisc)
	if errors.Is(err, unix.EEXIST) {
		if p.redirected(from, to) {
			return nil
		}
		if err = p.QdiscDel(qdisc); err == nil {
			err = p.QdiscAdd(qdisc)
		}
	}
	if err != nil {
		return fmt.Errorf("add ingress qdisc to %s: %w", name, explain(err, redirectModules))
	}
	filter := &netlink.U32{
		// No key, not even one with an empty mask: a key needs four bytes behind the Ethernet header, and a shorter frame
		// would not match and be lost without a count (u32_classify in net/sched/cls_u32.c).
		Sel:         &nl.TcU32Sel{Flags: nl.TC_U32_TERMINAL},
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{netlink.NewMirredAction(to.Attrs().Index)},
	}
	if err := p.FilterAdd(filter); err != nil {
		return fmt.Errorf("redirect %s to %s: %w", name, to.Attrs().Name, explain(err, redirectModules))
	}
	return nil
}

func (p *linkSetup) redirected(from, to netlink.Link) bool {
	filters, err := p.FilterList(from, netlink.MakeHandle(0xffff, 0))
	if err != nil {
		return false
	}
	n, right := 0, false
	for _, f := range filters {
		u, ok := f.(*netlink.U32)
		if !ok {
			return false
		}
		everything := u.Protocol == unix.ETH_P_ALL && u.Sel != nil && u.Sel.Nkeys == 0
		for _, a := range u.Actions {
			n++
			m, ok := a.(*netlink.MirredAction)
			right = ok && everything && m.Ifindex == to.Attrs().Index && m.MirredAction == netlink.TCA_EGRESS_REDIR
		}
	}
	return n == 1 && right
}

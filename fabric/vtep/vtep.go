// Package vtep is this host's end of every tunnel together with the workers that read it.
package vtep

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/poll"
	"github.com/tapestry-net/tapestry/tunnel"
)

// A VTEP is open from Open to Close.
type VTEP struct {
	*tunnel.VTEP
	handles []*poll.Handle // of the receivers that Listen opened
	watch   Watch
}

// Open opens the VXLAN socket at an address of this host, which the workers of p read from then on. failed is told the error that
// ends the reading of a socket. The error names who has the port, and what to do if no link has the address.
func Open(at netip.AddrPort, completeChecksums bool, p *poll.Poller, failed func(error)) (*VTEP, error) {
	if _, err := tunnel.Underlay(at.Addr()); errors.Is(err, tunnel.ErrNoAddress) {
		return nil, fmt.Errorf("open the tunnel: %w: give it to one, lo will do, or start tapestry with another --vtep", err)
	}
	t, err := tunnel.Listen(at, p.Workers())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("UDP port %d is taken by %s: start tapestry with another --vxlan-port on every host, or free this one", at.Port(), tunnel.PortUser(at.Port()))
	}
	if err != nil {
		return nil, fmt.Errorf("open the tunnel: %w", err)
	}
	t.CompleteChecksums = completeChecksums
	v := &VTEP{VTEP: t}
	for i, r := range t.Receivers() {
		h, err := p.Add(r, i, failed)
		if err != nil {
			return nil, errors.Join(err, v.Close(p.Sync))
		}
		v.handles = append(v.handles, h)
	}
	later := 0
	t.StartReceiver = func(r *tunnel.Receiver) (func(), error) {
		later++
		h, err := p.Add(r, later, failed)
		if err != nil {
			return nil, err
		}
		return h.Remove, nil
	}
	return v, nil
}

// Elsewhere is the address where the tunnel would be better, see Watch.
func (v *VTEP) Elsewhere(down error) (to netip.Addr, better bool) {
	return v.watch.Elsewhere(v.Local.Addr(), down)
}

// Close closes the sockets. sync returns when nobody sends by them any more.
func (v *VTEP) Close(sync func()) error {
	for _, h := range v.handles {
		h.Remove()
	}
	sync() // from here on nobody sends
	return v.VTEP.Close()
}

// A Watch looks whether this host would be reached better at another address than its own.
type Watch struct {
	down bool // at the last look
}

// Elsewhere is that address: the default route's, if the own one was useless at the last look, and still is: down is why. It is of the same IP
// version.
func (w *Watch) Elsewhere(own netip.Addr, down error) (to netip.Addr, better bool) {
	before := w.down
	if w.down = down != nil; !w.down || !before {
		return to, false
	}
	to, err := tunnel.DefaultAddr()
	return to, err == nil && to != own && to.Is4() == own.Is4()
}

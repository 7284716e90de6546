// Package vtep is this host's end of every tunnel together with the workers that read it.
package vtep

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/poll"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Settings are what does not depend on the address.
type Settings struct {
	Port              uint16
	CompleteChecksums bool // see tunnel.VTEP
	Poller            *poll.Poller
	Failed            chan<- error                    // gets the error that ends the reading of a socket, if there is room
	OnFits            func(host netip.Addr, fits int) // see tunnel.VTEP
}

// A VTEP is open from Open to Close, at its main address and maybe at a second one. The methods that ask it something, and JoinAgain, may be
// called of nil: it is closed.
type VTEP struct {
	*tunnel.VTEP       // at the main address
	SecondWhy    error // why it is not open at its second address although it is to be
	second       *VTEP // nil: not open, or there is to be none
	settings     Settings
	handles      []*poll.Handle // of the receivers that Listen opened
	watch        Watch
}

// Open opens the VXLAN socket at an address of this host, which the workers read from then on. The error names who has the port, and
// what to do if no link has the address.
func (s Settings) Open(addr netip.Addr) (*VTEP, error) {
	if _, err := tunnel.Underlay(addr); errors.Is(err, tunnel.ErrNoAddress) {
		return nil, fmt.Errorf("open the tunnel: %w: give it to one, lo will do, or start tapestry with another --vtep", err)
	}
	at, p := netip.AddrPortFrom(addr, s.Port), s.Poller
	t, err := tunnel.Listen(at, p.Workers())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("UDP port %d is taken by %s: start tapestry with another --vxlan-port on every host, or free this one", at.Port(), tunnel.PortUser(at.Port()))
	}
	if err != nil {
		return nil, fmt.Errorf("open the tunnel: %w", err)
	}
	t.CompleteChecksums, t.OnFits = s.CompleteChecksums, s.OnFits
	failed := func(err error) {
		select {
		case s.Failed <- err:
		default: // the first error is told
		}
	}
	v := &VTEP{VTEP: t, settings: s}
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

// Peers are the other hosts.
func (v *VTEP) Peers() []*tunnel.Peer {
	if v == nil {
		return nil
	}
	return append(v.VTEP.Peers(), v.second.Peers()...)
}

// ByHost are the other hosts by address.
func (v *VTEP) ByHost() map[netip.Addr]*tunnel.Peer {
	all := make(map[netip.Addr]*tunnel.Peer)
	for _, p := range v.Peers() {
		all[p.Host.Addr()] = p
	}
	return all
}

// JoinAgain joins multicast groups again if the underlay's link was made anew.
func (v *VTEP) JoinAgain(log *slog.Logger) {
	if v == nil {
		return
	}
	switch moved, err := v.Rejoin(); {
	case err != nil && !errors.Is(err, tunnel.ErrNoAddress): // without an address, there is no tunnel soon, which is said
		log.Warn("multicast groups are not joined on the link that has the tunnel's address now: it is tried again", "vtep", v.Local, "err", err)
	case moved:
		log.Info("multicast groups joined again: the tunnel's address is on another link", "vtep", v.Local)
	}
	v.second.JoinAgain(log)
}

// Elsewhere is the address where the tunnel would be better, see Watch.
func (v *VTEP) Elsewhere(down error) (to netip.Addr, better bool) {
	return v.watch.Elsewhere(v.Local.Addr(), down)
}

// Close closes the sockets. sync returns when nobody sends by them any more.
func (v *VTEP) Close(sync func()) error {
	if v == nil {
		return nil
	}
	second := v.second.Close(sync)
	for _, h := range v.handles {
		h.Remove()
	}
	sync() // from here on nobody sends
	return errors.Join(second, v.VTEP.Close())
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

package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
)

const (
	lookAgain      = time.Second // for bridges that come and go
	maxConnections = 256         // over TCP, at each address
)

// bridges are the addresses at which a container reaches this host by Docker's own bridges, with the port of DNS.
func bridges() (all []netip.AddrPort) {
	for _, name := range []string{"docker0", "docker_gwbridge"} {
		link, err := net.InterfaceByName(name)
		if err != nil {
			continue
		}
		addrs, _ := link.Addrs() // of a bridge that goes just now there are none
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				all = append(all, netip.AddrPortFrom(p.Addr(), 53))
			}
		}
	}
	return all
}

// A listener is one address at which questions are answered.
type listener struct {
	at      netip.AddrPort // as it is wanted
	bound   netip.AddrPort // with the port that it has
	servers [2]*dns.Server // for UDP and TCP
	ended   [2]chan struct{}
}

// listen opens an address, for UDP and TCP.
func (s *server) listen(at netip.AddrPort) (*listener, error) {
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, cannotListen(at, err)
	}
	bound := netip.AddrPortFrom(at.Addr(), u.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	t, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bound))
	if err != nil {
		return nil, errors.Join(cannotListen(at, err), u.Close())
	}
	l := &listener{at: at, bound: bound, ended: [2]chan struct{}{make(chan struct{}), make(chan struct{})}}
	invalid := func([]byte, error) { s.count.malformed.Add(1) }
	l.servers = [2]*dns.Server{{PacketConn: u, Handler: s, UDPSize: 4096, MsgInvalidFunc: invalid},
		{Listener: netutil.LimitListener(t, maxConnections), Handler: s, MsgInvalidFunc: invalid}}
	for i, d := range l.servers {
		started := make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(l.ended[i])
			if err := d.ActivateAndServe(); err != nil {
				s.cfg.Log.Error("an address is not answered at any more; tried again", "addr", bound, "err", err)
			}
		}()
		select {
		case <-started:
		case <-l.ended[i]:
		}
	}
	s.cfg.Log.Info("answering", "addr", bound)
	return l, nil
}

// dead tells whether one of its servers has ended by itself.
func (l *listener) dead() bool {
	for _, ended := range l.ended {
		select {
		case <-ended:
			return true
		default:
		}
	}
	return false
}

func cannotListen(at netip.AddrPort, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = ": another DNS server has it: see ss -lnp sport = " + fmt.Sprint(at.Port()) + ", and name another address by --listen ADDR:PORT"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = ": it is no address of this host"
	case errors.Is(err, syscall.EACCES):
		hint = ": run it as root"
	}
	return fmt.Errorf("listen at %s: %w%s", at, err, hint)
}

// close ends a listener after the questions that are under way, or when ctx ends.
func (l *listener) close(ctx context.Context) {
	for i, d := range l.servers {
		if d.ShutdownContext(ctx) != nil && d.PacketConn != nil { // ctx has ended, or the server has
			_ = d.PacketConn.Close()
		} else if d.Listener != nil {
			_ = d.Listener.Close()
		}
		<-l.ended[i]
	}
}

// listening are the addresses at which questions are answered now.
func (s *server) listening() (all []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		all = append(all, l.bound)
	}
	return all
}

// open listens at the addresses that are wanted now and ends at others. It returns errors of those that cannot be opened.
func (s *server) open(ctx context.Context, wanted []netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = slices.DeleteFunc(s.listeners, func(l *listener) bool {
		if slices.Contains(wanted, l.at) && !l.dead() {
			return false
		}
		l.close(ctx)
		s.cfg.Log.Info("not answering any more", "addr", l.at)
		return true
	})
	var failed []error
	for _, at := range wanted {
		if slices.ContainsFunc(s.listeners, func(l *listener) bool { return l.at == at }) {
			continue
		}
		l, err := s.listen(at)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		s.listeners = append(s.listeners, l)
	}
	return errors.Join(failed...)
}

// followAddresses listens at addresses that come, and ends with those that go, until ctx ends.
func (s *server) followAddresses(ctx context.Context) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	said := ""
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		before := s.listening()
		said = s.warnOnce(said, "an address is not answered at; tried again", s.open(ctx, s.find()))
		if !slices.Equal(before, s.listening()) {
			s.loadServers()
		}
	}
}

package resolver

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	answerWithin = 3500 * time.Millisecond // Docker's resolver gives up after 4 s
	nextAfter    = time.Second             // of silence: another server is asked as well
	readAgain    = time.Second             // resolv.conf
)

// ask asks servers, in order: the next one when one has failed, or has been silent for a while; each twice at most, for datagrams are lost.
// It returns the first answer; nil if none came before ctx ended. A server's "I cannot" counts when no other says more.
func (s *server) ask(ctx context.Context, servers []netip.AddrPort, r *dns.Msg, tcp bool) (poor *dns.Msg) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attempts := 2 * len(servers)
	answers := make(chan *dns.Msg, attempts)
	next := time.NewTicker(nextAfter)
	defer next.Stop()
	begun, ended := 0, 0
	begin := func() {
		if begun < attempts {
			to := servers[begun%len(servers)]
			begun++
			go func() { answers <- s.exchange(ctx, to, r, tcp) }()
		}
	}
	for begin(); ended < begun; {
		select {
		case <-ctx.Done():
			return poor
		case <-next.C:
			begin()
		case m := <-answers:
			ended++
			if m != nil && m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeRefused {
				return m
			}
			poor = cmp.Or(poor, m)
			if begun < len(servers) { // one that has said no would say it again
				begin()
				next.Reset(nextAfter)
			}
		}
	}
	return poor
}

// exchange asks one server until ctx ends, over UDP, and over TCP if the answer is truncated; or over TCP at once. nil: no answer.
func (s *server) exchange(ctx context.Context, to netip.AddrPort, r *dns.Msg, tcp bool) *dns.Msg {
	if tcp {
		return s.exchangeOver(ctx, "tcp", to, r)
	}
	m := s.exchangeOver(ctx, "udp", to, r)
	if m != nil && m.Truncated {
		m = cmp.Or(s.exchangeOver(ctx, "tcp", to, r), m)
	}
	return m
}

func (s *server) exchangeOver(ctx context.Context, network string, to netip.AddrPort, r *dns.Msg) *dns.Msg {
	c, err := new(net.Dialer).DialContext(ctx, network, to.String())
	if err != nil {
		return nil
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	q := r.Copy()
	q.Id = dns.Id()
	conn := &dns.Conn{Conn: c, UDPSize: 4096}
	if o := q.IsEdns0(); o != nil {
		conn.UDPSize = max(conn.UDPSize, o.UDPSize())
	}
	if conn.WriteMsg(q) != nil {
		return nil
	}
	for {
		m, err := conn.ReadMsg()
		var broken net.Error
		if errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err == nil && answers(q, m) {
			m.Id = r.Id
			return m
		}
		s.count.mismatched.Add(1) // somebody else's, who may want to be believed: the server's own may still come
		if network == "tcp" {
			return nil
		}
	}
}

// answers tells whether m is an answer to q. A server that has not understood q may leave the question out.
func answers(q, m *dns.Msg) bool {
	if !m.Response || m.Id != q.Id || m.Opcode != q.Opcode {
		return false
	}
	if len(m.Question) == 0 {
		return m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError
	}
	a, b := q.Question[0], m.Question[0]
	return len(m.Question) == 1 && a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// readServers reads the host's own servers, as resolv.conf(5) has them.
func readServers(path string) (servers []netip.AddrPort, err error) {
	c, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, err
	}
	for _, text := range c.Servers {
		if a, err := netip.ParseAddr(text); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, 53))
		}
	}
	return servers, nil
}

// watchServers reads resolv.conf anew when it has changed, until ctx ends.
func (s *server) watchServers(ctx context.Context) {
	tick := time.NewTicker(readAgain)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			now, err := os.Stat(s.cfg.ResolvConf)
			was := s.read.Load()
			if err == nil && (was == nil || !os.SameFile(*was, now) || now.ModTime() != (*was).ModTime() || now.Size() != (*was).Size()) {
				s.loadServers()
			}
		}
	}
}

// loadServers makes what --upstream or resolv.conf names the servers that are asked, without this one itself.
func (s *server) loadServers() {
	all := s.cfg.Upstream
	if len(all) == 0 {
		if now, err := os.Stat(s.cfg.ResolvConf); err == nil { // before it is read: a change meanwhile is one
			s.read.Store(&now)
		}
		var err error
		if all, err = readServers(s.cfg.ResolvConf); err != nil {
			s.cfg.Log.Warn("the host's own servers stay as they were", "err", err)
			return
		}
	}
	own := s.listening()
	others := slices.DeleteFunc(slices.Clone(all), func(a netip.AddrPort) bool {
		return slices.ContainsFunc(own, func(o netip.AddrPort) bool { return same(o, a) })
	})
	if old := s.servers.Swap(&others); len(others) > 0 && slices.Equal(*old, others) {
		return
	}
	if len(others) == 0 {
		s.cfg.Log.Warn("there is no server to hand other questions on to: they fail", "file", s.cfg.ResolvConf)
		return
	}
	s.cfg.Log.Info("other questions are handed on", "servers", others)
}

// same tells whether what is sent to a reaches somebody who listens at l.
func same(l, a netip.AddrPort) bool {
	if l.Port() != a.Port() {
		return false
	}
	if !l.Addr().IsUnspecified() {
		return l.Addr().Unmap() == a.Addr().Unmap()
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		slog.Debug("no addresses", "err", err)
	}
	return a.Addr().IsLoopback() || slices.ContainsFunc(own, func(o net.Addr) bool {
		p, err := netip.ParsePrefix(o.String())
		return err == nil && p.Addr() == a.Addr().Unmap()
	})
}

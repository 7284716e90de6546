package resolver

import (
	"context"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"strings"

	"github.com/miekg/dns"
)

const (
	ttl     = 1    // seconds: who keeps an answer for longer would find containers that have ended
	udpSize = 1232 // bytes that are sent in one datagram, if the other side takes as many: they pass every path (dnsflagday.net/2020)
)

// ServeDNS answers one question. It is a dns.Handler.
func (s *server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	defer func() {
		if p := recover(); p != nil {
			s.count.failed.Add(1)
			s.cfg.Log.Error("a question was not answered", "err", p, "stack", string(debug.Stack()))
		}
	}()
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	if m := s.reply(r, tcp); w.WriteMsg(m) != nil {
		s.count.failed.Add(1)
	}
}

// reply is the answer to a question, as long as the one who asks takes.
func (s *server) reply(r *dns.Msg, tcp bool) *dns.Msg {
	size := dns.MaxMsgSize
	if !tcp {
		size = dns.MinMsgSize
		if o := r.IsEdns0(); o != nil {
			size = max(size, int(o.UDPSize()))
		}
	}
	m := refusal(r)
	if m == nil {
		m = answer(s.table.Load(), r)
		if m == nil {
			m = s.handOn(r, tcp)
		} else {
			s.count.answered.Add(1)
			if !tcp {
				size = min(size, udpSize)
			}
		}
	}
	m.Truncate(size)
	return m
}

// refusal is the answer to what is no question; nil: it is one.
func refusal(r *dns.Msg) *dns.Msg {
	switch o := r.IsEdns0(); {
	case r.Opcode != dns.OpcodeQuery:
		return new(dns.Msg).SetRcode(r, dns.RcodeNotImplemented)
	case len(r.Question) != 1:
		return new(dns.Msg).SetRcode(r, dns.RcodeFormatError)
	case o != nil && o.Version() != 0: // RFC 6891 section 6.1.3
		m := new(dns.Msg).SetEdns0(udpSize, o.Do())
		m.SetRcode(r, dns.RcodeBadVers)
		return m
	}
	return nil
}

// answer is what the table says of a question; nil: nothing.
func answer(t *table, r *dns.Msg) *dns.Msg {
	q := r.Question[0]
	if q.Qclass != dns.ClassINET {
		return nil
	}
	head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	var found []dns.RR
	if a, ok := reverseAddr(name); ok {
		names := t.namesOf(a)
		if len(names) == 0 {
			return nil
		}
		for _, n := range names {
			if q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY {
				head.Rrtype = dns.TypePTR
				found = append(found, &dns.PTR{Hdr: head, Ptr: n + "."})
			}
		}
	} else {
		addrs, ok := t.find(name)
		if !ok {
			return nil
		}
		for _, a := range addrs {
			switch {
			case a.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
				head.Rrtype = dns.TypeA
				found = append(found, &dns.A{Hdr: head, A: a.AsSlice()})
			case a.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
				head.Rrtype = dns.TypeAAAA
				found = append(found, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
			}
		}
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] }) // of several containers each gets its share
	}
	m := new(dns.Msg).SetReply(r)
	m.Authoritative, m.RecursionAvailable, m.Answer = true, true, found
	if o := r.IsEdns0(); o != nil {
		m.SetEdns0(udpSize, o.Do())
	}
	return m
}

// handOn asks the host's own servers.
func (s *server) handOn(r *dns.Msg, tcp bool) *dns.Msg {
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		s.count.limited.Add(1)
		return failure(r)
	}
	ctx, cancel := context.WithTimeout(s.ctx, answerWithin)
	defer cancel()
	m := s.ask(ctx, *s.servers.Load(), r, tcp)
	if m == nil {
		s.count.unanswered.Add(1)
		return failure(r)
	}
	s.count.handedOn.Add(1)
	m.Compress = true
	return m
}

func failure(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
	m.RecursionAvailable = true
	return m
}

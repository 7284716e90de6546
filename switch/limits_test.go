package vswitch

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// counted takes everything.
type counted struct{}

func (counted) Send(frames []*ether.Frame) (sent, bytes int) {
	for _, f := range frames {
		bytes += f.Len()
	}
	return len(frames), bytes
}

// offer lets in receive twice what rate allows, for as long, in portions each of which is offered in no time.
func offer(in *Port, f ether.Frame, rate int64, portion, length time.Duration) {
	owed := int64(0)
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(portion) {
		owed += 2 * rate * int64(portion) / int64(time.Second)
		n := owed / int64(f.Len())
		owed -= n * int64(f.Len())
		in.Ingress(slices.Repeat([]ether.Frame{f}, int(n)))
	}
}

// A port receives at its rate, and is sent to at its rate, whatever is offered: ordinary frames, super-frames, floods, also after a silence.
func TestRate(t *testing.T) {
	const rate = 12_500_000 // 100 Mbit/s
	for _, tc := range []struct {
		name  string
		frame ether.Frame
		to    bool // it is sent to
	}{
		{"frames from it", sized(mac(1), mac(2), 0, 1514), false},
		{"super-frames from it", super(mac(1), mac(2), 60000, 1400), false},
		{"broadcast from it", sized(mac(1), broadcast, 0, 1514), false},
		{"frames to it", sized(mac(2), mac(1), 0, 1514), true},
		{"super-frames to it", super(mac(2), mac(1), 60000, 1400), true},
		{"broadcast to it", sized(mac(2), broadcast, 0, 1514), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{})
				p, q := s.Attach("limited", counted{}, false, plenty), s.Attach("free", counted{}, false, plenty)
				p.Pin(mac(1))
				q.Pin(mac(2))
				p.SetPolicy(&Policy{Rate: rate})
				in, out := p, q
				if tc.to {
					in, out = q, p
				}
				for _, length := range []time.Duration{time.Second, 10 * time.Second} {
					time.Sleep(time.Hour) // silence
					before := out.Stats().TxBytes
					offer(in, tc.frame, rate, 3*time.Millisecond, length)
					got := float64(out.Stats().TxBytes - before)
					if least, most := rate*length.Seconds(), rate*(length+rateDepth).Seconds()+float64(tc.frame.Len()); got < least || got > most {
						t.Errorf("%v: %.0f bytes passed, want %.0f to %.0f", length, got, least, most)
					}
				}
				if got := s.Tally(); (got[Rate] == 0) != (tc.to && got[Flooded] > 0) { // a flood is refused by the port
					t.Errorf("verdicts %v", got)
				}
			})
		})
	}
}

// In a day a limit lets pass what it allows in a day, and what is learned, held and counted comes and goes as in a minute.
func TestDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, storm, day = 125_000, 10, 24 * time.Hour
		s := New(Config{Start: time.Hour})
		p, q := s.Attach("limited", counted{}, false, plenty), s.Attach("free", counted{}, false, plenty)
		p.Pin(mac(1))
		q.Pin(mac(2))
		p.SetPolicy(&Policy{Rate: rate})
		q.SetPolicy(&Policy{Storm: storm})
		began := time.Now()
		flooded, aged, held := 0, 0, 0
		for now := time.Duration(0); now < day; now += time.Second {
			s.Tick(time.Hour + now)
			for range 2 * storm {
				if v := q.Inject(frame(mac(2), broadcast, 0)); v == Flooded {
					flooded++
				} else if v != Storm {
					t.Fatalf("after %v: a broadcast was %s", now, v)
				}
			}
			switch second := int(now / time.Second); second % 1000 {
			case 0: // a station is seen, once, and one flaps
				q.Inject(frame(mac(5), mac(5), 0))
				for range flapMoves {
					p.Inject(frame(mac(6), mac(6), 0))
					q.Inject(frame(mac(6), mac(6), 0))
				}
			case flapHold - 1:
				if s.station(mac(6)).isHeld(s.now.Load()) {
					held++
				}
			case flapHold:
				if s.station(mac(6)).isHeld(s.now.Load()) {
					t.Fatalf("after %v: held for ever", now)
				}
			case 299:
				if s.at(5) != q {
					t.Fatalf("after %v: forgotten too soon", now)
				}
			case 300:
				if s.at(5) == nil {
					aged++
				}
			}
			offer(p, sized(mac(1), mac(2), 0, 1514), rate, 50*time.Millisecond, time.Second)
		}
		if n := int(day / time.Second); flooded != n*storm || aged != (n+699)/1000 || held != (n+970)/1000 {
			t.Errorf("%d were flooded, want %d; %d times aged, %d times held", flooded, n*storm, aged, held)
		}
		passed, took := float64(q.Stats().TxBytes), time.Since(began)
		if took < day || took > day+time.Minute || passed < rate*took.Seconds()*0.999 || passed > rate*(took+time.Second).Seconds() {
			t.Errorf("%.0f bytes passed in %v, want %.0f", passed, took, rate*took.Seconds())
		}
		balanced(t, s)
	})
}

// Of what a port floods too much nobody hears; what it sends to one station passes, and what others flood.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		p, _ := attach(s, "loud", false)
		q, _ := attach(s, "quiet", false)
		q.Pin(mac(2))
		p.SetPolicy(&Policy{Storm: 3})
		for second := range 3 {
			for i, dst := range []ether.MAC{broadcast, {1, 0, 0x5e, 0, 0, 1}, mac(99), broadcast, mac(98)} {
				want := Flooded
				if i >= 3 {
					want = Storm
				}
				if v := p.Inject(frame(mac(1), dst, i)); v != want {
					t.Errorf("flood %d of second %d: %s, want %s", i, second, v, want)
				}
			}
			if v := p.Inject(frame(mac(1), mac(2), 0)); v != Forwarded {
				t.Errorf("to one station: %s", v)
			}
			if v := q.Inject(frame(mac(2), broadcast, 0)); v != Flooded {
				t.Errorf("from another port: %s", v)
			}
			time.Sleep(time.Second)
		}
	})
}

// What passes of a storm does not pass at the beginning of each second, but one by one.
func TestStormIsEven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		p := s.Attach("loud", counted{}, false, plenty)
		s.Attach("quiet", counted{}, false, plenty).Pin(mac(2))
		p.SetPolicy(&Policy{Storm: DefaultStorm})
		offered := slices.Repeat([]ether.Frame{frame(mac(1), broadcast, 0)}, 500)
		flooded := func() uint64 { return s.Tally()[Flooded] }
		for ms := range 3000 {
			before := flooded()
			p.Ingress(offered)
			got, want := flooded()-before, uint64(DefaultStorm/1000)
			if ms < stormBurst/450 {
				want = uint64(len(offered))
			}
			if ms != stormBurst/450 && got != want {
				t.Fatalf("in millisecond %d %d frames were flooded, want %d", ms, got, want)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// An isolated port talks with those that it is told, both ways, and with nobody else, whatever asks first and wherever the other is.
func TestIsolated(t *testing.T) {
	friend, stranger := 2, 3
	six := func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}) }
	about := func(src, dst int, v6 bool, tags ...uint16) ether.Frame {
		k := packets.Packet{SrcMAC: mac(src), DstMAC: mac(dst), Src: ip(src), Dst: ip(dst), Tags: tags, Payload: make([]byte, 20)}
		if v6 {
			k.V6, k.Src, k.Dst = true, six(src), six(dst)
		}
		return lent(k.Bytes())
	}
	for _, uplink := range []bool{false, true} {
		for _, other := range []int{friend, stranger} {
			s := New(Config{})
			p, _ := attach(s, "isolated", false)
			q, wq := attach(s, "other", uplink)
			r, _ := attach(s, "third", false)
			for i, port := range map[int]*Port{1: p, other: q} {
				port.Pin(mac(i))
			}
			p.SetPolicy(&Policy{Isolated: true, With: []netip.Prefix{netip.PrefixFrom(ip(friend), 32), netip.PrefixFrom(six(friend), 128)}})
			for name, f := range map[string][2]ether.Frame{ // from it, and to it
				"IPv4":         {about(1, other, false), about(other, 1, false)},
				"IPv6":         {about(1, other, true), about(other, 1, true)},
				"tagged":       {about(1, other, false, 7), about(other, 1, false, 7)},
				"ARP":          {question(1, other), lent(packets.ARP(mac(1), mac(other), 2, ip(other), mac(1), ip(1)))},
				"solicitation": {lent(packets.Solicitation(mac(1), six(1), six(other))), lent(packets.Advertisement(mac(1), mac(other), 0x60, six(other), six(1)))},
			} {
				pass := Verdict(Isolated)
				if other == friend {
					if pass = Forwarded; f[0].Dst().Group() {
						pass = Flooded
					}
				}
				if v := p.Inject(f[0]); v != pass {
					t.Errorf("uplink %t, %s from it to %d: %s, want %s", uplink, name, other, v, pass)
				}
				if pass == Flooded {
					pass = Forwarded
				}
				if v := q.Inject(f[1]); v != pass {
					t.Errorf("uplink %t, %s from %d to it: %s, want %s", uplink, name, other, v, pass)
				}
			}
			ll := func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(i)}) }
			for name, f := range map[string]struct {
				at   *Port
				f    ether.Frame
				want Verdict
			}{
				"is it still there?":   {q, lent(packets.Solicitation(mac(other), ll(other), six(1))), Flooded},
				"it is":                {p, lent(packets.Advertisement(mac(other), mac(1), 0x60, six(1), ll(other))), Forwarded},
				"data to link-local":   {p, lent(packets.Packet{SrcMAC: mac(1), DstMAC: mac(other), V6: true, Src: ll(1), Dst: ll(other), Payload: make([]byte, 20)}.Bytes()), Isolated},
				"data from link-local": {q, lent(packets.Packet{SrcMAC: mac(other), DstMAC: mac(1), V6: true, Src: ll(other), Dst: ll(1), Payload: make([]byte, 20)}.Bytes()), Isolated},
			} {
				refused := p.Stats().Refused
				if v := f.at.Inject(f.f); v != f.want || p.Stats().Refused != refused {
					t.Errorf("uplink %t, %s, with %d: %s, want %s; %d refused", uplink, name, other, v, f.want, p.Stats().Refused-refused)
				}
			}
			before := p.Stats()
			for _, f := range []ether.Frame{frame(mac(1), mac(other), 0), frame(mac(1), broadcast, 0), {}} {
				if v := p.Inject(f); !v.Drop() {
					t.Errorf("what is no IP was %s", v)
				}
			}
			wq.taken()
			q.Ingress([]ether.Frame{question(other, 1), frame(mac(other), broadcast, 0)})
			if got := p.Stats(); got.Tx-before.Tx != map[int]uint64{friend: 1, stranger: 0}[other] || got.Refused-before.Refused != 2-(got.Tx-before.Tx) {
				t.Errorf("of %d's floods %d were sent, %d refused", other, got.Tx-before.Tx, got.Refused-before.Refused)
			}
			if v := r.Inject(about(4, other, false)); v != Forwarded {
				t.Errorf("between others: %s", v)
			}
		}
	}
}

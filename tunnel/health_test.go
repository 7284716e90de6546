package tunnel

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A talk is a prober and a host that answers it, with a wire between: what it does to each batch of datagrams, there and back.
type talk struct {
	prober
	host        burst
	there, back func([]message) []message // nil: nothing
}

// tick is what a second does: returns how many datagrams were sent there.
func (k *talk) tick(t testing.TB, now time.Duration) int {
	carry := func(ms []message, by func([]message) []message) []message {
		if by != nil {
			ms = by(ms)
		}
		for i := range ms {
			var intact bool
			if ms[i], intact, _ = parse(ms[i].frame().Bytes()); !intact {
				t.Fatalf("%+v is not intact", ms[i])
			}
		}
		return ms
	}
	asked := k.step(now, burstMost)
	var echoes []message
	for _, m := range carry(slices.Clone(asked), k.there) {
		if e, ok := k.host.answer(m); ok {
			echoes = append(echoes, e)
		}
	}
	for _, e := range carry(echoes, k.back) {
		k.hear(e)
	}
	return len(asked)
}

// ofBurst has fn do something to a burst only, and not to the question behind it.
func ofBurst(fn func([]message) []message) func([]message) []message {
	return func(ms []message) []message {
		if len(ms) > 0 && ms[0].mode == numbered {
			return fn(ms)
		}
		return ms
	}
}

// TestHealth: what happens to probes and to echoes is counted exactly, and each way by itself.
func TestHealth(t *testing.T) {
	lose := func(n int) func([]message) []message { return ofBurst(func(ms []message) []message { return ms[n:] }) }
	loseLast := func(n int) func([]message) []message {
		return ofBurst(func(ms []message) []message { return ms[:len(ms)-n] })
	}
	twice := ofBurst(func(ms []message) []message { return slices.Insert(ms, 4, ms[3], ms[3]) })
	overtaken := ofBurst(func(ms []message) []message {
		late := ms[0]
		copy(ms, ms[1:6])
		ms[5] = late
		return ms
	})
	none := func([]message) []message { return nil }
	const all, half = burstMost, burstMost / 2
	for name, tt := range map[string]struct {
		there, back func([]message) []message
		want        *Health
	}{
		"nothing happens":      {nil, nil, &Health{Sent: Ways{all, all}}},
		"lost there":           {lose(3), nil, &Health{Sent: Ways{all, all - 3}, Lost: Ways{3, 0}}},
		"the last lost there":  {loseLast(half), nil, &Health{Sent: Ways{all, half}, Lost: Ways{half, 0}}},
		"lost back":            {nil, lose(2), &Health{Sent: Ways{all, all}, Lost: Ways{0, 2}}},
		"the last lost back":   {nil, loseLast(half), &Health{Sent: Ways{all, all}, Lost: Ways{0, half}}},
		"lost both ways":       {lose(5), loseLast(7), &Health{Sent: Ways{all, all - 5}, Lost: Ways{5, 7}}},
		"all probes lost":      {ofBurst(none), nil, &Health{Sent: Ways{all, 0}, Lost: Ways{all, 0}}},
		"all echoes lost":      {nil, ofBurst(none), &Health{Sent: Ways{all, all}, Lost: Ways{0, all}}},
		"nothing there":        {none, nil, &Health{Sent: Ways{all, 0}, Lost: Ways{all, 0}}},
		"nothing back":         {nil, none, &Health{Sent: Ways{all, 0}, Lost: Ways{all, 0}}},
		"twice there":          {twice, nil, &Health{Sent: Ways{all, all}, Duplicated: Ways{2, 0}}},
		"twice back":           {nil, twice, &Health{Sent: Ways{all, all}, Duplicated: Ways{0, 2}}},
		"overtaken there":      {overtaken, nil, &Health{Sent: Ways{all, all}, Reordered: Ways{1, 0}}},
		"overtaken back":       {nil, overtaken, &Health{Sent: Ways{all, all}, Reordered: Ways{0, 1}}},
		"backwards both ways":  {reversed, reversed, &Health{Sent: Ways{all, all}, Reordered: Ways{all - 1, all - 1}}},
		"the questions lost":   {questionsLost, nil, &Health{Sent: Ways{all, all}}},
		"echoes of no probe":   {nil, changed(func(m *message) { m.index += burstMost }), &Health{Sent: Ways{all, all}, Lost: Ways{0, all}}},
		"another's echoes":     {nil, changed(func(m *message) { m.nonce ^= 1 }), &Health{Sent: Ways{all, 0}, Lost: Ways{all, 0}}},
		"short echoes":         {nil, changed(func(m *message) { m.body = nil }), &Health{Sent: Ways{all, 0}, Lost: Ways{all, 0}}},
		"a lie: more than all": {nil, changed(func(m *message) { m.body = tally{seen: all + 1}.encode() }), nil},
		"a lie: fewer":         {nil, changed(func(m *message) { m.body = tally{seen: 1}.encode() }), nil},
		"a lie: out of order":  {nil, changed(func(m *message) { m.body = tally{seen: all, reordered: all + 1}.encode() }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := talk{there: tt.there, back: func(ms []message) []message {
					time.Sleep(time.Millisecond)
					if tt.back != nil {
						return tt.back(ms)
					}
					return ms
				}}
				for now := range 8 {
					k.tick(t, time.Duration(now)*time.Second)
				}
				got := k.health()
				if (got == nil) != (tt.want == nil) {
					t.Fatalf("%+v, want %+v", got, tt.want)
				}
				if got == nil {
					return
				}
				if got.MinRTT > 0 && got.MinRTT != time.Millisecond || got.MaxRTT != got.MinRTT || got.MinRTT == 0 && tt.want.Lost == (Ways{}) && name != "the questions lost" {
					t.Errorf("round trip: %v to %v", got.MinRTT, got.MaxRTT)
				}
				got.MinRTT, got.MaxRTT = 0, 0
				if *got != *tt.want {
					t.Errorf("%+v, want %+v", *got, *tt.want)
				}
			})
		})
	}
}

func reversed(ms []message) []message {
	slices.Reverse(ms)
	return ms
}

func questionsLost(ms []message) []message {
	return slices.DeleteFunc(ms, func(m message) bool { return m.mode == total })
}

func changed(fn func(*message)) func([]message) []message {
	return func(ms []message) []message {
		for i := range ms {
			fn(&ms[i])
		}
		return ms
	}
}

// TestHealthBeganAnew: a host that was restarted within a burst, or that somebody sends another burst, is not said to lose datagrams.
func TestHealthBeganAnew(t *testing.T) {
	k := talk{}
	k.tick(t, 0)
	k.host = burst{}
	for now := range 8 {
		k.tick(t, time.Duration(now+1)*time.Second)
	}
	if h := k.health(); h != nil && h.Lost != (Ways{}) {
		t.Errorf("%+v", h)
	}
	for now := range 8 {
		k.tick(t, burstEvery+time.Duration(now)*time.Second)
	}
	if h := k.health(); h == nil || h.Lost != (Ways{}) {
		t.Errorf("the next burst: %+v", h)
	}
}

// TestHealthDay: through a day of which every other hour loses datagrams, the figures are those of the last minute, and what is sent is little.
func TestHealthDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chance := rand.New(rand.NewPCG(1, 2))
		lossy, all, sent := false, Health{}, 0
		drop := func(ms []message) []message {
			return slices.DeleteFunc(ms, func(message) bool { return lossy && chance.IntN(100) == 0 })
		}
		start, seen := time.Now(), 0
		k := talk{there: drop, back: func(ms []message) []message {
			time.Sleep(20 * time.Millisecond)
			return drop(ms)
		}}
		for time.Since(start) < 24*time.Hour {
			now := time.Since(start)
			lossy = now/time.Hour%2 == 1
			sent += k.tick(t, now)
			time.Sleep(time.Second)
			h := k.health()
			into := now % time.Hour
			switch {
			case h == nil && now > 3*time.Second:
				t.Fatalf("nothing is known after %v", now)
			case h == nil:
				continue
			case h.MinRTT != 20*time.Millisecond || h.MaxRTT != h.MinRTT:
				t.Fatalf("after %v: round trip %v to %v", now, h.MinRTT, h.MaxRTT)
			case !lossy && into > (healthBursts+1)*burstEvery && h.Lost != (Ways{}):
				t.Fatalf("after %v: %+v", now, h)
			case lossy && into > 10*time.Second && into%time.Minute < time.Second:
				all.Sent, all.Lost = all.Sent.plus(h.Sent), all.Lost.plus(h.Lost)
				if into >= 2*time.Minute && h.Lost != (Ways{}) {
					seen++
				}
			}
		}
		if there, back := float64(all.Lost.There)/float64(all.Sent.There), float64(all.Lost.Back)/float64(all.Sent.Back); min(there, back) < .007 || max(there, back) > .013 {
			t.Errorf("%.2f %% and %.2f %% are said to be lost, want 1", 100*there, 100*back)
		}
		t.Logf("a loss of 1 %% is seen in %d of %d minutes; %d datagrams sent, %.1f a second", seen, 12*58, sent, float64(sent)/86400)
		if seen < 12*58*9/10 {
			t.Errorf("a loss of 1 %% is seen in %d of %d minutes", seen, 12*58)
		}
		if sent > 86400/10*(burstMost+3) {
			t.Errorf("%d datagrams in a day", sent)
		}
	})
}

// TestBurstOf: what all bursts take together is bounded.
func TestBurstOf(t *testing.T) {
	for hosts, want := range map[int]int{0: 32, 1: 32, 312: 32, 1000: 10, 10000: 8} {
		if got := burstOf(hosts); got != want {
			t.Errorf("%d hosts: bursts of %d, want %d", hosts, got, want)
		}
	}
}

// TestPeerHealth: both ends find out what the path does to probes and to echoes, and a path that is well shows nothing.
func TestPeerHealth(t *testing.T) {
	p := newPath(t)
	for range 80 {
		p.tick()
	}
	for _, v := range []*VTEP{p.a, p.b} {
		h := v.Peers()[0].State().Health
		if h == nil || h.Sent.There < 5*burstMost || h.Sent.Back != h.Sent.There || h.Lost != (Ways{}) || h.Reordered != (Ways{}) || h.Duplicated != (Ways{}) || h.MinRTT <= 0 || h.MinRTT > h.MaxRTT {
			t.Fatalf("%+v", h)
		}
	}
	count := map[uint8]int{}
	p.single = func(d []byte) bool {
		m, _, _ := parse(d[headerLen:])
		count[m.kind]++
		return m.kind != kindProbe && m.kind != kindEcho || m.mode != numbered || count[m.kind]%8 != 0
	}
	for range 80 {
		p.tick()
	}
	for _, v := range []*VTEP{p.a, p.b} {
		h := v.Peers()[0].State().Health
		if h == nil || !near(h.Lost.There, h.Sent.There, 8) || !near(h.Lost.Back, h.Sent.Back, 8) {
			t.Errorf("a path that loses each eighth: %+v", h)
		}
	}
	p.single = func(d []byte) bool { return false }
	for range 70 {
		p.tick()
	}
	if s := p.state(); s.Result != NoAnswer || s.Health != nil || s.HealthWhy != "no tapestry answers there" {
		t.Errorf("a path that loses all: %+v", s)
	}
}

// near tells whether one in n of all is about part.
func near(part, all, n int) bool { return part*n*4 > all*3 && part*n*4 < all*5 }

// TestPeerOfBefore: a tapestry that does not know of probes gets none, and is understood as ever.
func TestPeerOfBefore(t *testing.T) {
	p := newPath(t)
	probes := 0
	p.single = func(d []byte) bool {
		m, _, _ := parse(d[headerLen:])
		switch m.kind {
		case kindProbe, kindEcho:
			probes++
		case kindAnswer:
			m.features = featureRemoteSum
			m.encode(d[headerLen:])
		}
		return true
	}
	for range 80 {
		p.tick()
	}
	if s := p.state(); s.Result != Good || s.Health != nil || !strings.Contains(s.HealthWhy, "older") || !p.to.Stats().RemoteSum {
		t.Errorf("%+v", s)
	}
	if probes > 0 {
		t.Errorf("%d probes and echoes", probes)
	}
}

// TestHealthLossy: what the kernel's packet filter takes away on a real wire is what the figures say.
func TestHealthLossy(t *testing.T) {
	for _, tt := range []struct{ name, a, b, iptables string }{
		{"IPv4", "192.0.2.1", "192.0.2.2", "iptables"},
		{"IPv6", "fd00:1::1", "fd00:1::2", "ip6tables"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testhost.Tools(t, tt.iptables)
			w := newWire(t)
			a := listen(t, tt.a, 1)
			_, _ = caught(t, a, vni, tt.b)
			var b *VTEP
			w.at(w.there, func() {
				b = listen(t, tt.b, 1)
				_, _ = caught(t, b, vni, tt.a)
			})
			know(t, a, b)
			arena := make([]byte, recvMsgs*recvRoom)
			now := time.Hour
			minutes := func(n int) (all Health) {
				for i := range 60*n + 70 {
					now += time.Second
					for _, v := range []*VTEP{a, b} {
						v.Tick(now)
					}
					for range 2 { // what was sent, and the answers
						settled(t)
						for _, v := range []*VTEP{b, a} {
							for r := v.Receivers()[0]; ; {
								testhost.Must(t, r.Drain(arena))
								if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}, 0); n == 0 {
									break
								}
							}
						}
					}
					if h := a.Peers()[0].State().Health; i > 70 && i%60 == 0 && h != nil {
						all.Sent, all.Lost = all.Sent.plus(h.Sent), all.Lost.plus(h.Lost)
						all.Reordered, all.Duplicated = all.Reordered.plus(h.Reordered), all.Duplicated.plus(h.Duplicated)
					}
				}
				return all
			}
			percent := func(part, all int) float64 { return 100 * float64(part) / float64(max(all, 1)) }
			const rule = "INPUT -p udp --dport 4789 -m statistic --mode random --probability 0.1 -j DROP"
			for _, loss := range []struct {
				name        string
				there, back bool
			}{{"none", false, false}, {"there", true, false}, {"back", false, true}} {
				change := func(how string) {
					if loss.there {
						w.at(w.there, func() { w.sh("%s %s %s", tt.iptables, how, rule) })
					}
					if loss.back {
						w.sh("%s %s %s", tt.iptables, how, rule)
					}
				}
				change("-A")
				h := minutes(12)
				change("-D")
				t.Logf("loss %s: %+v", loss.name, h)
				for _, way := range []struct {
					lost, sent int
					lossy      bool
				}{{h.Lost.There, h.Sent.There, loss.there}, {h.Lost.Back, h.Sent.Back, loss.back}} {
					if p := percent(way.lost, way.sent); way.sent < 2000 || way.lossy && (p < 7 || p > 13) || !way.lossy && p > .5 {
						t.Errorf("loss %s: %.1f %% of %d", loss.name, p, way.sent)
					}
				}
				if h.Reordered != (Ways{}) || h.Duplicated != (Ways{}) {
					t.Errorf("loss %s: %+v", loss.name, h)
				}
			}
		})
	}
}

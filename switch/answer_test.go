package vswitch

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// keeper is a Sender that keeps copies.
type keeper struct{ all [][]byte }

func (k *keeper) Send(frames []*ether.Frame) (sent, n int) {
	for _, f := range frames {
		k.all = append(k.all, bytes.Clone(f.Bytes()))
		n += f.Len()
	}
	return len(frames), n
}

// taken gives what has been sent since it was last asked.
func (k *keeper) taken() [][]byte {
	all := k.all
	k.all = nil
	return all
}

func lent(b []byte) ether.Frame {
	return ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})
}

// six is the i-th station's IPv6 address.
func six(i int) netip.Addr {
	b := netip.MustParseAddr("fd00::").As16()
	b[14], b[15] = byte(i>>8), byte(i)
	return netip.AddrFrom16(b)
}

// A question for a station that is vouched for is answered to who asks, and nobody else gets anything; all other questions are flooded.
func TestAnswers(t *testing.T) {
	s := New(Config{})
	var a, b keeper
	in := s.Attach("a", &a, false, plenty)
	up, wup := attach(s, "up", true)
	other := s.Attach("b", &b, false, plenty)
	gone, _ := attach(s, "gone", true)
	still := setDown(gone)
	odd := ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 1}
	zero, unspecified := ether.MAC{}, netip.IPv4Unspecified()
	s.SetAnswers(book{ip(5): {mac(5), up}, ip(6): {odd, up}, six(5): {mac(5), up}, ip(7): {mac(7), gone}, ip(8): {mac(8), up}, ip(9): {mac(9), in}, ip(1): {mac(1), up}, six(8): {mac(8), up}})
	other.Pin(mac(8))
	tagged := func(b []byte) []byte { return bytes.Join([][]byte{b[:12], {0x81, 0, 0, 7}, b[12:]}, nil) }
	for i, tc := range []struct {
		name     string
		question []byte
		answer   []byte // nil: it is flooded
	}{
		{"ARP", packets.ARP(broadcast, mac(1), 1, ip(1), zero, ip(5)), packets.ARP(mac(1), mac(5), 2, ip(5), mac(1), ip(1))},
		{"of another MAC", packets.ARP(broadcast, mac(1), 1, ip(1), zero, ip(6)), packets.ARP(mac(1), odd, 2, ip(6), mac(1), ip(1))},
		{"NS", packets.Solicitation(mac(1), six(1), six(5)), packets.Advertisement(mac(1), mac(5), 0x40, six(5), six(1))},
		{"of a host that is gone", packets.ARP(broadcast, mac(1), 1, ip(1), zero, ip(7)), nil},
		{"of nobody", packets.ARP(broadcast, mac(1), 1, ip(1), zero, ip(100)), nil},
		{"of a container here", packets.ARP(broadcast, mac(1), 1, ip(1), zero, ip(8)), nil},
		{"of the asker itself", packets.ARP(broadcast, mac(1), 1, ip(2), zero, ip(9)), nil},
		{"ARP probe", packets.ARP(broadcast, mac(1), 1, unspecified, zero, ip(5)), nil},
		{"ARP announcement", packets.ARP(broadcast, mac(1), 1, ip(5), zero, ip(5)), nil},
		{"DAD", packets.Solicitation(mac(1), netip.IPv6Unspecified(), six(5)), nil},
		{"unsolicited NA", packets.Advertisement(ether.MAC{0x33, 0x33, 0, 0, 0, 1}, mac(1), 0x20, six(5), netip.MustParseAddr("ff02::1")), nil},
		{"in another's name", slices.Replace(packets.ARP(broadcast, mac(1), 1, ip(1), zero, ip(5)), 22, 28, 2, 0x42, 10, 0, 0, 8), nil},
		{"in a VLAN", tagged(packets.ARP(broadcast, mac(1), 1, ip(1), zero, ip(5))), nil},
		{"NS of a container here", packets.Solicitation(mac(1), six(1), six(8)), nil},
	} {
		s.Tick(time.Duration(i) * time.Hour) // none was asked before
		f := lent(tc.question)
		e, before := in.Explain(&f), in.Stats()
		a.taken()
		b.taken()
		wup.taken()
		in.Ingress([]ether.Frame{f})
		want, got := Flooded, minus(in.Stats().Rx, before.Rx)
		if tc.answer != nil {
			want = Answered
		}
		if got[want] != 1 || e.Verdict != want {
			t.Errorf("%s: verdicts %v, explained as %s", tc.name, got, e.Verdict)
		}
		answers, others, away := a.taken(), b.taken(), wup.taken()
		if tc.answer == nil && (len(answers) != 0 || len(others) != 1 || !bytes.Equal(others[0], tc.question) || len(away) != 1) {
			t.Errorf("%s: answers %x, %d and %d were flooded", tc.name, answers, len(others), len(away))
		}
		if tc.answer != nil && (len(answers) != 1 || !bytes.Equal(answers[0], tc.answer) || len(others)+len(away) != 0) {
			t.Errorf("%s: answers %x, %d and %d were flooded", tc.name, answers, len(others), len(away))
		}
		if st := in.Stats(); tc.answer != nil && (st.Tx != before.Tx+1 || st.Offered != before.Offered+1 || st.TxBytes != before.TxBytes+uint64(len(tc.answer))) {
			t.Errorf("%s: the asker's counters are %+v, were %+v", tc.name, st, before)
		}
	}
	ask := func(what string, p *Port, want Verdict) {
		t.Helper()
		f := question(1, 5)
		if p == other {
			f = question(2, 5)
		}
		e := p.Explain(&f)
		if got := p.Inject(f); got != want || e.Verdict != want {
			t.Errorf("%s: %s, explained as %s", what, got, e.Verdict)
		}
	}
	s.Tick(100 * time.Hour)
	ask("from a remote host", up, Flooded)
	in.Ingress([]ether.Frame{frame(mac(1), broadcast, 0)}) // it is here again
	ask("the first time", in, Answered)
	ask("again: the answer did not help", in, Flooded)
	ask("by another", other, Answered)
	s.Tick(100*time.Hour + (askAgain-1)*time.Second)
	ask("again, a little later", in, Flooded)
	s.Tick(100*time.Hour + askAgain*time.Second)
	ask("much later", in, Answered)
	s.Tick(200 * time.Hour)
	other.Unpin(mac(5))
	other.Ingress([]ether.Frame{frame(mac(5), broadcast, 0)}) // it has come here, which the book does not say yet
	ask("seen elsewhere", in, Flooded)
	up.Ingress([]ether.Frame{frame(mac(5), broadcast, 0)})
	ask("and back", in, Answered)
	s.Tick(300 * time.Hour)
	in.SetLimit(ether.ARPLen - 1)
	ask("an answer that is too long", in, Flooded)
	in.SetLimit(plenty)
	*still = false
	f := question(1, 7)
	if got := in.Inject(f); got != Answered {
		t.Errorf("of a host that is back: %s", got)
	}
	s.Tick(350 * time.Hour)
	s.SetPlaces([]Block{block("10.0.0.7/32", up)}, nil)
	if got := in.Inject(f); got != Flooded {
		t.Errorf("of a station whose frames would go to another host: %s", got)
	}
	s.SetPlaces([]Block{block("10.0.0.7/32", gone)}, nil)
	if got := in.Inject(f); got != Answered {
		t.Errorf("of a station whose frames would go there: %s", got)
	}
	s.SetPlaces(nil, nil)
	gone.Detach()
	s.Tick(400 * time.Hour)
	if got := in.Inject(f); got != Flooded {
		t.Errorf("of a host that was removed: %s", got)
	}
	s.SetAnswers(nil)
	ask("no answers", in, Flooded)
	balanced(t, s)
}

// fateful is a Watcher that writes what it is shown, and whether it was sent by then.
type fateful struct {
	to    *keeper
	lines []string
}

func (w *fateful) Watch(in, out *Port, v Verdict, f *ether.Frame) {
	name := func(p *Port) string {
		if p == nil {
			return "-"
		}
		return p.Name
	}
	w.lines = append(w.lines, fmt.Sprintf("%s %s %s %x after %d", name(in), name(out), v, f.Bytes()[38:42], len(w.to.all)))
}

// Questions in a batch with others: each answer is shown behind its question and before it is sent, and more of them than are
// collected lose nothing.
func TestAnswersInBatch(t *testing.T) {
	s := New(Config{})
	var a keeper
	in := s.Attach("a", &a, false, plenty)
	up, wup := attach(s, "up", true)
	s.SetPlaces([]Block{block("10.0.0.0/16", up)}, nil)
	all := book{}
	for i := range 100 {
		all[ip(i)] = told{mac(i), up}
	}
	s.SetAnswers(all)
	w := &fateful{to: &a}
	s.Watch(w)
	in.Ingress([]ether.Frame{frame(mac(1), mac(2), 1), frame(mac(1), mac(2), 2), question(1, 2), frame(mac(1), mac(2), 3)})
	if got := wup.taken(); !slices.Equal(got, []int{1, 2, 3}) || len(a.taken()) != 1 {
		t.Errorf("sent were %v", got)
	}
	want := []string{"a up forwarded 00000000 after 0", "a up forwarded 00000000 after 0", "a - answered 0a000002 after 0", "a up forwarded 00000000 after 0", "- a answered 0a000001 after 0"}
	if !slices.Equal(w.lines, want) {
		t.Errorf("shown was %q", w.lines)
	}
	var many []ether.Frame
	for i := range 64 {
		many = append(many, question(1, 30+i))
	}
	in.Ingress(many)
	answers := a.taken()
	for i, b := range answers {
		if !bytes.Equal(b, packets.ARP(mac(1), mac(30+i), 2, ip(30+i), mac(1), ip(1))) {
			t.Fatalf("answer %d is %x", i, b)
		}
	}
	if got := s.Tally(); len(answers) != 64 || got[Answered] != 65 || got.Rx() != 68 {
		t.Errorf("%d answers, verdicts %v", len(answers), got)
	}
	setDown(in)
	in.Ingress([]ether.Frame{question(1, 3)})
	if st := in.Stats(); len(a.taken()) != 0 || st.Refused != 1 {
		t.Errorf("a port that is down: %+v", st)
	}
}

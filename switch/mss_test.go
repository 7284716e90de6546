package vswitch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// syn opens a TCP connection from the i-th station to the j-th with this MSS.
func syn(i, j int, v6 bool, mss uint16, tags ...uint16) []byte {
	p := packets.Packet{V6: v6, SrcMAC: mac(i), DstMAC: mac(j), Tags: tags, TCP: packets.Flags(0x02)}
	p.TCP.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{byte(mss >> 8), byte(mss)}}}
	return p.Bytes()
}

// mssBed is a switch with containers 1 and 2, and the remote hosts 3 and 4, whose paths take packets of 1,400 and 1,300 bytes.
func mssBed() (s *Switch, ports [5]*Port, to [5]*keeper) {
	s = New(Config{})
	for i, limit := range []int{0, 1518, 1518, 1414, 1314} {
		to[i] = new(keeper)
		if i > 0 {
			ports[i] = s.Attach(fmt.Sprint(i), to[i], i > 2, limit)
			ports[i].Ingress([]ether.Frame{frame(mac(i), mac(i), 0)})
		}
	}
	return s, ports, to
}

// mssIn is the MSS in a frame.
func mssIn(b []byte) int {
	f := lent(b)
	mss, _ := f.MSS()
	return mss
}

// A SYN leaves with what the policies of both ports let it have, and is explained so; everything else in it stays, and it is never raised.
func TestMSS(t *testing.T) {
	for _, tc := range []struct {
		from, to int
		mss      [5]int // of the policies
		v6       bool
		own      uint16
		tags     []uint16
		want     int
	}{
		{from: 1, to: 3, own: 1460, want: 1460},
		{from: 1, to: 3, mss: [5]int{1: AutoMSS}, own: 1460, want: 1360},
		{from: 1, to: 3, mss: [5]int{1: AutoMSS}, own: 1360, want: 1360},
		{from: 1, to: 3, mss: [5]int{1: AutoMSS}, own: 536, want: 536},
		{from: 1, to: 4, mss: [5]int{1: AutoMSS}, own: 1460, want: 1260},
		{from: 1, to: 3, mss: [5]int{1: AutoMSS}, v6: true, own: 1440, want: 1340},
		{from: 1, to: 3, mss: [5]int{1: AutoMSS}, own: 1460, tags: []uint16{7}, want: 1356},
		{from: 3, to: 1, mss: [5]int{1: AutoMSS}, own: 1460, want: 1360},
		{from: 4, to: 1, mss: [5]int{1: AutoMSS}, v6: true, own: 1440, want: 1240},
		{from: 3, to: 2, mss: [5]int{1: AutoMSS}, own: 1460, want: 1460},
		{from: 1, to: 2, mss: [5]int{1: AutoMSS, 2: AutoMSS}, own: 1460, want: 1460},
		{from: 1, to: 2, mss: [5]int{1: 1000}, own: 1460, want: 1000},
		{from: 2, to: 1, mss: [5]int{1: 1000}, own: 1460, want: 1000},
		{from: 2, to: 1, mss: [5]int{1: 1000}, own: 999, want: 999},
		{from: 1, to: 2, mss: [5]int{1: 1000, 2: 900}, own: 1460, want: 900},
		{from: 1, to: 2, mss: [5]int{1: 900, 2: 1000}, own: 1460, want: 900},
		{from: 1, to: 3, mss: [5]int{1: 1370}, own: 1460, want: 1370},
		{from: 3, to: 1, mss: [5]int{1: 700}, v6: true, own: 1440, want: 700},
	} {
		s, ports, to := mssBed()
		for i, mss := range tc.mss {
			if mss != 0 {
				ports[i].SetPolicy(&Policy{MSS: mss})
			}
		}
		b := syn(tc.from, tc.to, tc.v6, tc.own, tc.tags...)
		f := lent(slices.Clone(b))
		last := ports[tc.from].Explain(&f).Steps
		step := last[len(last)-1]
		if lowered := tc.want < int(tc.own); lowered != (step.Check == CheckMSS) || lowered && step.Limit != tc.want {
			t.Errorf("%+v: explained by %+v", tc, step)
		}
		v := ports[tc.from].Inject(f)
		got := to[tc.to].taken()
		if v != Forwarded || len(got) != 1 || !bytes.Equal(got[0], syn(tc.from, tc.to, tc.v6, uint16(tc.want), tc.tags...)) {
			t.Errorf("%+v: %s, MSS %d\n%x", tc, v, mssIn(got[0]), got)
		}
		if !bytes.Equal(f.Bytes(), b) {
			t.Errorf("%+v: the lent frame was changed", tc)
		}
		if n := s.Lowered(); (n == 1) != (tc.want < int(tc.own)) {
			t.Errorf("%+v: %d counted", tc, n)
		}
	}
}

// To a station that is not known a SYN goes by each port with what its way takes.
func TestMSSFlooded(t *testing.T) {
	s, ports, to := mssBed()
	for i := 1; i <= 2; i++ {
		ports[i].SetPolicy(&Policy{MSS: AutoMSS})
	}
	ports[2].SetPolicy(&Policy{MSS: 1000})
	var frames []ether.Frame
	const many = 2*maxSYNs + 5
	for range many {
		frames = append(frames, lent(syn(1, 99, false, 1460)))
	}
	ports[1].Ingress(frames)
	for i, want := range []int{2: 1000, 3: 1360, 4: 1260} {
		got := to[i].taken()
		if i > 1 && len(got) != many {
			t.Errorf("%d frames by %d", len(got), i)
		}
		for _, b := range got {
			if !bytes.Equal(b, syn(1, 99, false, uint16(want))) {
				t.Errorf("MSS %d by %d, want %d", mssIn(b), i, want)
			}
		}
	}
	if n := s.Lowered(); n != 3*many {
		t.Errorf("%d counted", n)
	}
}

// mssWatcher notes what it is shown.
type mssWatcher struct{ seen []int }

func (w *mssWatcher) Watch(_, _ *Port, _ Verdict, f *ether.Frame) {
	w.seen = append(w.seen, mssIn(f.Bytes()))
}

// In a batch of everything order is kept, whoever opens connections in between, however many there are, and captures show what leaves.
func TestMSSBatch(t *testing.T) {
	s, ports, to := mssBed()
	ports[1].SetPolicy(&Policy{MSS: AutoMSS})
	w := &mssWatcher{}
	s.Watch(w)
	var frames []ether.Frame
	var want [][]byte
	var seen []int
	for i := range 3 * maxSYNs {
		data := packets.Packet{SrcMAC: mac(1), DstMAC: mac(3 + i/20%2), TCP: packets.Flags(0x10), Payload: binary.BigEndian.AppendUint32(nil, uint32(i))}.Bytes()
		opens := syn(1, 3+i/20%2, i%2 == 0, 9000-uint16(i))
		frames = append(frames, lent(data), lent(opens), lent(data))
		most := 1360 - i/20%2*100 - (1-i%2)*20
		want = append(want, data, syn(1, 3+i/20%2, i%2 == 0, uint16(most)), data)
		seen = append(seen, 0, most, 0)
	}
	ports[1].Ingress(frames)
	at := 0
	for i, b := range want {
		if at = i / 60 % 2; len(to[3+at].all) == 0 || !bytes.Equal(to[3+at].all[0], b) {
			t.Fatalf("frame %d is not what leaves by %d", i, 3+at)
		}
		to[3+at].all = to[3+at].all[1:]
	}
	if len(to[3].all)+len(to[4].all) > 0 || !slices.Equal(w.seen, seen) || s.Lowered() != 3*maxSYNs {
		t.Errorf("%d and %d frames more; shown was %v, want %v; %d counted", len(to[3].all), len(to[4].all), w.seen, seen, s.Lowered())
	}
}

// The MSS of a path that has become too narrow for anything stays.
func TestMSSNarrow(t *testing.T) {
	_, ports, to := mssBed()
	ports[1].SetPolicy(&Policy{MSS: AutoMSS})
	ports[3].SetLimit(14 + 60)
	if ports[1].Ingress([]ether.Frame{lent(syn(1, 3, false, 1460))}); mssIn(to[3].taken()[0]) != 20 {
		t.Error("20 bytes fit")
	}
	ports[4].SetLimit(14 + 44)
	ports[4].Ingress([]ether.Frame{lent(syn(4, 1, true, 1460))})
	if got := mssIn(to[1].taken()[0]); got != 1460 {
		t.Errorf("MSS %d", got)
	}
}

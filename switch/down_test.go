package vswitch

import (
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

// setDown says that a port is down, and gives what it may say later.
func setDown(p *Port) *bool {
	still := true
	p.SetDown(func() bool { return still })
	return &still
}

// A run of frames to a port that is down asks once whether it still is.
func TestDownAskedOnce(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, _ := attach(s, "b", false)
	b.Pin(mac(2))
	asked := 0
	b.SetDown(func() bool { asked++; return true })
	var frames []ether.Frame
	for i := range 50 {
		frames = append(frames, frame(mac(1), mac(2), i))
	}
	a.Ingress(frames)
	if got := a.Stats().Rx; asked != 1 || got[Down] != 50 {
		t.Errorf("asked %d times, verdicts %v", asked, got)
	}
}

// A frame to a port that is down is dropped as that, and one that is flooded is not copied to it.
func TestDown(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, wb := attach(s, "b", false)
	c, wc := attach(s, "c", false)
	b.Pin(mac(2))
	c.Pin(mac(3))
	still := setDown(b)
	w := &shown{}
	s.Watch(w)
	a.Ingress([]ether.Frame{frame(mac(1), mac(2), 1), frame(mac(1), mac(2), 2), frame(mac(1), broadcast, 3), frame(mac(1), mac(3), 4)})
	if got := wb.taken(); got != nil || wb.calls != 0 {
		t.Errorf("the port that is down got %v", got)
	}
	if got := wc.taken(); !slices.Equal(got, []int{3, 4}) {
		t.Errorf("the other port got %v", got)
	}
	if got := a.Stats().Rx; got[Down] != 2 || got[Flooded] != 1 || got[Forwarded] != 1 || got.Drops()["down"] != 2 {
		t.Errorf("verdicts %v", got)
	}
	if st := b.Stats(); st.Offered != 1 || st.Refused != 1 || st.Tx != 0 || st.TxBytes != 0 {
		t.Errorf("its counters: %+v", st)
	}
	if want := (shownFrame{a, nil, Down, 0}); len(w.all) != 4 || w.all[0] != want || w.all[1] != want {
		t.Errorf("shown: %+v", w.all)
	}
	f := frame(mac(1), mac(2), 0)
	if e := a.Explain(&f); e.Verdict != Down || e.Steps[len(e.Steps)-1].Check != CheckLink || e.Egress[0].Port != b || e.Egress[0].Verdict != Down {
		t.Errorf("explained as %+v", e)
	}
	f = frame(mac(1), broadcast, 0)
	if e := a.Explain(&f); e.Verdict != Flooded || e.Egress[0].Verdict != Down || e.Egress[1].Verdict != Forwarded {
		t.Errorf("a flooded one is explained as %+v", e)
	}

	// What it says is asked each time: nobody needs to tell that it is up.
	*still = false
	a.Ingress([]ether.Frame{frame(mac(1), mac(2), 5), frame(mac(1), broadcast, 6)})
	if got := wb.taken(); !slices.Equal(got, []int{5, 6}) {
		t.Errorf("up again, it got %v", got)
	}
	*still = true
	b.MarkUp()
	a.Ingress([]ether.Frame{frame(mac(1), mac(2), 7)})
	if got := wb.taken(); !slices.Equal(got, []int{7}) {
		t.Errorf("heard, it got %v", got)
	}
	setDown(b)
	b.SetDown(nil)
	a.Ingress([]ether.Frame{frame(mac(1), mac(2), 8)})
	if got := wb.taken(); !slices.Equal(got, []int{8}) {
		t.Errorf("told to be up, it got %v", got)
	}
}

// A frame that nobody can get has the reason of those who might have.
func TestFloodDown(t *testing.T) {
	for _, tc := range []struct {
		name string
		down []bool // of each other port
		long bool   // the frame is, for the last of them
		want Verdict
	}{
		{"no other port", nil, false, Flooded},
		{"one of two", []bool{true, false}, false, Flooded},
		{"both", []bool{true, true}, false, Down},
		{"one, and too long for the other", []bool{true, false}, true, MTU},
		{"both, and too long for one", []bool{true, true}, true, Down},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(Config{})
			in, _ := attach(s, "in", false)
			for i, down := range tc.down {
				p, _ := attach(s, "", false)
				if down {
					setDown(p)
				}
				if tc.long && i == len(tc.down)-1 {
					p.SetLimit(60)
				}
			}
			f := frame(mac(1), broadcast, 0)
			e := in.Explain(&f)
			if got := in.Inject(f); got != tc.want || e.Verdict != got || e.Steps[len(e.Steps)-1].Drop != got.Drop() {
				t.Errorf("it is %s, explained as %+v", got, e)
			}
		})
	}
}

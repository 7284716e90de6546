package fault

import (
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

type nowhere struct{}

func (nowhere) Send(frames []*ether.Frame) (int, int) { return len(frames), 0 }

// Without a fault a Point allocates nothing, and changes nothing.
func TestPointAllocs(t *testing.T) {
	sw := vswitch.New(vswitch.Config{})
	p := Attach(sw, "net", "a", nowhere{}, false, 1518)
	other := Attach(sw, "net", "b", nowhere{}, false, 1518)
	dst, src := ether.MAC{2, 5: 2}, ether.MAC{2, 5: 1}
	other.Port.Pin(dst)
	buf := make([]byte, ether.Headroom, 100)
	buf = append(append(append(buf, dst[:]...), src[:]...), make([]byte, 60)...)
	frames := []ether.Frame{ether.Lend(buf, ether.Offload{}), ether.Lend(buf, ether.Offload{})}
	if got := testing.AllocsPerRun(1000, func() { p.Ingress(frames) }); got != 0 {
		t.Errorf("%v allocations for a batch", got)
	}
	if s := other.Port.Stats(); s.Tx != 2*1001 || s.Offered != s.Tx {
		t.Errorf("%+v", s)
	}
}

// A frame that was delayed for a port which is down by now is refused, not sent.
func TestPointDown(t *testing.T) {
	p := Attach(vswitch.New(vswitch.Config{}), "net", "a", nowhere{}, false, 1518)
	a := p.Set(To, Spec{Duplicate: 1}, nil)
	f := numbered(1, 60)
	p.Send([]*ether.Frame{&f})
	if got := a.Refused(); got != 0 {
		t.Errorf("%d frames are refused while the port is up, want 0", got)
	}
	p.Port.SetDown(func() bool { return true })
	p.Send([]*ether.Frame{&f})
	if got := a.Refused(); got != 2 {
		t.Errorf("%d frames are refused, want 2: one and its duplicate", got)
	}
}

// A fault is replaced by Set and removed by Clear, each direction by itself.
func TestPointSet(t *testing.T) {
	p := Attach(vswitch.New(vswitch.Config{}), "net", "a", nowhere{}, false, 1518)
	first, other := p.Set(From, Spec{Loss: 1}, nil), p.Set(To, Spec{Loss: 1}, nil)
	second := p.Set(From, Spec{Loss: 1}, nil)
	if p.Active(From) != second || p.Active(To) != other {
		t.Error("the second fault is not the active one, or the other direction's has changed")
	}
	p.Ingress([]ether.Frame{numbered(1, 60)})
	if first.Stats().Frames != 0 || second.Stats().Lost != 1 {
		t.Errorf("first %+v, second %+v", first.Stats(), second.Stats())
	}
	if p.Clear(From) != second || p.Clear(From) != nil || p.Active(From) != nil || p.Active(To) != other {
		t.Error("not the one fault is cleared")
	}
	expired := make(chan *Active)
	third := p.Set(From, Spec{Loss: 1, For: 1}, func(a *Active) { expired <- a })
	if got := <-expired; got != third || third.Ends.IsZero() {
		t.Errorf("%+v has expired", got)
	}
}

func BenchmarkPoint(b *testing.B) {
	p := Attach(vswitch.New(vswitch.Config{}), "net", "a", nowhere{}, false, 1518)
	var f ether.Frame
	frames := []*ether.Frame{&f}
	for name, s := range map[string]vswitch.Sender{"bare": nowhere{}, "point": p} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.Send(frames)
			}
		})
	}
}

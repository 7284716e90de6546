package vswitch

import (
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// What is flooded goes to a sparse port a few times a second; what is for a station behind it goes there always.
func TestSparse(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, wb := attach(s, "b", true)
	c, wc := attach(s, "c", true)
	b.Pin(mac(2))
	b.SetSparse(true)
	flood := func(ids ...int) {
		for _, id := range ids {
			a.Ingress([]ether.Frame{frame(mac(1), broadcast, id)})
		}
	}
	var some []int
	for i := range sparseBudget {
		some = append(some, 100+i)
	}
	flood(some...)
	flood(1, 2, 3)
	a.Ingress([]ether.Frame{frame(mac(1), mac(2), 4), frame(mac(1), mac(2), 5)})
	s.Tick(time.Second)
	flood(6, 7)
	if got := wb.taken(); !slices.Equal(got, append(slices.Clone(some), 4, 5, 6, 7)) {
		t.Errorf("the sparse port got %v", got)
	}
	if got := wc.taken(); !slices.Equal(got, append(slices.Clone(some), 1, 2, 3, 6, 7)) {
		t.Errorf("the other port got %v", got)
	}
	if st := b.Stats(); st.Offered != sparseBudget+7 || st.Refused != 3 {
		t.Errorf("the sparse port's counters: %+v", st)
	}
	if st := c.Stats(); st.Offered != sparseBudget+5 || st.Refused != 0 {
		t.Errorf("the other port's counters: %+v", st)
	}
	if !b.IsSparse() || c.IsSparse() {
		t.Error("the wrong port is sparse")
	}
	b.SetSparse(false)
	flood(8, 9)
	if got := wb.taken(); !slices.Equal(got, []int{8, 9}) {
		t.Errorf("afterwards it got %v", got)
	}
	if n := testing.AllocsPerRun(100, func() { b.SetSparse(true); b.floodable() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

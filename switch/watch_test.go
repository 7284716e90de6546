package vswitch

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

// recordingWatcher is a Watcher that records what it is shown, and whether that frame had been sent already.
type recordingWatcher struct {
	t     *testing.T
	lines []string
	wires []*wire
}

func (d *recordingWatcher) Watch(in, out *Port, v Verdict, f *ether.Frame) {
	number := 0
	if f.Len() >= 18 {
		number = int(binary.BigEndian.Uint32(f.Bytes()[14:]))
	}
	to := "-"
	if out != nil {
		to = out.Name
	}
	for _, w := range d.wires {
		if slices.Contains(w.numbers, number) {
			d.t.Errorf("frame %d is shown after it has left", number)
		}
	}
	d.lines = append(d.lines, fmt.Sprint(number, " ", in.Name, " ", to, " ", v))
}

// Each frame of a batch is shown once, in order, with its verdict, before it leaves; nobody is shown anything after.
func TestWatch(t *testing.T) {
	s := New(Config{})
	a, wa := attach(s, "a", false)
	b, wb := attach(s, "b", false)
	a.Ingress([]ether.Frame{frame(mac(1), mac(1), 0)})
	b.Ingress([]ether.Frame{frame(mac(2), mac(2), 0)})
	d := &recordingWatcher{t: t, wires: []*wire{wa, wb}}
	s.Watch(d)
	batch := []ether.Frame{
		frame(mac(1), mac(2), 1), frame(mac(1), mac(2), 2), frame(mac(1), mac(2), 3), // a run
		frame(mac(1), broadcast, 4),
		frame(mac(1), mac(1), 5),
		frame(mac(1), mac(2), 6),
		sized2(mac(1), mac(2), 13),
	}
	a.Ingress(batch)
	want := []string{"1 a b forwarded", "2 a b forwarded", "3 a b forwarded", "4 a - flooded", "5 a - hairpin", "6 a b forwarded", "0 a - runt"}
	if !slices.Equal(d.lines, want) {
		t.Errorf("shown was %q, want %q", d.lines, want)
	}
	if got := wb.taken(); !slices.Equal(got, []int{1, 2, 3, 4, 6}) {
		t.Errorf("b got %v", got)
	}
	d.lines = nil
	s.Watch(nil)
	a.Ingress(batch)
	if d.lines != nil {
		t.Errorf("a former Watcher is shown %q", d.lines)
	}
}

type countingWatcher struct{ seen int }

func (b *countingWatcher) Watch(_, _ *Port, _ Verdict, _ *ether.Frame) { b.seen++ }

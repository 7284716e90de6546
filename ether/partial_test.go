package ether

import (
	"bytes"
	"testing"
)

// Segments whose checksums are left partial are, finished, those of the ordinary cut; and joined they are the super-frame.
func TestPartialChecksum(t *testing.T) {
	for i, f := range seeds(t) {
		if f.Check() != nil || f.Off.Kind == None {
			continue
		}
		wantPartialChecksum(t, &f)
		if t.Failed() {
			t.Fatalf("that was seed %d", i)
		}
	}
}

func wantPartialChecksum(t *testing.T, f *Frame) {
	t.Helper()
	want, open := cutAll(t, f), cutOpen(f)
	if len(open) != len(want) {
		t.Fatalf("%d segments, want %d", len(open), len(want))
	}
	for i := range open {
		finished := lend(open[i].Bytes(), open[i].Off)
		if err := finished.Check(); err != nil {
			t.Fatalf("segment %d: %v", i, err)
		}
		if finished.CompleteChecksum(); !bytes.Equal(finished.Bytes(), want[i].Bytes()) {
			t.Errorf("segment %d finished is\n%x, want\n%x", i, finished.Bytes(), want[i].Bytes())
		}
	}
	if !joinable(f, len(open)) || f.Len()-int(f.Off.Head) < len(open) {
		return
	}
	var j Joiner
	if !j.Start(&open[0]) {
		t.Fatal("the first segment begins no run")
	}
	for i := range open[1:] {
		if j.Add(&want[i+1]) {
			t.Fatalf("finished segment %d goes on a run of open ones", i+1)
		}
		if !j.Add(&open[i+1]) {
			t.Fatalf("segment %d of %d does not go on the run", i+1, len(open))
		}
	}
	got, whole := joined(&j), normal(f)
	if !bytes.Equal(got.Bytes(), whole.Bytes()) || got.Off != whole.Off {
		t.Errorf("cut and joined it is\n%x %+v, want\n%x %+v", got.Bytes(), got.Off, whole.Bytes(), whole.Off)
	}
	last := &open[len(open)-1]
	l, _ := dissect(last.Bytes())
	last.Bytes()[l.l4+l.checksumOffset()] ^= 1
	if j.Start(&open[0]); len(open) == 2 && j.Add(last) {
		t.Error("a frame goes on the run whose field holds no sum of the pseudo-header")
	}
}

// cutOpen is every segment of f with its checksum left open.
func cutOpen(f *Frame) (frames []Frame) {
	l, _ := dissect(f.Bytes())
	off := Offload{PartialChecksum: true, ChecksumStart: uint16(l.l4), ChecksumOffset: uint16(l.checksumOffset())}
	c := Cutter{PartialChecksum: true}
	var head [MaxHead]byte
	for c.Reset(f); ; {
		n, payload, ok := c.Next(head[:])
		if !ok {
			return frames
		}
		frames = append(frames, lend(append(bytes.Clone(head[:n]), payload...), off))
	}
}

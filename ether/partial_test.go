package ether

import (
	"bytes"
	"testing"
)

// Segments with partial checksums are those of the ordinary cut once they are completed; and joined they are the super-frame.
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
	want, partial := cutAll(t, f), cutPartial(f)
	if len(partial) != len(want) {
		t.Fatalf("%d segments, want %d", len(partial), len(want))
	}
	for i := range partial {
		complete := lend(partial[i].Bytes(), partial[i].Off)
		if err := complete.Check(); err != nil {
			t.Fatalf("segment %d: %v", i, err)
		}
		if complete.CompleteChecksum(); !bytes.Equal(complete.Bytes(), want[i].Bytes()) {
			t.Errorf("segment %d complete is\n%x, want\n%x", i, complete.Bytes(), want[i].Bytes())
		}
	}
	if !joinable(f, len(partial)) || f.Len()-int(f.Off.Head) < len(partial) {
		return
	}
	var j Joiner
	if !j.Start(&partial[0]) {
		t.Fatal("the first segment begins no run")
	}
	for i := range partial[1:] {
		if j.Add(&want[i+1]) {
			t.Fatalf("complete segment %d goes on a run of partial ones", i+1)
		}
		if !j.Add(&partial[i+1]) {
			t.Fatalf("segment %d of %d does not go on the run", i+1, len(partial))
		}
	}
	got, whole := joined(&j), normal(f)
	if !bytes.Equal(got.Bytes(), whole.Bytes()) || got.Off != whole.Off {
		t.Errorf("cut and joined it is\n%x %+v, want\n%x %+v", got.Bytes(), got.Off, whole.Bytes(), whole.Off)
	}
	last := &partial[len(partial)-1]
	l, _ := dissect(last.Bytes())
	last.Bytes()[l.l4+l.checksumOffset()] ^= 1
	if j.Start(&partial[0]); len(partial) == 2 && j.Add(last) {
		t.Error("a frame goes on the run whose field holds no sum of the pseudo-header")
	}
}

// cutPartial returns every segment of f, with partial checksums.
func cutPartial(f *Frame) (frames []Frame) {
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

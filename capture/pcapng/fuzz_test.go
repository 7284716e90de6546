package pcapng

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// Whatever bytes: no panic, texts are UTF-8, lengths are true, and what was read can be written and is then read the
// same, but for what the writer says that it changes.
func FuzzReader(f *testing.F) {
	section, all := sample()
	ng, _ := file(f, section, all...)
	f.Add(ng)
	for _, o := range orders {
		f.Add(join(o, sectionOf(o), ifaceOf(o, 4, option(o, ifResolution, "\x8a"), option(o, ifOffset, uint64(1))),
			block(o, blockObsolete, uint32(0), uint64(0), uint32(3), uint32(3), "abc"), block(o, blockSimple, uint32(3), "abc"),
			sectionOf(o), ifaceOf(o, 4), block(o, 0xbad, uint32(1)),
			block(o, blockPacket, uint32(0), uint64(0), uint32(1), uint32(9), "a", option(o, epbFlags, uint32(1)))))
		f.Add(join(o, uint32(magicMicro), uint16(2), uint16(4), uint64(0), uint32(96), uint32(1),
			uint32(1), uint32(2), uint32(3), uint32(60), []byte("abc")))
		f.Add(join(o, uint32(magicLong), uint16(2), uint16(3), uint64(0), uint32(math.MaxUint32), uint32(Null),
			uint32(1), uint32(2), uint32(60), uint32(4), uint64(0), []byte("\x00\x00\x00\x02")))
		f.Add(join(o, sectionOf(o), ifaceOf(o, math.MaxUint32, option(o, ifOffset, uint64(1)<<63), option(o, ifMAC, "abc")),
			block(o, blockPacket, uint32(0), uint64(0), uint32(1), uint32(9), "a", option(o, epbFlags, uint16(1))),
			block(o, blockStats, uint32(9), uint64(0)), block(o, blockNames, option(o, recordIPv4, "\x01\x02\x03\x04a\x00b\x00"))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		read, _ := blocks(bytes.NewReader(b))
		once := rewrite(t, read)
		again, err := blocks(bytes.NewReader(once))
		if err != nil {
			t.Fatal("what was written is not read:", err)
		}
		if twice := rewrite(t, again); !bytes.Equal(once, twice) {
			third, _ := blocks(bytes.NewReader(twice))
			for i := range min(len(again), len(third)) {
				if !reflect.DeepEqual(again[i], third[i]) {
					t.Errorf("%+v was written, and read as %+v", again[i], third[i])
				}
			}
			t.Error("the bytes differ when a file is written again")
		}
	})
}

// rewrite writes what was read into one section, with one snap length; what cannot be written is left out.
func rewrite(t *testing.T, all []Block) []byte {
	var out bytes.Buffer
	w := NewWriter(&out, Section{})
	for _, b := range all {
		switch b := b.(type) {
		case *Section:
			if !utf8.ValidString(b.Comment + b.Hardware + b.OS + b.Application) {
				t.Fatalf("%+v is no UTF-8", b)
			}
		case *Interface:
			i := *b
			if !utf8.ValidString(i.Name + i.Description + i.Filter + i.Hardware + i.Comment) {
				t.Fatalf("%+v is no UTF-8", b)
			}
			i.SnapLen = 0 // one for all
			if _, err := w.AddInterface(&i); err != nil {
				t.Fatal(err)
			}
		case *Packet:
			if b.Len < len(b.Data) || !utf8.ValidString(b.Comment) {
				t.Fatalf("%+v is not sound", b)
			}
			if err := w.WritePacket(b); err != nil {
				t.Fatal(err)
			}
		case Names:
			if err := w.Names(b); err != nil {
				t.Fatal(err)
			}
		case *Stats:
			if err := w.Statistics(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Whatever texts and numbers: what is taken is read the same.
func FuzzWritePacket(f *testing.F) {
	f.Add(start, []byte("data"), 60, uint32(5), uint64(1), uint64(2), []byte{0, 1}, 3, "comment")
	f.Add(int64(0), []byte{}, 0, uint32(0), uint64(0), uint64(0), []byte{}, -1, "\xff\x00")
	f.Fuzz(func(t *testing.T, ns int64, data []byte, n int, flags uint32, id, drops uint64, verdict []byte, queue int,
		comment string) {
		var out bytes.Buffer
		w := NewWriter(&out, Section{})
		put(t, w, &Interface{LinkType: Ethernet})
		p := Packet{Time: ns, Data: data, Len: n, Flags: flags, ID: id, Drops: drops, Queue: queue,
			Verdict: verdict, Comment: comment}
		if w.WritePacket(&p) != nil {
			return
		}
		testhost.Must(t, w.Flush())
		r := NewReader(&out)
		for range 2 {
			_, err := r.Next()
			testhost.Must(t, err)
		}
		b, err := r.Next()
		testhost.Must(t, err)
		got := *b.(*Packet)
		if !bytes.Equal(got.Data, data[:min(len(data), MaxSnapLen)]) || !bytes.Equal(got.Verdict, verdict) {
			t.Errorf("data % x and verdict % x, want % x and % x", got.Data, got.Verdict, data, verdict)
		}
		sound := utf8.ValidString(comment) && !strings.Contains(comment, "\x00") && len(comment) <= 65535
		if sound && got.Comment != comment || !utf8.ValidString(got.Comment) {
			t.Errorf("comment %q, want %q", got.Comment, comment)
		}
		want := p
		want.Time = max(ns, 0)
		want.Len, want.Queue = max(n, len(data)), max(queue, -1)
		want.Data, want.Verdict, want.Comment = got.Data, got.Verdict, got.Comment
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Error("something is behind the packet:", err)
		}
	})
}

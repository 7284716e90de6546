package pcapng

import (
	"bytes"
	"io"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// full is a packet with all that one can have.
func full() *Packet {
	return &Packet{Time: start, Data: udp(1358), Flags: Inbound | Unicast | ChecksumNotReady, ID: 101, Drops: 7, Queue: 1,
		Verdict: []byte{0, 2}, Comment: "verdict=drop reason=mtu"}
}

// No packet costs an allocation, written or read.
func TestAllocs(t *testing.T) {
	classic := NewPcapWriter(io.Discard, Ethernet, 0)
	for name, w := range map[string]fileWriter{"pcapng": NewWriter(io.Discard, Section{}), "pcap": classic} {
		put(t, w, &Interface{LinkType: Ethernet})
		for what, p := range map[string]*Packet{"full": full(), "bad text": {Comment: "a\x00\xff"}, "bare": {Queue: -1}} {
			if n := testing.AllocsPerRun(100, func() {
				for range 64 {
					testhost.Must(t, w.WritePacket(p))
				}
				testhost.Must(t, w.Flush())
			}); n != 0 {
				t.Errorf("%s, %s: %v allocations, want 0", name, what, n)
			}
		}
	}
	r := NewReader(loop(t))
	if n := testing.AllocsPerRun(1000, func() {
		_, err := r.Next()
		testhost.Must(t, err)
	}); n != 0 {
		t.Errorf("Next: %v allocations, want 0", n)
	}
}

// loop is a file with packets without end, all options but a comment.
func loop(t testing.TB) io.Reader {
	p := full()
	p.Comment = ""
	b, ends := file(t, Section{}, &Interface{LinkType: Ethernet}, p)
	return io.MultiReader(bytes.NewReader(b), &again{b[ends[1]:], 0})
}

type again struct {
	b  []byte
	at int
}

func (a *again) Read(b []byte) (int, error) {
	n := copy(b, a.b[a.at:])
	a.at = (a.at + n) % len(a.b)
	return n, nil
}

func BenchmarkWritePacket(b *testing.B) {
	short := *full()
	short.Data = short.Data[:96]
	short.Comment = ""
	packets := map[string]*Packet{"1400 bytes, all options": full(), "96 bytes, no comment": &short, "empty": {Queue: -1}}
	for name, p := range packets {
		b.Run(name, func(b *testing.B) {
			w := NewWriter(io.Discard, Section{})
			put(b, w, &Interface{LinkType: Ethernet})
			b.ReportAllocs()
			for b.Loop() {
				if w.WritePacket(p) != nil {
					b.Fatal("refused")
				}
				if len(w.buf) > 64<<10 {
					w.Flush()
				}
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	r := NewReader(loop(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

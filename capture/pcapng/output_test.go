package pcapng

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// What the format cannot hold is refused with the reason, and nothing of it is written.
func TestRefused(t *testing.T) {
	w := NewWriter(io.Discard, Section{})
	p := NewPcapWriter(io.Discard, Ethernet, 96)
	good := Interface{Name: "web", SnapLen: 96, LinkType: Ethernet}
	for _, w := range []fileWriter{w, p} {
		put(t, w, &good)
	}
	add := func(change func(*Interface)) func(fileWriter) error {
		i := good
		change(&i)
		return func(w fileWriter) error { _, err := w.AddInterface(&i); return err }
	}
	packet := func(p Packet) func(fileWriter) error { return func(w fileWriter) error { return w.WritePacket(&p) } }
	for _, c := range []struct {
		what string
		do   func(fileWriter) error
		want string
		both bool
	}{
		{"link type", add(func(i *Interface) { i.LinkType = 1 << 16 }), "want 0 to 65535", true},
		{"other snap length", add(func(i *Interface) { i.SnapLen = 0 }), "want 96", true},
		{"long snap length", add(func(i *Interface) { i.SnapLen = MaxSnapLen + 1 }), "has snap length 262144, want 96", true},
		{"no address", add(func(i *Interface) { i.Addrs = make([]netip.Prefix, 1) }), "10.0.0.2/24", false},
		{"unknown interface", packet(Packet{Interface: 1}), "no interface 1, the file has 1", true},
		{"negative interface", packet(Packet{Interface: -1}), "no interface -1", true},
		{"length", packet(Packet{Len: -1}), "packet's length is -1", true},
		{"queue", packet(Packet{Queue: math.MaxInt32 + 1}), "queue", true},
		{"verdict", packet(Packet{Verdict: make([]byte, 65536)}), "65535", true},
		{"address of a name", func(w fileWriter) error { return w.Names(Names{{Name: "web"}}) }, "want an address", false},
		{"name", func(w fileWriter) error { return w.Names(Names{{Addr: netip.IPv6Unspecified()}}) }, "not empty", false},
		{"statistics without an interface", func(w fileWriter) error { return w.Statistics(&Stats{Interface: 1}) }, "no interface 1", false},
	} {
		for _, w := range []fileWriter{w, p}[:map[bool]int{false: 1, true: 2}[c.both]] {
			before := w.Size()
			if err := c.do(w); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want it to say %q", c.what, err, c.want)
			}
			if w.Size() != before {
				t.Errorf("%s: %d bytes written all the same", c.what, w.Size()-before)
			}
		}
	}
	cooked := good
	cooked.LinkType = LinuxSLL
	i, err := p.AddInterface(&cooked)
	testhost.Must(t, err)
	if err := p.WritePacket(&Packet{Interface: i}); err == nil || !strings.Contains(err.Error(), "link type 113") {
		t.Error("pcap takes packets of two link types:", err)
	}
}

// A disk takes so many bytes and no more, and counts how often it is asked.
type disk struct {
	bytes.Buffer
	room, writes int
}

var errFull = errors.New("no space left on device")

func (d *disk) Write(b []byte) (int, error) {
	d.writes++
	n := min(len(b), d.room-d.Len())
	d.Buffer.Write(b[:n])
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

// When the disk is full, Size tells how much of the file is whole blocks, and the error stays.
func TestDiskFull(t *testing.T) {
	section, all := sample()
	whole, ends := file(t, section, all...)
	for room := range len(whole) {
		d := &disk{room: room}
		w := NewWriter(d, section)
		put(t, w, all[:3]...)
		err := w.Flush()
		if err == nil {
			put(t, w, all[3:]...)
			err = w.Flush()
		}
		want := 0
		for _, e := range ends {
			if e <= room {
				want = e
			}
		}
		if !errors.Is(err, errFull) || w.Size() != int64(want) {
			t.Fatalf("room for %d: %v and Size %d, want %d", room, err, w.Size(), want)
		}
		writes := d.writes
		_, err = w.AddInterface(&Interface{})
		for _, err := range []error{err, w.WritePacket(&Packet{}), w.Names(Names{{}}), w.Statistics(&Stats{}), w.Flush()} {
			if !errors.Is(err, errFull) || d.writes != writes {
				t.Fatal("the error does not stay:", err)
			}
		}
	}
}

func TestDiskFullPcap(t *testing.T) {
	for room := range 24 + 2*(16+5) {
		w := NewPcapWriter(&disk{room: room}, Ethernet, 0)
		put(t, w, &Interface{LinkType: Ethernet}, &Packet{Data: make([]byte, 5)}, &Packet{Data: make([]byte, 5)})
		want := 0
		if room >= 24 {
			want = 24 + (room-24)/21*21
		}
		if err := w.Flush(); !errors.Is(err, errFull) || w.Size() != int64(want) {
			t.Fatalf("room for %d: %v and Size %d, want %d", room, err, w.Size(), want)
		}
	}
}

// One Flush is one Write, and an empty one none.
func TestFlush(t *testing.T) {
	section, all := sample()
	d := &disk{room: math.MaxInt}
	w := NewWriter(d, section)
	put(t, w, all...)
	if d.writes != 0 {
		t.Error("something is written before Flush")
	}
	testhost.Must(t, w.Flush())
	testhost.Must(t, w.Flush())
	if d.writes != 1 {
		t.Errorf("%d writes, want 1", d.writes)
	}
}

// A writer that takes less and says nothing is an error.
func TestShortWrite(t *testing.T) {
	w := NewWriter(quiet{}, Section{})
	if err := w.Flush(); !errors.Is(err, io.ErrShortWrite) || w.Size() != 0 {
		t.Errorf("%v and Size %d, want %v and 0", err, w.Size(), io.ErrShortWrite)
	}
}

type quiet struct{}

func (quiet) Write(b []byte) (int, error) { return len(b) / 2, nil }

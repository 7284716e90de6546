package show

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/fake"
)

// A name that changes while a capture runs is written to the file once, before the packets that follow.
func TestRenamed(t *testing.T) {
	var out bytes.Buffer
	n := &FileNames{}
	w := NewStreamWriter(&out, false, pcapng.Section{}, pcapng.Ethernet, 0)
	w.Labels.Resolver = n
	web, db := netip.MustParseAddr("10.80.1.2"), netip.MustParseAddr("10.80.1.3")
	// Nothing was seen yet, but names are known: libwiretap wants an interface before them.
	n.Add(pcapng.Names{{Addr: web, Name: "web"}})
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	for _, b := range []pcapng.Block{
		&pcapng.Interface{Name: "x", LinkType: pcapng.Ethernet},
		pcapng.Names{{Addr: web, Name: "web"}, {Addr: db, Name: "db"}},
		&pcapng.Packet{Data: fake.UDPFrame(60), Queue: -1},
		&pcapng.Packet{Data: fake.UDPFrame(60), Queue: -1},
		pcapng.Names{{Addr: web, Name: "web"}, {Addr: db, Name: "old"}},
		&pcapng.Packet{Data: fake.UDPFrame(60), Queue: -1},
	} {
		if names, ok := b.(pcapng.Names); ok {
			n.Add(names)
			continue
		}
		if err := w.put(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := pcapng.NewReader(&out); ; {
		b, err := r.Next()
		if err != nil {
			break
		}
		if names, ok := b.(pcapng.Names); ok {
			got = append(got, fmt.Sprint(names))
		} else {
			got = append(got, fmt.Sprintf("%T", b))
		}
	}
	want := "*pcapng.Section *pcapng.Interface [{10.80.1.2 web} {10.80.1.3 db}] *pcapng.Packet *pcapng.Packet [{10.80.1.3 old}] *pcapng.Packet"
	if strings.Join(got, " ") != want {
		t.Errorf("%v\nwant %s", got, want)
	}
}

// broken is a writer that takes some bytes, and then returns an error.
type broken struct{ room int }

func (b *broken) Write(p []byte) (int, error) {
	n := min(len(p), b.room)
	if b.room -= n; n < len(p) {
		return n, errBroken
	}
	return n, nil
}

var errBroken = errors.New("no more room")

// When the writer fails, a reader that is blocked is ended.
func TestPumpBroken(t *testing.T) {
	hung := make(chan struct{})
	src := &waiting{left: 3, hung: hung}
	w := NewStreamWriter(&broken{300}, false, pcapng.Section{}, pcapng.Ethernet, 0)
	w.Labels.Resolver = &FileNames{}
	from, to := CopyBlocks(src, NewProgress(w, nil, false), func() { close(hung) })
	if !errors.Is(to, errBroken) || from == nil {
		t.Errorf("the source ended by %v, the destination by %v", from, to)
	}
	if err := w.Close(); !errors.Is(err, errBroken) {
		t.Errorf("close says %v", err)
	}
}

// waiting gives some packets, and then blocks until hung is closed.
type waiting struct {
	left int
	told bool
	hung chan struct{}
}

func (w *waiting) Next() (pcapng.Block, error) {
	if !w.told {
		w.told = true
		return &pcapng.Interface{LinkType: pcapng.Ethernet}, nil
	}
	if w.left--; w.left >= 0 {
		return &pcapng.Packet{Data: fake.UDPFrame(100), Queue: -1}, nil
	}
	<-w.hung
	return nil, io.ErrClosedPipe
}

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

// What a capture is called changes while it runs: the file says so from there on, once.
func TestRenamed(t *testing.T) {
	var out bytes.Buffer
	n := &FileNames{}
	w := WriteStream(&out, false, pcapng.Section{}, pcapng.Ethernet, 0)
	w.Labels.Who = n
	web, db := netip.MustParseAddr("10.80.1.2"), netip.MustParseAddr("10.80.1.3")
	// Nothing was seen yet, but names are known: libwiretap wants an interface before them.
	n.Add(pcapng.Names{{Addr: web, Name: "web"}})
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	for _, b := range []pcapng.Block{
		&pcapng.Interface{Name: "x", LinkType: pcapng.Ethernet},
		pcapng.Names{{Addr: web, Name: "web"}, {Addr: db, Name: "db"}},
		&pcapng.Packet{Data: fake.UdpFrame(60), Queue: -1},
		&pcapng.Packet{Data: fake.UdpFrame(60), Queue: -1},
		pcapng.Names{{Addr: web, Name: "web"}, {Addr: db, Name: "old"}},
		&pcapng.Packet{Data: fake.UdpFrame(60), Queue: -1},
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

// broken is a writer that takes some bytes, and then no more.
type broken struct{ room int }

func (b *broken) Write(p []byte) (int, error) {
	n := min(len(p), b.room)
	if b.room -= n; n < len(p) {
		return n, errBroken
	}
	return n, nil
}

var errBroken = errors.New("no more room")

// A sink that fails ends a source that waits.
func TestPumpBroken(t *testing.T) {
	hung := make(chan struct{})
	src := &waiting{left: 3, hung: hung}
	w := WriteStream(&broken{300}, false, pcapng.Section{}, pcapng.Ethernet, 0)
	w.Labels.Who = &FileNames{}
	from, to := Pump(src, NewMeter(w, nil, false), func() { close(hung) })
	if !errors.Is(to, errBroken) || from == nil {
		t.Errorf("the source ended by %v, the sink by %v", from, to)
	}
	if err := w.Close(); !errors.Is(err, errBroken) {
		t.Errorf("close says %v", err)
	}
}

// waiting gives some packets, and then waits to be hung up.
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
		return &pcapng.Packet{Data: fake.UdpFrame(100), Queue: -1}, nil
	}
	<-w.hung
	return nil, io.ErrClosedPipe
}

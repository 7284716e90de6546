package session

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A dump that is read slowly is complete, and the daemon does not keep it in memory meanwhile.
func TestDumpSlowly(t *testing.T) {
	l := fake.NewFilledRecorder(t, 40_000)
	view := &View{Request: api.CaptureRequest{Detail: true}}
	s, _, err := view.OpenDump(t.Context(), l.Client, 0)
	testhost.Must(t, err)
	defer s.Close()
	l.AwaitLog(t, "recorder dumped") // nothing was read
	if _, numbers, _, _ := fake.ReadRest(t, s); len(numbers) != 40_000 {
		t.Errorf("%d frames came, want 40,000", len(numbers))
	}
}

// A spool gives its bytes, and then the source's error. It may be closed at any time.
func TestSpool(t *testing.T) {
	r, w := io.Pipe()
	s := newSpool(r)
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(i * i >> 7)
	}
	for part := range slices.Chunk(want, 70_001) {
		if _, err := w.Write(part); err != nil { // a pipe: it was read
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	w.CloseWithError(broken)
	got, err := io.ReadAll(s)
	if !bytes.Equal(got, want) || err != broken {
		t.Errorf("%d bytes of %d, and then %v", len(got), len(want), err)
	}
	testhost.Must(t, s.Close())

	r, _ = io.Pipe()
	s = newSpool(r)
	testhost.Must(t, s.Close())
	if _, err := s.Read(make([]byte, 1)); err != io.ErrClosedPipe {
		t.Errorf("after its end: %v", err)
	}
}

// A blockList is a BlockReader of the blocks in it.
type blockList []pcapng.Block

func (g *blockList) Next() (b pcapng.Block, err error) {
	if len(*g) == 0 {
		return nil, io.EOF
	}
	b, *g = (*g)[0], (*g)[1:]
	return b, nil
}

// If the daemon sends more than is wanted, --count and --bytes count only what passes the filter here.
func TestBoundedBytes(t *testing.T) {
	s := &blockList{&pcapng.Interface{LinkType: pcapng.Ethernet}}
	for range 10 {
		*s = append(*s, &pcapng.Packet{Data: []byte("frame")})
	}
	stopped, packets := 0, 0
	for b := (&limitedSource{BlockReader: s, maxBytes: 4 * (5 + api.PacketOverhead), stop: func() { stopped++ }}); ; {
		x, err := b.Next()
		if err == io.EOF {
			break
		}
		if _, ok := x.(*pcapng.Packet); ok {
			packets++
		}
	}
	if stopped != 1 || packets != 4 {
		t.Errorf("%d packets, stopped %d times", packets, stopped)
	}
}

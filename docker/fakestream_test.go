package docker

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/fake"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// fakeStream returns the blocks that are put into it. It lends packets: the next call overwrites them.
type fakeStream struct {
	blocks  chan pcapng.Block
	changes chan api.CaptureChange
	packet  pcapng.Packet
	ports   int
}

func newFakeStream() *fakeStream {
	return &fakeStream{blocks: make(chan pcapng.Block, 1<<17), changes: make(chan api.CaptureChange, 100)}
}

func (s *fakeStream) Next() (pcapng.Block, error) {
	for i := range s.packet.Data {
		s.packet.Data[i] = '?'
	}
	for i := range s.packet.Verdict {
		s.packet.Verdict[i] = '?'
	}
	b, ok := <-s.blocks
	if !ok {
		return nil, io.EOF
	}
	if p, ok := b.(*pcapng.Packet); ok {
		data, verdict := append(s.packet.Data[:0], p.Data...), append(s.packet.Verdict[:0], p.Verdict...)
		s.packet = *p
		s.packet.Data, s.packet.Verdict = data, verdict
		return &s.packet, nil
	}
	return b, nil
}

func (s *fakeStream) Change(_ context.Context, what api.CaptureChange) error {
	s.changes <- what
	return nil
}

// port announces a port; kind is "container" or "remote".
func (s *fakeStream) port(kind, network, name string) (index int) {
	s.ports++
	s.blocks <- &pcapng.Interface{Name: name, Description: fmt.Sprintf("port=%d kind=%s network=%s vni=80 link=x", s.ports, kind, network)}
	return s.ports - 1
}

// frame adds a frame that came by the port in and left by out; out < 0: it was dropped.
func (s *fakeStream) frame(in, out int, text string) {
	verdict := vswitch.Forwarded
	if out < 0 {
		verdict = vswitch.MTU
	}
	s.verdict(in, out, verdict, text)
}

// verdict is frame with another verdict.
func (s *fakeStream) verdict(in, out int, v vswitch.Verdict, text string) {
	s.rebuilt(in, in, out, v, text)
}

// rebuilt adds a frame that is shown at another port (at) than it came in by.
func (s *fakeStream) rebuilt(at, in, out int, v vswitch.Verdict, text string) {
	d := capture.Detail{Verdict: v, Out: out, In: in}
	s.blocks <- &pcapng.Packet{Interface: at, Data: []byte(text), Len: len(text), Verdict: d.AppendTo(nil)}
}

// describe writes a block as "name:" for an Interface, and "text@name>name" for a packet. given are the interfaces so far.
func describe(b pcapng.Block, given *[]string) string {
	switch b := b.(type) {
	case *pcapng.Interface:
		*given = append(*given, b.Name)
		return b.Name + ":"
	case *pcapng.Packet:
		text := string(b.Data) + "@" + (*given)[b.Interface]
		if d, ok := capture.ReadDetail(b); ok && d.Out >= 0 {
			text += ">" + (*given)[d.Out]
		}
		return text
	case *pcapng.Stats:
		return "stats@" + (*given)[b.Interface]
	}
	return fmt.Sprintf("%T", b)
}

// holdTest is a Follower of the container web, and a reader of its blocks. The test says what Docker knows, with named.
type holdTest struct {
	*Follower
	s    *fakeStream
	read chan string
}

func newHoldTest(t *testing.T) *holdTest {
	n := &Names{engine: &Engine{Answered: true}}
	n.now.Store(&snapshot{})
	tg := NewTargets(n)
	tg.follows, tg.names["web"] = true, true
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := newFakeStream()
	b := &holdTest{newFollower(ctx, s, n, tg, ""), s, make(chan string, 1<<17)}
	b.named(fake.WideID, "web1", "web")
	go func() {
		defer close(b.read)
		var given []string
		for {
			block, err := b.Next()
			if err != nil {
				b.read <- err.Error()
				return
			}
			b.read <- describe(block, &given)
		}
	}()
	return b
}

// named makes Docker say that an endpoint is the container name's.
func (b *holdTest) named(network, endpoint, name string) {
	b.n.addNetwork(network)
	b.n.update(func(d *snapshot) {
		d.endpoints[endpoint] = endpointInfo{network: network, name: name, container: "c-" + name}
	})
	b.evaluate()
}

// want waits until nothing happens any more, and compares what Next has returned.
func (b *holdTest) want(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	var got []string
	for len(b.read) > 0 {
		got = append(got, <-b.read)
	}
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

// counts compares the counts of held and discarded packets.
func (b *holdTest) counts(t *testing.T, held, discarded uint64) {
	t.Helper()
	if b.Held() != held || b.Discarded() != discarded {
		t.Errorf("held %d, discarded %d, want %d and %d", b.Held(), b.Discarded(), held, discarded)
	}
	if held == 0 && (b.bytes != 0 || b.unsure != 0) {
		t.Errorf("%d bytes are held, %d unsure", b.bytes, b.unsure)
	}
}

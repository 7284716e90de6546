package tunnel

import (
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// BenchmarkLink sends a batch over loopback and takes it in again.
func BenchmarkLink(b *testing.B) {
	host(b)
	a, z := listen(b, families[0].a, 1), listen(b, families[0].b, 1)
	out, err := a.Link(vni, at(families[0].b))
	testhost.Must(b, err)
	in, err := z.Link(vni, at(families[0].a))
	testhost.Must(b, err)
	for _, l := range []*Link{out, in} {
		l.SetMTU(1450)
	}
	come := 0
	in.Bind(func(frames []ether.Frame) { come += len(frames) })
	arena, r := make([]byte, 512<<10), z.Receivers()[0]

	super := packet{Payload: packets.Data(60000)}.super(b, 1398)
	var one, eight []*ether.Frame
	for i := range 64 {
		one = append(one, packet{UDP: true, Payload: packets.Data(22)}.frame(b))
		eight = append(eight, packet{UDP: true, SrcPort: uint16(i % 8), Payload: packets.Data(22)}.frame(b))
	}
	for _, k := range []struct {
		name   string
		batch  []*ether.Frame
		arrive int
	}{
		{"super", []*ether.Frame{super}, (60000 + 1397) / 1398},
		{"64 bytes, one flow", one, 64},
		{"64 bytes, eight flows", eight, 64},
	} {
		b.Run(k.name, func(b *testing.B) {
			var bytes int64
			for _, f := range k.batch {
				bytes += int64(f.Len())
			}
			b.SetBytes(bytes)
			b.ReportAllocs()
			for b.Loop() {
				if sent, _ := out.Send(k.batch); sent < len(k.batch) {
					b.Fatalf("%d of %d frames were sent", sent, len(k.batch))
				}
				late := time.Now().Add(time.Minute)
				for come = 0; come < k.arrive; {
					testhost.Must(b, r.Drain(arena))
					if come < k.arrive && time.Now().After(late) {
						b.Fatalf("%d of %d frames came", come, k.arrive)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(k.batch)), "ns/frame")
		})
	}
}

// BenchmarkBurst is what a burst of probes costs with all of its echoes, at both hosts together: with 1,000 peers there are 100 a second
// in each direction.
func BenchmarkBurst(b *testing.B) {
	host(b)
	x, y := listen(b, "127.0.0.1", 1), listen(b, "127.0.0.2", 1)
	_, _ = caught(b, x, vni, "127.0.0.2")
	_, _ = caught(b, y, vni, "127.0.0.1")
	know(b, x, y)
	arena := make([]byte, recvMsgs*recvRoom)
	now, p := time.Hour, x.Peers()[0]
	for b.Loop() {
		for range 3 { // the burst, the question for its tally, and its end
			now += burstEvery / 3
			p.budgetLeft, y.Peers()[0].budgetLeft = budget, budget
			p.probe(now, burstOf(1000))
			for _, v := range []*VTEP{y, x} {
				for range burstOf(1000)/recvMsgs + 1 {
					testhost.Must(b, v.Receivers()[0].Drain(arena))
				}
			}
		}
	}
	if h := p.State().Health; h == nil || h.Lost != (Ways{}) {
		b.Errorf("%+v", h)
	}
}

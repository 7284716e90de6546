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

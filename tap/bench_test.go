package tap

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// bench is a TAP without a veth, up, whose kernel side takes what is written for other stations and drops it.
func bench(b *testing.B) *Device {
	testhost.Namespace(b)
	d := create(b, spec(Direct))
	l := link(b, d.Link)
	testhost.Must(b, anywhere.disableHostIPv6(l))
	testhost.Must(b, netlink.LinkSetUp(l))
	testhost.Must(b, netlink.LinkSetHardwareAddr(l, []byte{2, 0x42, 1, 1, 1, 1}))
	return d
}

// kinds of batches: what one Drain or Send has to do with.
func batches(b *testing.B) (names []string, all map[string][]ether.Frame) {
	super, short := tcp(60000).super(b, 1398), packet{UDP: true, Payload: packets.Data(22)}.frame(b)
	all = map[string][]ether.Frame{"super": make([]ether.Frame, 7), "64 bytes": make([]ether.Frame, readBudget)}
	for i := range all["super"] {
		all["super"][i] = super
	}
	for i := range all["64 bytes"] {
		all["64 bytes"][i] = short
	}
	for _, f := range tcp(60000).train(b, 1398) {
		all["segments"] = append(all["segments"], *f)
	}
	return []string{"super", "segments", "64 bytes"}, all
}

func bytesOf(frames []ether.Frame) (n int64) {
	for i := range frames {
		n += int64(frames[i].Len())
	}
	return n
}

// perFrame gives the time for each frame.
func perFrame(b *testing.B, spent time.Duration, frames int) {
	b.ReportMetric(float64(spent.Nanoseconds())/float64(frames), "ns/frame")
}

// BenchmarkDrain reads a batch; the writing of it to the TAP is not counted.
func BenchmarkDrain(b *testing.B) {
	d := bench(b)
	names, all := batches(b)
	w := wireOn(b, d.Link)
	for _, name := range names {
		if name == "segments" {
			continue // they come as a super-frame
		}
		b.Run(name, func(b *testing.B) {
			frames, arena := all[name], make([]byte, 512<<10)
			come := 0
			d.Bind(func(frames []ether.Frame) { come += len(frames) })
			var packets [][]byte
			for i := range frames {
				p := make([]byte, vnetLen)
				encodeVnet(p, frames[i].Off)
				packets = append(packets, append(p, frames[i].Bytes()...))
			}
			var spent time.Duration
			rounds := 0
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range packets {
					testhost.Must(b, w.writeRaw(p))
				}
				for come = 0; come < len(frames); {
					began := time.Now()
					testhost.Must(b, d.Drain(arena))
					spent += time.Since(began)
				}
				rounds++
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(rounds), "ns/op") // in place of the time with the writing
			b.ReportMetric(float64(bytesOf(frames))*float64(rounds)/1e6/spent.Seconds(), "MB/s")
			perFrame(b, spent, rounds*len(frames))
		})
	}
}

// BenchmarkSend writes a batch: what is one flow in order, in one piece.
func BenchmarkSend(b *testing.B) {
	d := bench(b)
	names, all := batches(b)
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			frames := all[name]
			var batch []*ether.Frame
			for i := range frames {
				batch = append(batch, &frames[i])
			}
			b.SetBytes(bytesOf(frames))
			b.ReportAllocs()
			for b.Loop() {
				if sent, _ := d.Send(batch); sent < len(batch) {
					b.Fatalf("%d of %d frames were sent", sent, len(batch))
				}
			}
			perFrame(b, b.Elapsed(), b.N*len(batch))
		})
	}
}

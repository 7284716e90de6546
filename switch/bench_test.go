package vswitch

import (
	"fmt"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// discard takes everything and looks at nothing.
type discard struct{}

func (discard) Send(frames []*ether.Frame) (sent, bytes int) { return len(frames), 64 * len(frames) }

// A load is a batch on its way in by one port.
type load struct {
	name   string
	in     *Port
	frames []ether.Frame
}

func loads(size int) (all []load) {
	for _, k := range []struct {
		name  string
		ports int
		dst   func(i int) ether.MAC
	}{
		{"one flow", 2, func(int) ether.MAC { return mac(1) }},
		{"eight interleaved", 9, func(i int) ether.MAC { return mac(1 + i%8) }},
		{"sixteen interleaved", 17, func(i int) ether.MAC { return mac(1 + i%16) }},
		{"unicast and flood", 9, func(i int) ether.MAC { return []ether.MAC{mac(1), broadcast}[i%2] }},
		{"flood to 100", 101, func(int) ether.MAC { return broadcast }},
		{"down", 1, func(int) ether.MAC { return mac(1) }},
	} {
		s := New(Config{})
		var in *Port
		for i := range k.ports {
			p := s.Attach("", discard{}, false, 1500)
			if in == nil {
				in = p
			} else {
				p.show(i)
			}
		}
		if k.name == "down" {
			p := s.Attach("", discard{}, false, 1500)
			p.Pin(mac(1))
			p.SetDown(func() bool { return true })
		}
		l := load{name: k.name, in: in}
		for i := range size {
			l.frames = append(l.frames, frame(mac(0x1000), k.dst(i), 0))
		}
		all = append(all, l)
	}
	return all
}

func BenchmarkWatched(b *testing.B) {
	for _, l := range loads(64) {
		b.Run(l.name, func(b *testing.B) {
			l.in.sw.Watch(&countingWatcher{})
			for b.Loop() {
				l.in.Ingress(l.frames)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(l.frames)), "ns/frame")
		})
	}
}

func BenchmarkIngress(b *testing.B) {
	for _, l := range loads(64) {
		b.Run(l.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.in.Ingress(l.frames)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(l.frames)), "ns/frame")
		})
	}
}

// BenchmarkGuards has frames that containers send most, with the guards that fabric sets and without: so one can be compared with the other.
func BenchmarkGuards(b *testing.B) {
	for _, k := range []struct {
		name     string
		packet   packets.Packet
		from, to int // stations
		uplink   bool
	}{
		{"one flow, TCP", packets.Packet{}, 1, 1, false},
		{"one flow, UDP", packets.Packet{UDP: true}, 1, 1, false},
		{"one flow, IPv6 TCP", packets.Packet{V6: true}, 1, 1, false},
		{"eight interleaved", packets.Packet{}, 1, 8, false},
		{"eight from a remote host, interleaved", packets.Packet{}, 8, 8, true},
	} {
		for _, on := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/guards=%t", k.name, on), func(b *testing.B) {
				s := New(Config{})
				in := s.Attach("", discard{}, k.uplink, 1500)
				for i := range k.to {
					p := s.Attach("", discard{}, false, 1500)
					p.Pin(mac(1 + i))
					p.PinAddrs(ip(1+i), six(1+i))
				}
				if !k.uplink {
					in.Pin(mac(100))
					in.PinAddrs(ip(100), six(100))
				}
				switch {
				case on && k.uplink:
					in.SetPolicy(&Policy{Guards: GuardAddrs})
				case on:
					in.SetPolicy(full)
				}
				var frames []ether.Frame
				for i := range 64 {
					q := k.packet
					q.SrcMAC, q.DstMAC, q.Src, q.Payload = mac(100+i%k.from), mac(1+i%k.to), ip(100+i%k.from), packets.Data(100)
					if q.V6 {
						q.Src = six(100 + i%k.from)
					}
					frames = append(frames, lent(q.Bytes()))
				}
				for b.Loop() {
					in.Ingress(frames)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(frames)), "ns/frame")
			})
		}
	}
}

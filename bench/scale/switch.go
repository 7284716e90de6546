package scale

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// discard is a device that takes all frames and looks at none.
type discard struct{}

func (discard) Send(frames []*ether.Frame) (sent, bytes int) {
	return len(frames), traffic.ShortFrameSize * len(frames)
}

// places is a switch with a port for each of many hosts.
type places struct {
	sw       *vswitch.Switch
	in       *vswitch.Port
	blocks   []vswitch.Block
	stations map[ether.MAC]*vswitch.Port
	odd      []ether.MAC // of stations
}

// newPlaces tells a switch of so many records of a tenth as many hosts: of ten, nine are blocks, and one is a station with an address of another kind.
func newPlaces(records int) *places {
	p := &places{sw: vswitch.New(vswitch.Config{}), stations: make(map[ether.MAC]*vswitch.Port)}
	p.in = p.sw.Attach("container", discard{}, false, 1514)
	p.in.Pin(traffic.Station(0))
	ports := make([]*vswitch.Port, max(records/10, 1))
	for i := range ports {
		ports[i] = p.sw.Attach("host", discard{}, true, 1514)
	}
	for i := range records {
		at := ports[i%len(ports)]
		if i%10 < 9 {
			p.blocks = append(p.blocks, vswitch.Block{Prefix: block(i), Port: at})
			continue
		}
		m := ether.MAC{2, 0x99}
		binary.BigEndian.PutUint32(m[2:], uint32(i))
		p.stations[m] = at
		p.odd = append(p.odd, m)
	}
	return p
}

// any is the address of any container of any host.
func (p *places) any(r *rand.Rand) ether.MAC {
	if len(p.odd) > 0 && r.IntN(10) == 0 {
		return p.odd[r.IntN(len(p.odd))]
	}
	a := p.blocks[r.IntN(len(p.blocks))].Prefix.Addr().As4()
	m := ether.MAC{2, 0x42, a[0], a[1], a[2], a[3] + byte(r.IntN(64))}
	return m
}

// decide is the time of one decision in ns, for frames to these, in batches of 64.
func (p *places) decide(ctx context.Context, to []ether.MAC) (float64, error) {
	frames := make([]ether.Frame, len(to))
	for i := range frames {
		frames[i] = traffic.Complete(traffic.Shortest(traffic.Station(0), to[i]))
	}
	before := p.in.Stats().Rx
	best, sent := 0.0, uint64(0)
	for range 9 { // the best of them: what else the machine does makes none faster
		began, n := taken(), 0
		for taken()-began < 10*time.Millisecond {
			for range 1 + 1000/len(frames) { // to read the clock costs as much as some frames
				for at := 0; at < len(frames); at += 64 {
					p.in.Ingress(frames[at:min(at+64, len(frames))])
				}
				n += len(frames)
			}
		}
		if each := float64((taken() - began).Nanoseconds()) / float64(n); best == 0 || each < best {
			best = each
		}
		sent += uint64(n)
	}
	if rx := p.in.Stats().Rx; rx[vswitch.Forwarded]-before[vswitch.Forwarded] != sent {
		return 0, fmt.Errorf("of %d frames %d were forwarded", sent, rx[vswitch.Forwarded]-before[vswitch.Forwarded])
	}
	return best, ctx.Err()
}

// byPlaces tells a switch of more and more places.
func byPlaces(ctx context.Context, o *Options) ([]results.Curve, error) {
	flow := results.Curve{Name: "switch: a decision, frames of one flow", X: "records", Y: "ns"}
	hot := results.Curve{Name: "switch: a decision, frames to 1,000 containers", X: "records", Y: "ns"}
	any := results.Curve{Name: "switch: a decision, each frame to any container of all", X: "records", Y: "ns"}
	set := results.Curve{Name: "switch: places are set anew, each", X: "records", Y: "ns"}
	memory := results.Curve{Name: "switch: memory of a record", X: "records", Y: "bytes"}
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range upTo(o.Records, 10, 100, 1000, 10_000) {
		before := heap()
		p := newPlaces(n)
		bare := heap()
		p.sw.SetPlaces(p.blocks, p.stations)
		each := (heap() - bare) / float64(n)
		ports := (bare - before) / float64(n)
		took := time.Duration(0)
		for range 5 { // the best of them
			began := taken()
			p.sw.SetPlaces(p.blocks, p.stations)
			if t := taken() - began; took == 0 || t < took {
				took = t
			}
		}
		one := p.any(r)
		macs := func(n int) (all []ether.MAC) {
			for range n {
				all = append(all, p.any(r))
			}
			return all
		}
		same := make([]ether.MAC, 64)
		for i := range same {
			same[i] = one
		}
		var nanos [3]float64
		few := macs(1000)
		for i, to := range [][]ether.MAC{same, few, macs(64 << 10)} {
			var err error
			if nanos[i], err = p.decide(ctx, to); err != nil {
				return nil, err
			}
		}
		flow.Add(n, nanos[0])
		hot.Add(n, nanos[1])
		any.Add(n, nanos[2])
		set.Add(n, float64(took.Nanoseconds())/float64(n))
		if n >= 100 { // fewer are lost among what a switch has anyway
			memory.Add(n, each)
		}
		fmt.Fprintf(o.Progress, "  %6d records of %5d hosts: %.1f ns a decision for one flow, %.0f ns for 1,000 containers, %.0f ns for any; %.0f bytes each, with the hosts' ports and the list %.0f; set anew in %.2f ms\n",
			n, max(n/10, 1), nanos[0], nanos[1], nanos[2], each, each+ports, ms(took))
	}
	return []results.Curve{flow, hot, any, set, memory}, nil
}

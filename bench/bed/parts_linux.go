package bed

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A moveFunc moves some frames once. It gives their number and the time that the part took for them, without the time to
// lay them ready. No frames: the part does not know such.
type moveFunc func(ctx context.Context) (frames int, took time.Duration, err error)

// A part is opened twice: to be measured with super-frames of 60 KB, and with frames of 64 bytes.
type part struct {
	name string
	open func(super bool) (run moveFunc, end func(), err error)
}

// allParts is all that a frame's way is made of, from the bottom up.
var allParts = []part{
	{"memory copy", copyPart},
	{"TAP read + write", tapPart},
	{"switch alone, one flow", switchPart(1)},
	{"switch alone, eight flows", switchPart(8)},
	{"TAP→switch→TAP", tapToTAPPart},
	{"UDP alone, GSO and GRO", udpPart},
	{"cut + join alone", cutPart},
	{"VXLAN over loopback", tunnelPart},
}

// Parts climbs the ladder inside of this process, in a network namespace of its own.
func Parts(ctx context.Context, quick bool, progress io.Writer) (all []results.Part, skipped []results.Skip, err error) {
	slice := 100 * time.Millisecond
	if quick {
		slice = 20 * time.Millisecond
	}
	err = traffic.Apart(func() error {
		for _, p := range allParts {
			figure, err := p.measure(ctx, slice)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				skipped = append(skipped, results.Skip{What: p.name, Why: err.Error()})
				fmt.Fprintf(progress, "  %-26s skipped: %v\n", p.name, err)
				continue
			}
			all = append(all, figure)
			fmt.Fprintf(progress, "  %-26s %7.1f Gb/s %8.1f ns a short frame %6.2f allocations\n", p.name, figure.Gbps, figure.Nanos, figure.Allocs)
		}
		return nil
	})
	return all, skipped, err
}

// measure takes both figures of a part, each the median of five slices of time.
func (p part) measure(ctx context.Context, slice time.Duration) (results.Part, error) {
	figure := results.Part{Name: p.name}
	for _, super := range []bool{true, false} {
		run, end, err := p.open(super)
		if err != nil {
			return figure, err
		}
		nanos, allocs, err := timePerFrame(ctx, slice, run)
		end()
		if err != nil {
			return figure, err
		}
		figure.Allocs = max(figure.Allocs, allocs)
		switch {
		case nanos == 0:
		case super:
			figure.Gbps = traffic.SuperPayload * 8 / nanos
		default:
			figure.Nanos = nanos
		}
	}
	return figure, nil
}

// timePerFrame gives the time and the allocations that a batch takes for each frame.
func timePerFrame(ctx context.Context, slice time.Duration, run moveFunc) (nanos, allocs float64, err error) {
	if n, _, err := run(ctx); n == 0 || err != nil { // the first fills caches and pools
		return 0, 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var all int
	var each []float64
	for range 5 {
		var frames int
		var spent time.Duration
		for end := time.Now().Add(slice); frames == 0 || time.Now().Before(end); {
			n, took, err := run(ctx)
			if err != nil {
				return 0, 0, err
			}
			frames += n
			spent += took
		}
		all += frames
		each = append(each, float64(spent.Nanoseconds())/float64(frames))
	}
	runtime.ReadMemStats(&after)
	return results.Median(each), float64(after.Mallocs-before.Mallocs) / float64(all), nil
}

// copyPart copies within an arena as large as a worker's: what no switch in user space does without, once a side.
func copyPart(super bool) (moveFunc, func(), error) {
	size, n := traffic.ShortFrame, 64
	if super {
		size, n = traffic.SuperPayload, 7
	}
	from, to := make([]byte, n*size), make([]byte, n*size)
	const rounds = 16 // a look at the clock costs as much as a short frame
	return func(context.Context) (int, time.Duration, error) {
		began := time.Now()
		for range rounds {
			for at := 0; at < len(from); at += size {
				copy(to[at:at+size], from[at:at+size])
			}
		}
		return rounds * n, time.Since(began), nil
	}, func() {}, nil
}

// discard takes everything and looks at nothing.
type discard struct{}

func (discard) Send(frames []*ether.Frame) (sent, bytes int) {
	return len(frames), traffic.ShortFrame * len(frames)
}

// switchPart lets a switch decide for batches of 64 frames. It does not touch what is behind the headers, so Gb/s would
// mean nothing.
func switchPart(flows int) func(super bool) (moveFunc, func(), error) {
	return func(super bool) (moveFunc, func(), error) {
		if super {
			return noFrames, func() {}, nil
		}
		s := vswitch.New(vswitch.Config{})
		in := s.Attach("in", discard{}, false, 1514)
		for i := range flows {
			s.Attach("out", discard{}, false, 1514).Pin(traffic.Station(1 + i))
		}
		frames := make([]ether.Frame, 64)
		for i := range frames {
			frames[i] = traffic.Complete(traffic.Shortest(traffic.Station(0), traffic.Station(1+i%flows)))
		}
		const rounds = 16
		return func(context.Context) (int, time.Duration, error) {
			began := time.Now()
			for range rounds {
				in.Ingress(frames)
			}
			return rounds * len(frames), time.Since(began), nil
		}, func() {}, nil
	}
}

func noFrames(context.Context) (int, time.Duration, error) { return 0, 0, nil }

// cutPart cuts a super-frame as it would leave by a tunnel, and joins what came of it as it would enter a TAP: a
// stream's, or sixty-four datagrams' of which each is a frame of 64 bytes.
func cutPart(super bool) (moveFunc, func(), error) {
	whole, counted := traffic.Datagrams(traffic.Station(0), traffic.Station(1), 64), 64
	if super {
		whole, counted = traffic.SuperFrame(traffic.Station(0), traffic.Station(1)), 1
	}
	if err := whole.Check(); err != nil {
		return nil, nil, err
	}
	var (
		cut    ether.Cutter
		join   ether.Joiner
		arena  = make([]byte, 2*ether.MaxFrame)
		frames = make([]ether.Frame, 0, ether.MaxSegments)
	)
	return func(context.Context) (int, time.Duration, error) {
		began := time.Now()
		frames = frames[:0]
		at := 0
		for cut.Reset(&whole); ; {
			n, payload, ok := cut.Next(arena[at+ether.Headroom:][:ether.MaxHead])
			if !ok {
				break
			}
			// A wire carries both in one: the copy is the network card's work, but there is none here.
			end := at + ether.Headroom + n + copy(arena[at+ether.Headroom+n:], payload)
			frames = append(frames, ether.Lend(arena[at:end], ether.Offload{}))
			at = end
		}
		joined := join.Start(&frames[0])
		for i := 1; joined && i < len(frames); i++ {
			joined = join.Add(&frames[i])
		}
		if !joined {
			return 0, 0, fmt.Errorf("%d frames of one flow were not joined", len(frames))
		}
		join.Head()
		return counted, time.Since(began), nil
	}, func() {}, nil
}

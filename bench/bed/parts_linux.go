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

// A moveFunc moves some frames once. It returns their number and the time that the part took for them, without the time to
// prepare them. No frames: the part has no use for this kind of frame.
type moveFunc func(ctx context.Context) (frames int, took time.Duration, err error)

// A part is opened twice, to be measured with super-frames of 60 KB and with frames of 64 bytes.
type part struct {
	name string
	open func(super bool) (run moveFunc, end func(), err error)
}

// allParts are the parts of a frame's path, from a plain copy to the whole tunnel.
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

// Parts measures each part of a frame's path alone, in this process, in a network namespace of its own. quick takes less time.
// A part that fails is in skipped; an error is the context's or the namespace's. It prints each figure to progress.
func Parts(ctx context.Context, quick bool, progress io.Writer) (all []results.Part, skipped []results.Skip, err error) {
	slice := 100 * time.Millisecond
	if quick {
		slice = 20 * time.Millisecond
	}
	err = traffic.InNewNamespace(func() error {
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

// timePerFrame returns the time, in ns, and the allocations that run takes for each frame. A slice is how long it calls run
// for each of five values; nanos is their median.
func timePerFrame(ctx context.Context, slice time.Duration, run moveFunc) (nanos, allocs float64, err error) {
	if n, _, err := run(ctx); n == 0 || err != nil { // the first call fills caches and pools
		return 0, 0, err
	}
	each := make([]float64, 0, 5)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var all int
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

// copyPart copies within an arena as large as a worker's: what every switch in user space does on each side.
func copyPart(super bool) (moveFunc, func(), error) {
	size, n := traffic.ShortFrameSize, 64
	if super {
		size, n = traffic.SuperPayload, 7
	}
	from, to := make([]byte, n*size), make([]byte, n*size)
	const rounds = 16 // to read the clock costs as much as a short frame
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

// discard is a device that takes all frames and reads none.
type discard struct{}

func (discard) Send(frames []*ether.Frame) (sent, bytes int) {
	return len(frames), traffic.ShortFrameSize * len(frames)
}

// switchPart has a switch decide about batches of 64 frames. A switch reads headers only, so Gb/s would mean nothing.
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

// cutPart cuts a super-frame as the tunnel does on egress, and joins the frames again as it does towards a TAP: a super-frame of
// TCP, or one of 64 datagrams of which each is a frame of 64 bytes.
func cutPart(super bool) (moveFunc, func(), error) {
	frame, counted := traffic.Datagrams(traffic.Station(0), traffic.Station(1), 64), 64
	if super {
		frame, counted = traffic.SuperFrame(traffic.Station(0), traffic.Station(1)), 1
	}
	if err := frame.Check(); err != nil {
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
		for cut.Reset(&frame); ; {
			n, payload, ok := cut.Next(arena[at+ether.Headroom:][:ether.MaxHead])
			if !ok {
				break
			}
			// On a wire both are one frame. A network card would copy the payload; here the bench does.
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

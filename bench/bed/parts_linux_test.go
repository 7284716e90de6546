package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
	"github.com/tapestry-net/tapestry/ether"
)

// The frames of the parts are valid: the switch and the tunnel handle them as any other frame.
func TestFrames(t *testing.T) {
	for _, k := range []struct {
		name     string
		frame    ether.Frame
		len, cut int // bytes, and frames of 64 bytes or of a segment that it is cut into; 0: it is no super-frame
	}{
		{"super-frame", traffic.SuperFrame(traffic.Station(0), traffic.Station(1)), traffic.SuperPayload + 54, 43},
		{"datagrams", traffic.Datagrams(traffic.Station(0), traffic.Station(1), 64), 42 + 64*22, 64},
		{"one frame", traffic.Shortest(traffic.Station(0), traffic.Station(1)), traffic.ShortFrameSize, 0},
	} {
		f := k.frame
		if err := f.Check(); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		if f.Len() != k.len || f.Src() != traffic.Station(0) || f.Dst() != traffic.Station(1) {
			t.Errorf("%s: %d bytes from %s to %s, want %d", k.name, f.Len(), f.Src(), f.Dst(), k.len)
		}
		var c ether.Cutter
		var head [ether.MaxHead]byte
		cut := 0
		for c.Reset(&f); ; cut++ {
			if _, _, ok := c.Next(head[:]); !ok {
				break
			}
		}
		if cut != k.cut {
			t.Errorf("%s: cut into %d, want %d", k.name, cut, k.cut)
		}
	}
	f := traffic.Complete(traffic.Shortest(traffic.Station(0), traffic.Station(1)))
	udp := f.Bytes()[34:]
	if sum := ether.Sum(udp, uint32(ether.Sum(f.Bytes()[26:34], uint32(17+len(udp))))); sum != 0xffff {
		t.Errorf("the sum over the complete frame is %#x, want 0xffff", sum)
	}
}

// Every part is measured with both kinds of frames, unless one means nothing, and allocates nothing for a frame.
func TestParts(t *testing.T) {
	needRoot(t)
	var printed strings.Builder
	var all []results.Part
	measured(t, func() error { // each part's frames have to arrive within a second or a few
		var skipped []results.Skip
		var err error
		all, skipped, err = Parts(context.Background(), true, &printed)
		if len(skipped) > 0 {
			err = errors.Join(err, fmt.Errorf("skipped %v", skipped))
		}
		return err
	})
	if len(all) != len(allParts) {
		t.Fatalf("%d parts, want %d", len(all), len(allParts))
	}
	info, _ := debug.ReadBuildInfo() // the race detector makes sync.Pool forget at random
	raced := slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
	for _, p := range all {
		if p.Nanos <= 0 || p.Gbps <= 0 && !strings.HasPrefix(p.Name, "switch") {
			t.Errorf("%s: %v Gb/s, %v ns", p.Name, p.Gbps, p.Nanos)
		}
		if p.Allocs > 0.05 && !raced {
			t.Errorf("%s: %v allocations for each frame", p.Name, p.Allocs)
		}
		if !strings.Contains(printed.String(), p.Name) {
			t.Errorf("progress does not name %s", p.Name)
		}
	}
}

// A run that is cancelled ends at once, and leaves no worker.
func TestPartsCancelled(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Parts(ctx, true, io.Discard); err != context.Canceled {
		t.Errorf("Parts returns %v", err)
	}
	if _, _, err := Curves(ctx, "/nonexistent", true, io.Discard); err != context.Canceled {
		t.Errorf("Curves returns %v", err)
	}
}

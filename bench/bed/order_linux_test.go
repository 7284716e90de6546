package bed

import (
	"runtime"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// Of millions of datagrams none is reordered and none is duplicated. Most are sent as trains (UDP_SEGMENT), since one by one
// they would take minutes. Trains of 7 test super-frames of odd sizes; of datagrams that are sent one by one the tunnel
// makes the trains.
func TestOrder(t *testing.T) {
	binary := needBeds(t)
	for _, on := range []struct {
		name     string
		twoHosts bool
	}{{"one host", false}, {"two hosts", true}} {
		t.Run(on.name, func(t *testing.T) {
			runtime.LockOSThread() // what a bed starts ends with the thread that started it
			defer runtime.UnlockOSThread()
			ctx := t.Context()
			b := build(t, Tapestry{binary}, on.twoHosts)
			defer b.Close()
			for _, c := range []struct {
				name                  string
				flows, frames, trains int
			}{
				{"one flow, trains of 64", 1, 2_400_000, 64},
				{"8 flows, trains of 64", 8, 1_200_000, 64},
				{"8 flows, trains of 7", 8, 400_000, 7},
				{"one flow, singly", 1, 600_000, 1},
				{"4 flows, singly", 4, 400_000, 1},
			} {
				t.Run(c.name, func(t *testing.T) {
					j := traffic.Job{Kind: "order", Flows: c.flows, Size: 64, Frames: c.frames, Train: c.trains, For: 5 * time.Minute}
					for try := 1; ; try++ {
						a, err := b.ask(ctx, j, b.address(false))
						if err != nil {
							t.Fatal(err)
						}
						t.Logf("%d sent, %d received, %d duplicates, %d reordered, %d late, %.1f s of processor time",
							a.Sent, a.Received, a.Duplicates, a.Reordered, a.Late, a.CPU)
						if a.Sent < c.frames {
							t.Errorf("%d of %d were sent in %v", a.Sent, c.frames, j.For)
						}
						if a.Reordered > 0 || a.Duplicates > 0 || a.Foreign > 0 {
							t.Errorf("%d reordered, %d duplicates, %d not of this bench", a.Reordered, a.Duplicates, a.Foreign)
						}
						if a.Received >= a.Sent/10 {
							break
						}
						if try == 5 { // a receiver that does not get to run loses many, but not each time
							t.Fatalf("%d of %d arrived: too few to say anything about their order", a.Received, a.Sent)
						}
					}
				})
			}
		})
	}
}

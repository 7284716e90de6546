package daemon

import (
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

type discard struct{}

func (discard) Send(frames []*ether.Frame) (sent, bytes int) { return len(frames), 0 }

// The counts balance also when they are asked for while a frame beyond the limit is read.
func TestStatsAtLimit(t *testing.T) {
	hub, sw := capture.NewHub(), vswitch.New(vswitch.Config{})
	hub.Add("net", sw)
	s := newActiveCapture(&captureSpec{}, api.Credentials{})
	var err error
	if s.sub, err = hub.Subscribe(capture.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.sub.Free()
	sw.Attach("a", discard{}, false, 1514).Ingress([]ether.Frame{ether.Lend(make([]byte, ether.Headroom+60), ether.Offload{})})
	balance := func(when string, filtered uint64) {
		if b := s.stats(); b.Seen != 1 || b.Filtered != filtered || b.Accepted != 1-filtered || b.Delivered != 0 || b.Waiting != 1-filtered {
			t.Errorf("%s: %+v", when, b)
		}
	}
	s.sub.Read(func(*capture.Record) {
		s.beyondLimit.Add(1)
		balance("meanwhile", 0)
	})
	balance("then", 1)
}

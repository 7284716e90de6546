package capture

import (
	"bytes"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A file may come from anybody: whatever its interfaces, comments and verdicts are, they are read as they would be written, or
// not at all.
func FuzzTold(f *testing.F) {
	p := Port{Number: 7, Network: "5f0c", VNI: 80, Name: "9b1d", Link: "tpc9b1d"}
	lost := Detail{Verdict: vswitch.Fault, Fault: ether.FaultLost | ether.FaultRate, Kind: ether.TCP6, Segment: 1400, Out: -1}
	sent := Detail{Verdict: vswitch.Forwarded, Out: 1}
	f.Add(p.describe(false), comment(&Record{Verdict: vswitch.Spoofed}, "", false), lost.AppendTo(nil))
	p.Remote, p.Link = true, ""
	f.Add(p.describe(true), comment(&Record{Verdict: vswitch.Forwarded, Fault: ether.FaultDelayed}, "192.0.2.2", true), sent.AppendTo(nil))
	f.Add("port=-1 port=99999999999 vni=16777216 view=", "verdict= reason", []byte{0, 255, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add("port=7", comment(&Record{Verdict: vswitch.Down}, "", false), (&Detail{Verdict: vswitch.Down, Out: -1, In: 1}).AppendTo(nil))
	f.Add("eth0", "a = b: c=d", []byte{1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add("port=7", "verdict=forwarded", sent.AppendTo(nil)[:detailLen-1])
	f.Fuzz(func(t *testing.T, description, text string, verdict []byte) {
		if p, ok := ReadPort(&pcapng.Interface{Name: "x", Description: description}); ok {
			again, ok := ReadPort(&pcapng.Interface{Name: "x", Description: p.describe(p.Outer)})
			if !ok || again.Number != p.Number || again.Network != p.Network || again.VNI != p.VNI || again.Remote != p.Remote ||
				again.Link != p.Link || again.Outer != p.Outer || p.VNI >= 1<<24 {
				t.Errorf("%q is %+v, and written %+v, %v", description, p, again, ok)
			}
		}
		if words := ReadComment(text); words != nil && words["verdict"] == "" {
			t.Errorf("%q has no verdict: %v", text, words)
		}
		d, ok := ReadDetail(&pcapng.Packet{Verdict: verdict})
		if len(verdict) == detailLen-1 { // of v0.1: it is written as today's
			verdict = append(bytes.Clone(verdict), 0)
		}
		switch {
		case ok && !bytes.Equal(d.AppendTo(nil), verdict):
			t.Errorf("%x is %+v, and written %x", verdict, d, d.AppendTo(nil))
		case ok && d.Verdict.String() == "", !ok && d.Out != -1, d.Out < -1:
			t.Errorf("%x is %+v", verdict, d)
		}
	})
}

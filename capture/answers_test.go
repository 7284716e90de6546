package capture

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// lookup answers for one address.
type lookup struct {
	addr netip.Addr
	port *vswitch.Port
}

func (l lookup) Station(a netip.Addr) (ether.MAC, *vswitch.Port) {
	if a == l.addr {
		return mac(9), l.port
	}
	return ether.MAC{}, nil
}

// A question that the switch has answered is in a capture of the port that asked as the container sees it: the question comes from it, and the
// answer, which no port has sent, goes to it. Other ports have neither.
func TestAnswersCaptured(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	from, about := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")
	n.sw.SetAnswers(lookup{about, n.ports[3]})
	for point, want := range map[Point][]string{
		Once: {"one-a<1 answered", "one-a>2 answered to one-a"},
		In:   {"one-a<1 answered"},
		Out:  {"one-a>2 answered to one-a"},
		Both: {"one-a<1 answered", "one-a>2 answered to one-a"},
	} {
		for name, only := range map[string][]string{"one-a": want, "one-b": nil} {
			s := open(t, h, Options{Targets: Targets{Some: true, Endpoints: map[string]bool{name: true}}})
			n.sw.SetAnswers(nil)
			n.sw.SetAnswers(lookup{about, n.ports[3]}) // none was given
			h.frames.Store(0)
			request := packets.ARP([6]byte{255, 255, 255, 255, 255, 255}, mac(1), 1, from, [6]byte{}, about)
			n.ports[1].Ingress([]ether.Frame{ether.Lend(append(make([]byte, ether.Headroom), request...), ether.Offload{})})
			var file bytes.Buffer
			w := pcapng.NewWriter(&file, pcapng.Section{})
			e := h.NewEncoder(w, EncoderOptions{Point: point, Detail: true}, func(number uint32) bool { return (number == n.ports[1].Number) == (name == "one-a") })
			_, err := e.WriteFrom(s)
			testhost.Must(t, err)
			testhost.Must(t, w.Flush())
			if _, got, _ := seen(t, file.Bytes()); !slices.Equal(got, only) {
				t.Errorf("point %d of %s: %q, want %q", point, name, got, only)
			}
			s.Close()
		}
	}
}

package guard

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/fabric/view"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/packets"
)

func TestOf(t *testing.T) {
	const all = vswitch.GuardAddrs | vswitch.GuardRA | vswitch.GuardDHCP | vswitch.GuardBPDU
	g := func(level string, allow ...string) state.Guards { return state.Guards{Level: level, Allow: allow} }
	for _, tc := range []struct {
		name              string
		network, endpoint state.Guards
		want              vswitch.Policy
		remote            vswitch.Policy
	}{
		{"default", g(""), g(""), vswitch.Policy{Guards: all}, vswitch.Policy{Guards: vswitch.GuardAddrs}},
		{"full", g(Full), g(""), vswitch.Policy{Guards: all}, vswitch.Policy{Guards: vswitch.GuardAddrs}},
		{"mac", g(MAC), g(""), vswitch.Policy{}, vswitch.Policy{}},
		{"off", g(Off), g(""), vswitch.Policy{AnyMAC: true}, vswitch.Policy{AnyMAC: true}},
		{"the endpoint's word counts more", g(Off), g(Full), vswitch.Policy{Guards: all}, vswitch.Policy{AnyMAC: true}},
		{"for less, too", g(Full), g(Off), vswitch.Policy{AnyMAC: true}, vswitch.Policy{Guards: vswitch.GuardAddrs}},
		{"allowed by either", g("", "ra"), g("", "bpdu"), vswitch.Policy{Guards: vswitch.GuardAddrs | vswitch.GuardDHCP}, vswitch.Policy{Guards: vswitch.GuardAddrs}},
		{"all allowed", g(""), g("", Kinds()...), vswitch.Policy{Guards: vswitch.GuardAddrs}, vswitch.Policy{Guards: vswitch.GuardAddrs}},
	} {
		n, e := &state.Network{Guards: tc.network}, &state.Endpoint{ID: "e", Guards: tc.endpoint}
		got := *Of(n, e)
		if got.Storm = 0; !reflect.DeepEqual(got, tc.want) { // see TestLimits
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
		if got := *OfRemote(n); !reflect.DeepEqual(got, tc.remote) {
			t.Errorf("%s: a remote host has %+v, want %+v", tc.name, got, tc.remote)
		}
		n.HostPort = e
		if got := *Of(n, e); got.Guards != 0 {
			t.Errorf("%s: the host port has %+v", tc.name, got)
		}
	}
}

type nobody struct{}

func (nobody) Send(frames []*ether.Frame) (int, int) { return len(frames), 0 }

// Whose frames a guard has dropped, and whose address it was, are in the trips until the port is gone.
func TestTrips(t *testing.T) {
	sw := vswitch.New(vswitch.Config{})
	n := &state.Network{}
	add := func(i byte) *vswitch.Port {
		e := &state.Endpoint{ID: string('a' + rune(i)), MAC: ether.MAC{2, 0x42, 10, 0, 0, i}, Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 24)}}
		p := sw.Attach(e.ID, nobody{}, false, 1500)
		Set(p, n, e)
		return p
	}
	a, b := add(0), add(1)
	if got := Trips("net", sw); got != nil {
		t.Errorf("%+v", got)
	}
	for _, p := range []*vswitch.Port{a, a, b} {
		i := p.Name[0] - 'a'
		f := packets.Packet{SrcMAC: [6]byte{2, 0x42, 10, 0, 0, i}, Src: netip.AddrFrom4([4]byte{10, 0, 0, 1 - i})}.Bytes()
		if v := p.Inject(ether.Lend(append(make([]byte, ether.Headroom), f...), ether.Offload{})); v != vswitch.SpoofedIP {
			t.Fatalf("%s", v)
		}
	}
	want := []view.Trip{{Network: "net", Port: "a", Guard: "spoofed_ip", Owner: "b", Count: 2}, {Network: "net", Port: "b", Guard: "spoofed_ip", Owner: "a", Count: 1}}
	if got := Trips("net", sw); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	a.Detach()
	if got := Trips("net", sw); !slices.Equal(got, want[1:]) {
		t.Errorf("%+v, want %+v", got, want[1:])
	}
}

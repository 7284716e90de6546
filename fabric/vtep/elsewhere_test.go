package vtep

import (
	"net/netip"
	"os/exec"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"
)

// The tunnel is better elsewhere only if its link was down twice, and the default route has another address of its IP version.
func TestElsewhere(t *testing.T) {
	testhost.Namespace(t)
	sh := func(script string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	sh(`ip link set lo up; for i in 1 2; do ip link add up$i type veth peer name far$i; ip link set far$i up; ip link set up$i up; done
		ip addr add 192.0.2.1/24 dev up1; ip addr add 198.51.100.1/24 dev up2; ip route add default via 192.0.2.2`)
	own := netip.MustParseAddrPort("192.0.2.1:4789")
	open, err := tunnel.Listen(own, 1)
	testhost.Must(t, err)
	v := &VTEP{VTEP: open}
	defer v.Close(func() {})
	want := func(what string, addr string) {
		t.Helper()
		_, down := tunnel.Underlay(own.Addr())
		to, better := v.Elsewhere(down)
		if better != (addr != "") || better && to.String() != addr {
			t.Errorf("%s: %v %v, want %q", what, to, better, addr)
		}
	}
	want("all is well", "")
	sh("ip route replace default via 198.51.100.2")
	want("the default route has moved, and the link is up", "")
	want("still", "")
	sh("ip link set up1 down")
	want("the link is down", "")
	want("the link is down for longer", "198.51.100.1")
	sh("ip link set up1 up")
	want("it is up again", "")
	sh("ip link set up1 down; ip route del default; ip -6 addr add 2001:db8::1/64 dev up2 nodad; ip -6 route add default via 2001:db8::2")
	want("only IPv6 has a default route", "")
	want("only IPv6 has a default route, and for longer", "")
	sh("ip link set up1 up; ip route replace default via 192.0.2.2; ip link set up1 down")
	want("no default route is left", "")
}

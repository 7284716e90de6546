package vtep

import (
	"net/netip"
	"testing"

	"github.com/tapestry-net/tapestry/tunnel"
)

// The drops of tunnels that are closed stay in the counts, and what was read last can be had without reading.
func TestDrops(t *testing.T) {
	var d Drops
	if c := d.Last(); len(c.Rx) != 0 {
		t.Errorf("before anything was read: %v", c)
	}
	for range 2 {
		v, err := tunnel.Listen(netip.MustParseAddrPort("127.0.0.1:0"), 1)
		if err != nil {
			t.Fatal(err)
		}
		d.closed.Rx = map[string]uint64{"short": 3} // of the tunnel before
		open := &VTEP{VTEP: v}
		if c := d.Read(open); c.Rx["short"] != 3 || c.Kernel["no_memory"] != 0 {
			t.Errorf("open: %v", c)
		}
		d.Close(open)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if _, told := d.Last().Kernel["no_memory"]; d.Last().Rx["short"] != 3 || !told {
			t.Errorf("closed: %v", d.Last())
		}
	}
}

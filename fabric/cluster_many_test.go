package fabric

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
)

// What one host's news cost in a network of many hosts does not grow with the square of their number. It is counted in bytes that are allocated:
// what no machine makes more of.
func TestNewsAmongMany(t *testing.T) {
	cost := func(hosts int) float64 {
		_, all := newMembers(t, 1)
		m := all[0]
		m.mustNetwork(blue(1))
		record := func(i int, seq uint64) cluster.Entry {
			r := cluster.Record{Host: cluster.Host{ID: cluster.HostID(fmt.Sprintf("%016x", 100+i)), Name: fmt.Sprint("n", i), Epoch: 1,
				VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), m.cfg.Port)}, Seq: seq}
			block := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 60, byte(i >> 2), byte(i << 6)}), 26)
			r.Members = []cluster.Member{{Spec: Spec(blue(1)), Blocks: []netip.Prefix{block}}}
			r.Names = []cluster.Name{{Key: "blue", Name: fmt.Sprint("web", seq), Addrs: []netip.Addr{block.Addr().Next()}}}
			return cluster.Entry{Record: r}
		}
		u := cluster.Update{Full: true}
		for i := range hosts {
			u.Entries = append(u.Entries, record(i, 0))
		}
		m.ClusterChanged(m.dir.Apply(u))
		if n := len(m.Peers(blue(1).ID)); n != hosts {
			t.Fatalf("%d peers of %d", n, hosts)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		const times = 5
		for i := range times {
			m.ClusterChanged(m.dir.Apply(cluster.Update{Entries: []cluster.Entry{record(hosts/2, uint64(1+i))}}))
		}
		runtime.ReadMemStats(&after)
		m.close()
		return float64(after.TotalAlloc-before.TotalAlloc) / times
	}
	if few, many := cost(50), cost(500); many > 20*few {
		t.Errorf("one host's news allocate %.0f bytes among 50 hosts, and %.0f among 500", few, many)
	}
}

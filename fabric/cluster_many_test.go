package fabric

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
)

// What one host's news cost in a network of many hosts does not grow with the square of their number; and a container's name, the most common
// of all news, costs the same among many. It is counted in bytes that are allocated: what no machine makes more of.
func TestNewsAmongMany(t *testing.T) {
	const times = 5
	cost := func(hosts int) (block, name float64) {
		_, all := newMembers(t, 1)
		m := all[0]
		shared := blue(1)
		m.mustNetwork(shared)
		record := func(i int, seq uint64, bits int) cluster.Entry {
			r := cluster.Record{Host: cluster.Host{ID: cluster.HostID(fmt.Sprintf("%016x", 100+i)), Name: fmt.Sprint("n", i), Epoch: 1,
				VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), m.cfg.Port)}, Seq: seq}
			block := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 60, byte(i >> 2), byte(i << 6)}), bits)
			r.Members = []cluster.Member{{Spec: shared.Spec(), Blocks: []netip.Prefix{block}}}
			r.Names = []cluster.Name{{Key: "blue", Name: fmt.Sprint("web", seq), Addrs: []netip.Addr{block.Addr().Next()}}}
			return cluster.Entry{Record: r}
		}
		u := cluster.Update{Full: true}
		for i := range hosts {
			u.Entries = append(u.Entries, record(i, 0, 26))
		}
		m.ClusterChanged(m.dir.Apply(u))
		if n := len(m.Peers(blue(1).ID)); n != hosts {
			t.Fatalf("%d peers of %d", n, hosts)
		}
		m.ClusterChanged(m.dir.Apply(cluster.Update{Entries: []cluster.Entry{record(hosts/2, 1, 26)}})) // nothing is made for the first time any more
		bytes := func(bits func(seq uint64) int, seq uint64) float64 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for end := seq + times; seq < end; seq++ {
				m.ClusterChanged(m.dir.Apply(cluster.Update{Entries: []cluster.Entry{record(hosts/2, seq, bits(seq))}}))
			}
			runtime.ReadMemStats(&after)
			return float64(after.TotalAlloc-before.TotalAlloc) / times
		}
		name = bytes(func(uint64) int { return 26 }, 2)
		block = bytes(func(seq uint64) int { return 26 + int(seq%2) }, 2+times)
		m.close()
		return block, name
	}
	fewBlock, fewName := cost(50)
	manyBlock, manyName := cost(500)
	t.Logf("bytes for one host's news: a block %.0f among 50 hosts, %.0f among 500; a name %.0f and %.0f", fewBlock, manyBlock, fewName, manyName)
	if manyBlock > 20*fewBlock {
		t.Error("a block costs more than hosts times as much")
	}
	if manyName > 3*fewName {
		t.Error("a name costs more the more hosts there are")
	}
}

package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// byPeers floods a frame to more and more peers. They do not exist: the first router drops the datagrams.
func byPeers(ctx context.Context, quick bool, progress io.Writer) (all []results.Curve, err error) {
	cost := results.Curve{Name: "flooded frame, to each peer", X: "peers", Y: "ns"}
	memory := results.Curve{Name: "memory of a peer", X: "peers", Y: "kB"}
	added := results.Curve{Name: "peer added", X: "peers", Y: "µs"}
	err = traffic.InNewNamespace(func() error {
		local, err := blackHoleUnderlay()
		if err != nil {
			return err
		}
		v, err := tunnel.Listen(local, 1)
		if err != nil {
			return err
		}
		defer v.Close()
		sw := vswitch.New(vswitch.Config{})
		in := sw.Attach("container", discard{}, false, 1514)
		frames := []ether.Frame{traffic.Complete(traffic.Shortest(traffic.Station(0), ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}))}
		empty, peers := heap(), 0
		for _, n := range steps(quick, []int{1, 100, 1000}, 1, 10, 100, 1000) {
			began, before := time.Now(), peers
			for ; peers < n; peers++ {
				host := netip.AddrFrom4([4]byte{198, 18, byte(peers >> 8), byte(peers)})
				l, err := v.Link(77, netip.AddrPortFrom(host, 4789))
				if err != nil {
					return err
				}
				l.SetMTU(1450)
				l.Bind(sw.Attach("peer", l, true, 1464).Ingress)
			}
			each := float64(time.Since(began).Nanoseconds()) / 1e3 / float64(n-before)
			used := heap() - empty
			nanos, _, err := timePerFrame(ctx, 50*time.Millisecond, func(context.Context) (int, time.Duration, error) {
				began := time.Now()
				for range 1 + 100/n {
					in.Ingress(frames)
				}
				return n * (1 + 100/n), time.Since(began), ctx.Err()
			})
			if err != nil {
				return err
			}
			cost.Add(n, nanos)
			if n > 1 { // the first also pays for what the VTEP allocates once
				memory.Add(n, float64(used)/float64(n)/1000)
				added.Add(n, each)
			}
			fmt.Fprintf(progress, "  %4d peers: %.0f ns to flood a frame to each, %.1f kB each, %.1f µs to add one\n", n, nanos, float64(used)/float64(n)/1000, each)
		}
		for _, p := range sw.Ports() {
			if s := p.Stats(); s.Refused > 0 {
				return fmt.Errorf("%d of %d flooded frames were refused", s.Refused, s.Offered)
			}
		}
		return nil
	})
	cost.Judge(1, "ns", "%s more for each peer")
	memory.Judge(1000, "bytes", "%s more for each peer")
	added.Judge(1000, "ns", "%s more for each peer that exists; expected: the tables that look-ups read are copied as a whole")
	return []results.Curve{cost, memory, added}, err
}

// blackHoleUnderlay gives this network namespace an underlay whose only router drops everything. It returns the VTEP's
// address there.
func blackHoleUnderlay() (netip.AddrPort, error) {
	at := netlink.NewLinkAttrs()
	at.Name = "underlay"
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: "router"})
	var link, peer netlink.Link
	if err == nil {
		link, err = netlink.LinkByName("underlay")
	}
	if err == nil {
		peer, err = netlink.LinkByName("router")
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("make the underlay: %w", err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)}}
	router := net.IPv4(192, 0, 2, 2)
	elsewhere := net.HardwareAddr{2, 0, 0, 0, 0, 2} // not the address of the router's link, which therefore drops all frames
	err = errors.Join(netlink.AddrAdd(link, address), netlink.LinkSetUp(link), netlink.LinkSetUp(peer))
	if err == nil {
		err = netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: router, HardwareAddr: elsewhere, State: netlink.NUD_PERMANENT})
	}
	if err == nil {
		err = netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: router})
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("make the underlay: %w", err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 4789), nil
}

// heap is the memory of this process's live objects, in bytes.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the second one also frees what pools held
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// byAddresses has a switch learn more and more addresses, with its bounds raised.
func byAddresses(ctx context.Context, quick bool, progress io.Writer) ([]results.Curve, error) {
	find := results.Curve{Name: "frame to one of the learned addresses", X: "addresses", Y: "ns"}
	learn := results.Curve{Name: "new address learned", X: "addresses", Y: "ns"}
	memory := results.Curve{Name: "memory of a learned address", X: "addresses", Y: "bytes"}
	tick := results.Curve{Name: "clock tick over the learned addresses", X: "addresses", Y: "µs"}
	bound := results.Curve{Name: "new address at a port's bound", X: "addresses", Y: "ns"}
	for _, n := range steps(quick, []int{10, vswitch.DefaultPerPort, 100_000}, 10, vswitch.DefaultPerPort, 10_000, 100_000, 1_000_000) {
		t := newTables(n)
		find.Add(n, t.find(ctx))
		learn.Add(n, t.learnNS)
		memory.Add(n, t.bytes)
		tick.Add(n, t.tick(ctx)/1e3)
		bound.Add(n, t.evict(ctx))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		last := func(c results.Curve) float64 { return c.Points[len(c.Points)-1].Y }
		fmt.Fprintf(progress, "  %7d addresses: %.0f ns a frame, %.0f ns and %.0f bytes a new address, %.0f ns at the bound, tick %.1f µs\n",
			n, last(find), last(learn), last(memory), last(bound), last(tick))
	}
	find.Judge(1, "ns", "expected: a large table fits into no cache: each level of a look-up waits for memory")
	learn.Judge(1, "ns", "expected: a large table fits into no cache, and the garbage collector has more to scan")
	memory.Judge(1, "bytes", "%s more for each address")
	tick.Judge(1e3, "ns", "%s for each address; expected: all are examined once a second")
	bound.Judge(1e3, "ns", "%s for each address that the port owns; expected: the oldest of them is searched for")
	return []results.Curve{find, learn, memory, tick, bound}, nil
}

// tables are switches that have learned n addresses each: as many switches as it takes to measure the time.
type tables struct {
	n, next        int // addresses of each switch; number of the next new address
	switches       []*vswitch.Switch
	in, owner      *vswitch.Port // of the last
	frames         [64]ether.Frame
	learnNS, bytes float64 // for each address: ns to learn it, and bytes of memory
}

func newTables(n int) *tables {
	t := &tables{n: n, next: n}
	for i := range t.frames {
		t.frames[i] = traffic.Complete(traffic.Shortest(traffic.Station(0), traffic.Station(0)))
	}
	var took time.Duration
	empty := heap()
	for range max(1, 10_000/n) {
		sw := vswitch.New(vswitch.Config{PerPort: n, PerNetwork: 2 * n})
		t.switches = append(t.switches, sw)
		t.in, t.owner = sw.Attach("in", discard{}, false, 1514), sw.Attach("owner", discard{}, true, 1514)
		t.in.Pin(traffic.Station(-1))
		began := time.Now()
		for at := 0; at < n; at += len(t.frames) {
			batch := t.frames[:min(len(t.frames), n-at)]
			for i := range batch {
				address(&batch[i], traffic.Station(at+i), traffic.Station(-1))
			}
			t.owner.Ingress(batch)
		}
		took += time.Since(began)
	}
	all := float64(n * len(t.switches))
	t.learnNS, t.bytes = float64(took.Nanoseconds())/all, float64(heap()-empty)/all
	return t
}

// address sets a frame's MAC addresses. Its IP header does not fit them any more, but a switch does not read it.
func address(f *ether.Frame, from, to ether.MAC) {
	b := f.Bytes()
	copy(b, to[:])
	copy(b[6:], from[:])
}

// find is the time that a frame to any of the addresses takes, in ns.
func (t *tables) find(ctx context.Context) float64 {
	seed := uint64(88172645463325252)
	nanos, _, _ := timePerFrame(ctx, 20*time.Millisecond, func(ctx context.Context) (int, time.Duration, error) {
		began := time.Now()
		for range 16 {
			for i := range t.frames {
				seed ^= seed << 13 // xorshift: Marsaglia 2003
				seed ^= seed >> 7
				seed ^= seed << 17
				address(&t.frames[i], traffic.Station(-1), traffic.Station(int(seed%uint64(t.n))))
			}
			t.in.Ingress(t.frames[:])
		}
		return 16 * len(t.frames), time.Since(began), ctx.Err()
	})
	return nanos
}

// tick is the time of a clock tick at which no address is too old, in ns. The switch learns no address meanwhile.
func (t *tables) tick(ctx context.Context) float64 {
	sw, second := t.switches[len(t.switches)-1], time.Duration(0)
	nanos, _, _ := timePerFrame(ctx, 2*time.Millisecond, func(ctx context.Context) (int, time.Duration, error) {
		second += time.Microsecond // the same second
		began := time.Now()
		sw.Tick(second)
		return 1, time.Since(began), ctx.Err()
	})
	return nanos
}

// evict is the time that a new address takes at a port that owns as many as it may, in ns.
func (t *tables) evict(ctx context.Context) float64 {
	nanos, _, _ := timePerFrame(ctx, 2*time.Millisecond, func(ctx context.Context) (int, time.Duration, error) {
		address(&t.frames[0], traffic.Station(t.next), traffic.Station(-1))
		t.next++
		began := time.Now()
		t.owner.Ingress(t.frames[:1])
		return 1, time.Since(began), ctx.Err()
	})
	return nanos
}

package scale

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/tunnel"
)

// byPeers adds more and more peers to a VTEP on loopback. They do not exist, and nothing is sent to them.
func byPeers(ctx context.Context, o *Options) ([]results.Curve, error) {
	added := results.Curve{Name: "tunnel: peers are added at once, each", X: "peers", Y: "µs"}
	one := results.Curve{Name: "tunnel: one more peer is added", X: "peers", Y: "µs"}
	memory := results.Curve{Name: "tunnel: memory of a peer", X: "peers", Y: "kB"}
	step := func(n int) error {
		port, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		local := port.LocalAddr().(*net.UDPAddr).AddrPort()
		if err := port.Close(); err != nil {
			return err
		}
		v, err := tunnel.Listen(netip.AddrPortFrom(local.Addr().Unmap(), local.Port()), 1)
		if err != nil {
			return err
		}
		defer v.Close()
		var hosts []netip.AddrPort
		for i := range n {
			hosts = append(hosts, vtep(1+i))
		}
		before, began := heap(), taken()
		if _, err := v.Links(77, tunnel.Wire{}, hosts...); err != nil {
			return err
		}
		took := taken() - began
		kb := (heap() - before) / float64(n) / 1e3
		began = taken()
		const more = 20
		for i := range more {
			if _, err := v.Link(77, vtep(1+n+i)); err != nil {
				return err
			}
		}
		each := ms(taken()-began) * 1e3 / more
		added.Add(n, ms(took)*1e3/float64(n))
		one.Add(n, each)
		memory.Add(n, kb)
		fmt.Fprintf(o.Progress, "  %5d peers: added at once in %.1f ms (%.1f µs each), %.2f kB each; one more in %.0f µs\n", n, ms(took), ms(took)*1e3/float64(n), kb, each)
		return nil
	}
	var err error
	for _, n := range upTo(o.Peers, 100, 1000) {
		if err = step(n); err != nil || ctx.Err() != nil {
			break
		}
	}
	return []results.Curve{added, one, memory}, err
}

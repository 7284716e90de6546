package scale

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/tunnel"
)

// byPeers adds more and more peers to a VTEP on loopback. They do not exist, and nothing is sent to them.
func byPeers(ctx context.Context, o *Options) ([]results.Curve, error) {
	added := results.Curve{Name: "tunnel: peers are added one by one, each", X: "peers", Y: "µs"}
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
		before, began := heap(), time.Now()
		for i := range n {
			if _, err := v.Link(77, vtep(i+1)); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		took := time.Since(began)
		kb := (heap() - before) / float64(n) / 1e3
		added.Add(n, ms(took)*1e3/float64(n))
		memory.Add(n, kb)
		fmt.Fprintf(o.Progress, "  %5d peers: added in %.0f ms, one by one (%.1f µs each), %.2f kB each\n", n, ms(took), ms(took)*1e3/float64(n), kb)
		return nil
	}
	var err error
	for _, n := range upTo(o.Peers, 100, 1000) {
		if err = step(n); err != nil {
			break
		}
	}
	return []results.Curve{added, memory}, err
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/plugin"
)

// ParseMetrics reads where metrics are served: whoever shall read them from outside this host has to be given an address.
func ParseMetrics(s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = "", s
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if host != "" && host != "localhost" {
		if addr, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, errors.New("want a port, or an IP address of this host and a port, such as 192.0.2.1:9469; 0.0.0.0 is all of its addresses")
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, errors.New("want a port from 1 to 65535")
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}

// ListenMetrics listens where Prometheus may read by TCP; nil if the address is zero. Of one that others than this host can reach the log
// warns: whoever does reads there who talks how much.
func ListenMetrics(at netip.AddrPort, log *slog.Logger) (net.Listener, error) {
	if !at.IsValid() {
		return nil, nil
	}
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen on --metrics %s: %w", at, err)
	}
	if !at.Addr().IsLoopback() {
		log.Warn("metrics are served to whoever can reach their address: let a firewall say who may", "addr", l.Addr().String())
	} else {
		log.Info("metrics are served", "addr", l.Addr().String())
	}
	return l, nil
}

// ServeMetrics serves h at api.MetricsPath, and nothing else, until ctx ends.
func ServeMetrics(ctx context.Context, l net.Listener, h http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET "+api.MetricsPath, h)
	return plugin.Serve(ctx, l, mux)
}

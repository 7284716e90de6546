package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/plugin"
)

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
		log.Warn("metrics are served to whoever can reach their address: let a firewall say who may", "addr", l.Addr())
	} else {
		log.Info("metrics are served", "addr", l.Addr())
	}
	return l, nil
}

// ServeMetrics serves h at api.MetricsPath, and nothing else, until ctx ends.
func ServeMetrics(ctx context.Context, l net.Listener, h http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET "+api.MetricsPath, h)
	return plugin.Serve(ctx, l, mux)
}

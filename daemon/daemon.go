// Package daemon is what tapestry run is: the locks and sockets of the process, and the API that the commands ask. It never asks
// Docker.
//
// Log keys, the same in every package: network, endpoint, peer, peers, vni, link, mac, addr, vtep, mtu, down (what it
// is about); method, status, took, body (a call by Docker or by a command); err, stack (what went wrong); name, version,
// socket, dir, workers, lines (the daemon itself).
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/cluster/member"
	"github.com/tapestry-net/tapestry/cluster/swarm"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/ipam"
	"github.com/tapestry-net/tapestry/metrics"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/poll"
	"github.com/tapestry-net/tapestry/tap"
)

// Config are the flags of tapestry run.
type Config struct {
	fabric.Config
	Cluster   ClusterConfig
	Version   string // of this binary
	PluginDir string
	APISocket string
	APIGroup  string
	Metrics   netip.AddrPort // where Prometheus may read, beside the API's socket; zero: nowhere
	Recorder  int            // bytes
	Workers   int
	Pin       bool
	Scope     string // plugin.Local or plugin.Global
	LogLevel  string
	LogFormat string
	LogOutput string // stderr or stdout
}

// Run is the whole life of the daemon. It returns nil when ctx ends. On a host of a cluster whose address has changed it begins anew.
func Run(ctx context.Context, s Config, out io.Writer) error {
	for {
		if err := run(ctx, s, out); !errors.Is(err, member.ErrMoved) {
			return err
		}
	}
}

func run(ctx context.Context, s Config, out io.Writer) (err error) {
	log, started := newLogger(out, s.LogLevel, s.LogFormat), time.Now()

	lock, err := lockState(s.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	taken, err := lockName(s.Name)
	if err != nil {
		return err
	}
	defer taken.Close()
	if err := tap.CheckTUN(); err != nil {
		return fmt.Errorf("containers cannot be connected: %w", err)
	}
	driver, err := plugin.Listen(s.PluginDir, s.Name) // from here on Docker's calls wait instead of failing
	if err != nil {
		return err
	}
	defer driver.Close()
	workers, err := poll.New(s.Workers)
	if err != nil {
		return fmt.Errorf("make the workers: %w", err)
	}
	defer workers.Close()
	if s.Pin {
		if err := workers.Pin(); err != nil {
			return fmt.Errorf("pin the workers: %w", err)
		}
	}
	if n := workers.Workers() + 1; n > runtime.GOMAXPROCS(0) { // the rest of the daemon never waits for a worker
		runtime.GOMAXPROCS(n)
	}
	hub := capture.NewHub()
	g, ctx := errgroup.WithContext(ctx)
	captures := NewCaptures(hub, s.Version, log, ctx.Done())
	s.Managed = InPlugin()
	nodes := swarm.New(s.Port)
	live, bus := new(Live), events.New(log)
	s.Events, captures.Events = bus, bus
	s.Poller, s.Log, s.Observer = workers, log, Observer{hub, live, captures, nodes}
	engine, err := s.Cluster.engine(log)
	if err != nil {
		return fmt.Errorf("--cluster: %w", err)
	}
	var self *member.Member
	var addresses *ipam.Manager
	if engine != nil {
		self, err = member.New(member.Config{Cluster: s.Cluster.Name, Engine: engine, Dir: s.Dir, VTEP: netip.AddrPortFrom(s.VTEP, s.Port), Log: log})
		if err != nil {
			return err
		}
		s.VTEP = self.Self.VTEP.Addr() // the one that the others are told stays the tunnel's
		s.Config.Cluster = self.Fabric(func(key string) []netip.Prefix {
			if addresses == nil { // Fabric is being opened
				return nil
			}
			return addresses.Blocks(key)
		})
	}
	f, err := fabric.Open(s.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	node, err := NewSwarmNode(nodes, f)
	if err != nil {
		return err
	}
	defer node.Close()
	blocks := make(chan struct{}, 1)
	addresses, err = ipam.Open(ipam.Config{Dir: s.Dir, Engine: engine, Evidence: f, Log: log, Changed: func(string) {
		select {
		case blocks <- struct{}{}:
		default: // what is pending covers this change too
		}
	}})
	if err != nil {
		return err
	}
	defer addresses.Close()
	f.Publish() // with the blocks
	local, err := ListenAPI(s.APISocket, s.APIGroup)
	if err != nil {
		return err
	}
	defer local.Close()
	handler, calls := plugin.Handler(plugin.New(member.Driver{Fabric: f, Member: self}, s.Scope), plugin.NewIPAM(addresses), log)
	meter := &Meter{Live: live, Captures: captures, Workers: workers.Workers(), Path: f.Path, Dropped: f.Dropped, CallCount: calls.Counts, Events: bus, Cluster: self}
	scrape := metrics.Handler(s.Version, meter.Read, log)
	public, err := ListenMetrics(s.Metrics, log)
	if err != nil {
		return err
	}
	if public != nil {
		defer public.Close()
		g.Go(func() error { return ServeMetrics(ctx, public, scrape) })
	}

	// The path ends after Docker's last call has been answered: a call may need it.
	path, endPath := context.WithCancel(context.WithoutCancel(ctx))
	defer endPath()
	if err := captures.Recorder.Resize(s.Recorder); err != nil {
		return fmt.Errorf("--recorder: %w", err)
	}
	defer captures.Recorder.Close()
	g.Go(func() error { return workers.Run(path) })
	g.Go(func() error { return f.Run(path) })
	g.Go(func() error { return live.Watch(path, bus) })
	g.Go(func() error {
		for {
			select {
			case <-path.Done():
				return nil
			case <-blocks:
				f.Publish()
			}
		}
	})
	if self != nil {
		g.Go(func() error { return self.Run(path, f) })
	}
	g.Go(func() error {
		defer endPath()
		return plugin.Serve(ctx, driver, handler)
	})
	g.Go(func() error {
		return plugin.Serve(ctx, local, (&API{Fabric: f, Log: log, Name: s.Name, Scope: s.Scope, Version: s.Version, Started: started, Captures: captures, Cluster: self, Swarm: node, Addresses: addresses, Ending: ctx.Done(), Metrics: scrape, Events: bus}).Handler())
	})
	log.Info("ready", "name", s.Name, "version", s.Version, "workers", workers.Workers(), "socket", s.APISocket)
	if err := tellReady(); err != nil {
		log.Warn("systemd was not told", "err", err)
	}
	removeErrorFile()
	err = g.Wait()
	log.Info("stopped", "name", s.Name)
	return err
}

func newLogger(w io.Writer, level, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warn": slog.LevelWarn, "error": slog.LevelError}[level]}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

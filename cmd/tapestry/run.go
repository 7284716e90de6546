package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/poll"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// settings are the flags of tapestry run.
type settings struct {
	fabric.Config
	pluginDir string
	apiSocket string
	apiGroup  string
	recorder  int // bytes
	workers   int
	pin       bool
	scope     string // plugin.Local or plugin.Global
	logLevel  string
	logFormat string
	logOutput string // stderr or stdout
}

// runDaemon is the whole life of the daemon. It returns nil when ctx ends.
func runDaemon(ctx context.Context, s settings, out io.Writer) (err error) {
	log, started := newLogger(out, s.logLevel, s.logFormat), time.Now()

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
	driver, err := plugin.Listen(s.pluginDir, s.Name) // from here on Docker's calls wait instead of failing
	if err != nil {
		return err
	}
	defer driver.Close()
	workers, err := poll.New(s.workers)
	if err != nil {
		return fmt.Errorf("make the workers: %w", err)
	}
	defer workers.Close()
	if s.pin {
		if err := workers.Pin(); err != nil {
			return fmt.Errorf("pin the workers: %w", err)
		}
	}
	if n := workers.Workers() + 1; n > runtime.GOMAXPROCS(0) { // the rest of the daemon never waits for a worker
		runtime.GOMAXPROCS(n)
	}
	hub := capture.NewHub()
	g, ctx := errgroup.WithContext(ctx)
	looks := newCaptures(hub, log, ctx.Done())
	s.Managed = inPlugin()
	s.Poller, s.Log, s.Observer = workers, log, looker{hub, looks}
	f, err := fabric.Open(s.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	local, err := listenAPI(s.apiSocket, s.apiGroup)
	if err != nil {
		return err
	}
	defer local.Close()

	// The path ends after Docker's last call has been answered: a call may need it.
	path, endPath := context.WithCancel(context.WithoutCancel(ctx))
	defer endPath()
	if err := looks.recorder.Resize(s.recorder); err != nil {
		return fmt.Errorf("--recorder: %w", err)
	}
	defer looks.recorder.Close()
	g.Go(func() error { return workers.Run(path) })
	g.Go(func() error { return f.Run(path) })
	g.Go(func() error {
		defer endPath()
		return plugin.Serve(ctx, driver, plugin.Handler(plugin.New(f, s.scope), log))
	})
	g.Go(func() error {
		return plugin.Serve(ctx, local, (&api{host: f, log: log, name: s.Name, scope: s.scope, started: started, captures: looks}).handler())
	})
	log.Info("ready", "name", s.Name, "version", buildVersion().Version, "workers", workers.Workers(), "socket", s.apiSocket)
	if err := tellReady(); err != nil {
		log.Warn("systemd was not told", "err", err)
	}
	removeErrorFile()
	err = g.Wait()
	log.Info("stopped", "name", s.Name)
	return err
}

func newRun(c *client) *cobra.Command {
	s := settings{Config: fabric.Config{Name: "tapestry", Dir: "/var/lib/tapestry", Port: 4789, SweepAfter: time.Minute},
		pluginDir: "/run/docker/plugins", recorder: 32 << 20, scope: plugin.Local, logLevel: "info", logFormat: "text", logOutput: "stderr"}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon: Docker's network driver and its switch",
		Long: `Run the daemon until SIGINT or SIGTERM, as root and on the host that dockerd runs on. Docker finds it by the socket
NAME.sock in --plugin-dir. Networks and endpoints are remembered in --state-dir: after a restart, also one by
kill -9, they and their traffic come back by themselves. The log goes to standard error.

In Docker's managed plugin (docs/plugin.md) this command is what runs, and docker plugin set NAME args="…" gives it flags.`,
		Example: `  tapestry run
  tapestry run --peer 192.0.2.2 --peer 192.0.2.3
  tapestry run --vtep 192.0.2.1 --vxlan-port 4790 --log-format json`,
		Args: func(cmd *cobra.Command, args []string) error {
			// docker plugin set NAME args="" gives one empty argument.
			return arguments(0, 0)(cmd, slices.DeleteFunc(args, func(s string) bool { return s == "" }))
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := parseSocket(cmp.Or(c.socket, usualSocket))
			if err != nil {
				return failf(exitUsage, "--api-socket %q: %w", c.socket, err)
			}
			s.apiSocket = socket
			for _, p := range s.Peers {
				if !s.VTEP.IsValid() && !p.Addr().IsLoopback() || p.Addr() == s.VTEP {
					continue // with the address of the default route it is seen later
				}
				if err := tunnel.CheckPeer(s.VTEP, p.Addr()); err != nil {
					return failf(exitUsage, "--peer %s: %w", p.Addr(), err)
				}
			}
			if inPlugin() {
				if err := checkManaged(cmd.Flags()); err != nil {
					return err
				}
			}
			out := cmd.ErrOrStderr()
			if s.logOutput == "stdout" {
				out = cmd.OutOrStdout()
				if p := newLogPipe(out, s.logLevel, s.logFormat); p != nil {
					out = p
				}
			}
			err = runDaemon(cmd.Context(), s, out)
			if errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("%w: run it as root", err)
			}
			return err
		},
	}
	s.flags(cmd)
	return cmd
}

func (s *settings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(set(&s.Name, "NAME", s.Name, parseDriver), "name", "the driver's name, as in docker network create -d `NAME`")
	f.Var(set(&s.pluginDir, "DIR", s.pluginDir, parseDir), "plugin-dir", "`DIR` where Docker looks for the sockets of plugins")
	f.Var(set(&s.Dir, "DIR", s.Dir, parseDir), "state-dir", "`DIR` that remembers networks and endpoints")
	f.Var(set(&s.VTEP, "ADDR", "", plugin.ParseVTEP), "vtep", "this host's `ADDR` towards other hosts (default that of the default route, or, of a managed plugin in a Swarm, what Docker names)")
	f.Var(set(&s.Port, "PORT", "4789", parsePort), "vxlan-port", "UDP `PORT` for VXLAN, here and by default at peers")
	f.Var(&value{kind: "ADDR[:PORT]", read: func(text string) error {
		p, err := plugin.ParsePeer(text)
		if err == nil {
			s.Peers = append(s.Peers, p)
		}
		return err
	}}, "peer", "`ADDR[:PORT]` of another host, for networks without tapestry.peers; may be repeated")
	f.BoolVar(&s.CompleteChecksums, "finish-checksums", false, "finish every inner checksum here, also for peers that would do it: for captures on the underlay; slower")
	f.BoolVar(&s.pin, "pin-workers", true, "keep each thread that moves frames on a core; false where cores are given to containers one by one")
	f.Var(set(&s.SweepAfter, "DURATION", "60s", parseGrace), "sweep-after", "`DURATION` after which what no container uses any more is removed")
	f.Var(set(&s.recorder, "SIZE", "32MB", parseRecorder), "recorder", "memory of `SIZE` for the flight recorder, which keeps the headers of the latest frames; 0: none")
	f.StringVar(&s.apiGroup, "api-group", "", "`GROUP` whose members may use the API too: they can read every container's traffic")
	f.Var(set(&s.logLevel, "LEVEL", s.logLevel, oneOf("debug", "info", "warn", "error")), "log-level", "least `LEVEL` to log: debug, info, warn, error")
	f.Var(set(&s.logFormat, "FORMAT", s.logFormat, oneOf("text", "json")), "log-format", "`FORMAT` of the log: text, json")
	f.Var(set(&s.logOutput, "WHERE", s.logOutput, oneOf("stderr", "stdout")), "log-output", "`WHERE` the log goes: stderr, stdout (dockerd takes what a managed plugin says on stderr for errors)")
	f.Var(set(&s.scope, "SCOPE", s.scope, oneOf(plugin.Local, plugin.Global)), "scope", "`SCOPE` of the networks: local, or global for those of a Swarm, which takes a managed plugin")
	f.Var(set(&s.workers, "N", "0", parseWorkers), "workers", "`N` threads that move frames; 0: tapestry chooses")
	// The flags exist, so neither call can fail.
	_ = f.MarkHidden("workers")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-output", cobra.FixedCompletions([]string{"stderr", "stdout"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{plugin.Local, plugin.Global}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("plugin-dir")
	_ = cmd.MarkFlagDirname("state-dir")
}

func newLogger(w io.Writer, level, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warn": slog.LevelWarn, "error": slog.LevelError}[level]}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

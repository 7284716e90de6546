package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/tunnel"
)

func newRun(c *cli) *cobra.Command {
	s := daemon.Config{Version: buildVersion().Version, Config: fabric.Config{Name: "tapestry", Dir: "/var/lib/tapestry", Port: tunnel.DefaultPort, SweepAfter: time.Minute},
		PluginDir: "/run/docker/plugins", Recorder: 32 << 20, Scope: plugin.Local, LogLevel: "info", LogFormat: "text", LogOutput: "stderr"}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon: Docker's network driver and its switch",
		Long: `Run the daemon until SIGINT or SIGTERM, as root and on the host that dockerd runs on. Docker finds it by the socket
NAME.sock in --plugin-dir. Networks and endpoints are remembered in --state-dir: after a restart, also one by
kill -9, they and their traffic come back by themselves. The log goes to standard error.

In Docker's managed plugin (docs/plugin.md) this command is what runs, and docker plugin set NAME args="…" gives it flags.`,
		Example: `  tapestry run
  tapestry run --peer 192.0.2.2 --peer 192.0.2.3
  tapestry run --vtep 192.0.2.1 --vxlan-port 4790 --log-format json
  tapestry run --metrics 9469
  tapestry run --cluster gossip --join 192.0.2.1 --cluster-key-file /etc/tapestry/key
  tapestry run --cluster etcd --etcd https://192.0.2.5:2379 --etcd-ca /etc/tapestry/ca.pem`,
		Args: func(cmd *cobra.Command, args []string) error {
			// docker plugin set NAME args="" gives one empty argument.
			return usage.Arguments(0, 0)(cmd, slices.DeleteFunc(args, func(s string) bool { return s == "" }))
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkCluster(s.Cluster, cmd.Flags()); err != nil {
				return err
			}
			socket, err := parseSocket(cmp.Or(c.Socket, client.DefaultSocket))
			if err != nil {
				return exit.Errorf(exit.Usage, "--api-socket %q: %w", c.Socket, err)
			}
			s.APISocket = socket
			for _, p := range s.Peers {
				own := fabric.Addrs{Main: s.VTEP, Second: s.Second}.To(p.Addr())
				if !own.IsValid() && !p.Addr().IsLoopback() || p.Addr() == own {
					continue // with the address of the default route it is seen later
				}
				if err := tunnel.CheckPeer(own, p.Addr()); err != nil {
					return exit.Errorf(exit.Usage, "--peer %s: %w", p.Addr(), err)
				}
			}
			if daemon.InPlugin() {
				if err := checkManaged(cmd.Flags()); err != nil {
					return err
				}
			}
			out := cmd.ErrOrStderr()
			if s.LogOutput == "stdout" {
				out = cmd.OutOrStdout()
				if p := daemon.NewLogPipe(out, s.LogLevel, s.LogFormat); p != nil {
					out = p
				}
			}
			err = daemon.Run(cmd.Context(), s, out)
			if errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("%w: run it as root", err)
			}
			return err
		},
	}
	runFlagSet(&s, cmd)
	clusterFlagSet(&s.Cluster, cmd)
	return cmd
}

func runFlagSet(s *daemon.Config, cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(usage.Set(&s.Name, "NAME", s.Name, parseDriver), "name", "the driver's name, as in docker network create -d `NAME`")
	f.Var(usage.Set(&s.PluginDir, "DIR", s.PluginDir, parseDir), "plugin-dir", "`DIR` where Docker looks for the sockets of plugins")
	f.Var(usage.Set(&s.Dir, "DIR", s.Dir, parseDir), "state-dir", "`DIR` that remembers networks and endpoints")
	f.Var(usage.Set(&s.VTEP, "ADDR[,ADDR]", "", plugin.ReadVTEPs(&s.Second)), "vtep", "this host's `ADDR[,ADDR]` towards other hosts (default that of the default route, or, of a managed plugin in a Swarm, what Docker names); a second one of the other IP version is for peers that have only that")
	f.Var(usage.Set(&s.Port, "PORT", strconv.Itoa(tunnel.DefaultPort), parsePort), "vxlan-port", "UDP `PORT` for VXLAN, here and by default at peers")
	f.Var(&usage.Value{Kind: "ADDR[:PORT]", Read: func(text string) error {
		p, name, err := plugin.ParsePeer(text)
		if name.Host != "" {
			s.PeerNames = append(s.PeerNames, name)
		} else if err == nil {
			s.Peers = append(s.Peers, p)
		}
		return err
	}}, "peer", "`ADDR[:PORT]` or DNS name of another host, for networks without tapestry.peers; may be repeated")
	f.BoolVar(&s.CompleteChecksums, "finish-checksums", false, "complete every inner checksum here, also for peers that would do it: for captures on the underlay; slower")
	f.BoolVar(&s.Pin, "pin-workers", true, "keep each thread that moves frames on a core; false where cores are given to containers one by one")
	f.Var(usage.Set(&s.SweepAfter, "DURATION", "60s", parseGrace), "sweep-after", "`DURATION` after which what no container uses any more is removed")
	f.Var(usage.Set(&s.Recorder, "SIZE", "32MB", parseRecorder), "recorder", "memory of `SIZE` for the flight recorder, which keeps the headers of the latest frames; 0: none")
	f.Var(usage.Set(&s.Metrics, "[ADDR:]PORT", "", daemon.ParseMetrics), "metrics", "serve metrics for Prometheus at http://`[ADDR:]PORT`/metrics, at 127.0.0.1 unless ADDR says otherwise (default only on the API's socket)")
	f.StringVar(&s.APIGroup, "api-group", "", "`GROUP` whose members may use the API too: they can read every container's traffic")
	f.Var(usage.Set(&s.LogLevel, "LEVEL", s.LogLevel, oneOf("debug", "info", "warn", "error")), "log-level", "least `LEVEL` to log: debug, info, warn, error")
	f.Var(usage.Set(&s.LogFormat, "FORMAT", s.LogFormat, oneOf("text", "json")), "log-format", "`FORMAT` of the log: text, json")
	f.Var(usage.Set(&s.LogOutput, "WHERE", s.LogOutput, oneOf("stderr", "stdout")), "log-output", "`WHERE` the log goes: stderr, stdout (dockerd takes what a managed plugin says on stderr for errors)")
	f.Var(usage.Set(&s.Scope, "SCOPE", s.Scope, oneOf(plugin.Local, plugin.Global)), "scope", "`SCOPE` of the networks: local, or global for those of a Swarm, which takes a managed plugin")
	f.Var(usage.Set(&s.Workers, "N", "0", parseWorkers), "workers", "`N` threads that move frames; 0: tapestry chooses")
	// The flags exist, so neither call can fail.
	_ = f.MarkHidden("workers")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-output", cobra.FixedCompletions([]string{"stderr", "stdout"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{plugin.Local, plugin.Global}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("plugin-dir")
	_ = cmd.MarkFlagDirname("state-dir")
}

// checkManaged refuses the flags that a managed plugin of Docker's has to leave as its configuration has them, for Docker would
// start it and then not find it, or take its state away with the next upgrade.
func checkManaged(flags *pflag.FlagSet) error {
	for _, f := range []struct{ name, why string }{
		{"name", "Docker looks for the socket tapestry.sock, and calls the driver what the plugin is called (docker plugin install --alias)"},
		{"plugin-dir", "Docker looks for the socket in /run/docker/plugins of the plugin"},
		{"state-dir", "Docker keeps /var/lib/tapestry of the plugin when it upgrades it, and nothing else"},
	} {
		if flags.Changed(f.name) {
			return exit.Errorf(exit.Usage, "--%s cannot be set in a managed plugin: %s", f.name, f.why)
		}
	}
	return nil
}

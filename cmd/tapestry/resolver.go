package main

import (
	"errors"
	"log/slog"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/resolver"
)

func newResolver(c *cli) *cobra.Command {
	s := resolver.Config{Client: c.Client, ResolvConf: "/etc/resolv.conf"}
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "resolver",
		Short: "Run the DNS server that knows the names of containers on other hosts",
		Long: `Run a DNS server beside the daemon, until SIGINT or SIGTERM, as root. It answers NAME.KEY for containers of this host and of the
others on networks that hosts share (-o tapestry.network=KEY), and NAME for those of other hosts, if only one network has it.
All else it hands on to the host's own servers. It tells the other hosts, through the daemon, what this host's containers are
called. The log goes to standard error.

Docker must ask it. Either give it to all containers with a line in /etc/docker/daemon.json, and restart Docker:

    {"dns": ["172.17.0.1", "192.0.2.53"]}

or to one: docker run --dns 172.17.0.1. The first address is that of docker0 (ip addr show docker0); the second one is another
server of yours, which is asked when the resolver does not run. Names on the own host never depend on it: Docker answers them itself.
docs/names.md tells more.`,
		Example: `  tapestry resolver
  tapestry resolver --listen 172.18.0.1:53 --upstream 192.0.2.53
  docker run --rm --network blue --dns 172.17.0.1 busybox ping web.blue`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			engine, err := docker.New(c.Client)
			if err != nil {
				return err
			}
			if engine.HTTP == nil {
				return exit.Errorf(exit.Usage, "Docker cannot be asked at %s: name it by --docker-host unix:///PATH or tcp://HOST:PORT", engine.Address)
			}
			s.Docker, s.Log = engine, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return resolver.Run(cmd.Context(), s)
		},
	})
	cmd.Flags().Var(&usage.Value{Kind: "ADDR:PORT", Read: func(text string) error {
		p, err := netip.ParseAddrPort(text)
		if err != nil || p.Port() == 0 {
			return errors.New("want an address with a port, such as 172.17.0.1:53 or [fd00::1]:53")
		}
		s.Listen = append(s.Listen, p)
		return nil
	}}, "listen", "answer at `ADDR:PORT`; may be repeated (default port 53 of docker0 and docker_gwbridge, whenever they are there)")
	cmd.Flags().Var(&usage.Value{Kind: "ADDR[:PORT]", Read: func(text string) error {
		p, err := netip.ParseAddrPort(text)
		if err != nil {
			var a netip.Addr
			a, err = netip.ParseAddr(text)
			p = netip.AddrPortFrom(a, 53)
		}
		if err != nil || p.Port() == 0 || p.Addr().IsUnspecified() {
			return errors.New("want a DNS server's address, with or without a port, such as 192.0.2.53 or [2001:db8::53]:5353")
		}
		s.Upstream = append(s.Upstream, p)
		return nil
	}}, "upstream", "hand on to the server at `ADDR[:PORT]`; may be repeated (default those of /etc/resolv.conf)")
	return cmd
}

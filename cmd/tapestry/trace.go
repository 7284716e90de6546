package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/trace"
)

// traceCommand is the trace command and its flags.
type traceCommand struct {
	*cli
	tcp, udp, sport uint16
	icmp, arp       bool
	size            int
	network         string
	inject          bool
	trace.Query
	live liveTrace
}

func newTrace(c *cli) *cobra.Command {
	// 50000 is one of Linux's ephemeral ports; 49152 is a protocol to tcpdump.
	t := &traceCommand{cli: c, sport: 50000, live: liveTrace{frames: 5}}
	cmd := c.withJSON(&cobra.Command{
		Use:   "trace FROM TO | trace --live [TARGET...] [-- EXPR]",
		Short: "Show where a frame would go, and why it would be dropped",
		Long: `Show where a frame from one container to another would go, and why it would be dropped. The daemon asks
the same code that forwards frames, and changes nothing. With --inject the frame is then sent, as if FROM had sent it, but
without the faults that are set on FROM.

FROM is a container's name, the beginning of its endpoint's id, peer:HOST for a frame that comes in from another host
(of the MAC address that was last seen there, without IP), or host:NET for this host's own port. TO is a container,
host:NET, an IP address or a MAC address. A container may be on another host of the cluster: NAME, NAME.KEY, NAME@HOST. The frame is an ICMP echo request, unless a flag says otherwise. When nobody on this host has the IP address, what FROM would send
first is traced: the question who has it.

It exits 1 when the frame would be dropped or nobody would get it.

With --live it takes the next real frames of the TARGETs (five, or -n) that match the filter. For each it prints the
frame, what the switch did with it, and the explanation of the same bytes at the same port. The explanation is made a
moment later: where it differs, a line says so. With --live it exits 1 when one of the frames was dropped.

` + targetHelp + fmt.Sprintf(jsonHelp, "one object, with --live one a line"),
		Example: `  tapestry trace web db --tcp 5432
  tapestry trace web 10.77.0.9
  tapestry trace web db --udp 4433 --size 1500
  tapestry trace web 02:42:0a:4d:00:03 --inject
  tapestry trace peer:192.0.2.2 web
  tapestry trace --live web -n 3 -- host db and tcp port 5432
  tapestry trace --live network:mynet --drops --for 1m`,
		Args: func(cmd *cobra.Command, args []string) error {
			if t.live.on {
				return nil
			}
			return usage.Arguments(2, 2)(cmd, args)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if t.live.on {
				return c.completeTarget(cmd, args, typed)
			}
			return c.completeContainer(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := t.live.check(cmd); err != nil {
				return err
			}
			if t.live.on {
				return t.live.run(cmd.Context(), c, cmd, args)
			}
			if err := t.checkKind(); err != nil {
				return err
			}
			d, request, err := t.Prepare(cmd.Context(), c.Client, t.network, args[0], args[1])
			if err != nil {
				return err
			}
			request.Inject = t.inject
			r, err := trace.Explain(cmd.Context(), c.Client, d, request)
			if err != nil {
				return err
			}
			r.About, r.Notes = t.About, append(r.Notes, t.Notes...)
			if c.json {
				err = human.PrintJSON(cmd.OutOrStdout(), r)
			} else {
				err = trace.Print(cmd.OutOrStdout(), r, d)
			}
			if err == nil && !trace.Delivered(r) {
				return exit.Errorf(exit.Failure, "the frame %s", trace.Outcome(r))
			}
			return err
		},
	})
	f := cmd.Flags()
	f.Var(usage.Set(&t.tcp, "PORT", "", parsePort), "tcp", "a TCP SYN to `PORT`")
	f.Var(usage.Set(&t.udp, "PORT", "", parsePort), "udp", "a UDP datagram to `PORT`")
	f.BoolVar(&t.icmp, "icmp", false, "an ICMP echo request")
	f.BoolVar(&t.arp, "arp", false, "the question who has TO's IP address: ARP, or a neighbour solicitation")
	f.Var(usage.Set(&t.sport, "PORT", "50000", parsePort), "sport", "`PORT` that TCP and UDP come from")
	f.Var(usage.Set(&t.size, "BYTES", "", parsePacketSize), "size",
		"`BYTES` of the IP packet, as MTUs count (default: the least)")
	f.StringVar(&t.network, "network", "", "`NET` to trace on, where FROM and TO share several")
	f.BoolVar(&t.inject, "inject", false, "then really send the frame")
	t.live.flags(cmd)
	complete := func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return c.completeNetwork(cmd, nil, typed)
	}
	_ = cmd.RegisterFlagCompletionFunc("network", complete) // the flag exists, so this cannot fail
	return cmd
}

func parsePacketSize(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65535 {
		return 0, errors.New("want a size from 1 to 65535 bytes")
	}
	return n, nil
}

// checkKind refuses flags that contradict each other.
func (t *traceCommand) checkKind() error {
	var given []string
	for _, k := range []struct {
		is   bool
		kind string
	}{{t.tcp != 0, "tcp"}, {t.udp != 0, "udp"}, {t.icmp, "icmp"}, {t.arp, "arp"}} {
		if k.is {
			given = append(given, k.kind)
			t.Packet.Kind, t.Packet.Dport = k.kind, t.tcp|t.udp
		}
	}
	if len(given) > 1 {
		return exit.Errorf(exit.Usage, "--%s and --%s are two frames: trace one after the other", given[0], given[1])
	}
	if t.arp && t.size != 0 {
		return exit.Errorf(exit.Usage, "--arp has a size of its own: leave out --size")
	}
	t.Packet.Sport, t.Packet.Size = t.sport, t.size
	return nil
}

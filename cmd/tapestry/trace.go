package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// tracing is the trace command and its flags.
type tracing struct {
	*client
	tcp, udp, sport uint16
	icmp, arp       bool
	size            int
	network         string
	inject          bool
	packet          packet
	from, to        portReply // to is empty when it is no port of this host
	about           string
	notes           []string
	live            liveTrace
}

func newTrace(c *client) *cobra.Command {
	// 50000 is one of Linux's ephemeral ports; 49152 is a protocol to tcpdump.
	t := &tracing{client: c, sport: 50000, live: liveTrace{frames: 5}}
	cmd := c.reader(&cobra.Command{
		Use:   "trace FROM TO | trace --live [TARGET...] [-- EXPR]",
		Short: "Tell which way a frame would go, and why it would be dropped",
		Long: `Tell which way a frame from one container to another would go, and why it would be dropped: the daemon asks
the very functions that decide it, and changes nothing. With --inject the frame is then sent, as if FROM had sent it, but past the faults of FROM.

FROM is a container's name, the beginning of its endpoint's id, peer:HOST for a frame that comes in from another host
(of the MAC address that was last seen there, without IP), or host:NET for this host's own port. TO is a container,
host:NET, an IP address or a MAC address. The frame is an ICMP echo request, unless a flag says otherwise. When nobody on this host has the IP address, what FROM would send
first is traced: the question who has it.

It exits 1 when the frame would be dropped or nobody would get it.

With --live it takes the next real frames of the TARGETs (five, or -n) that match the filter. For each it prints the
frame, what the switch did with it, and the explanation of the same bytes at the same port. That one is of a moment
later: where it differs, a line says so. Then it exits 1 when one of them was dropped.

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
			return arguments(2, 2)(cmd, args)
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
			d, request, err := t.prepare(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			r, err := c.explain(cmd.Context(), d, request)
			if err != nil {
				return err
			}
			r.About, r.Notes = t.about, append(r.Notes, t.notes...)
			if c.json {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				err = printTrace(cmd.OutOrStdout(), r, d)
			}
			if err == nil && !r.arrives() {
				return failf(exitNo, "the frame %s", r.fate())
			}
			return err
		},
	})
	f := cmd.Flags()
	f.Var(set(&t.tcp, "PORT", "", parsePort), "tcp", "a TCP SYN to `PORT`")
	f.Var(set(&t.udp, "PORT", "", parsePort), "udp", "a UDP datagram to `PORT`")
	f.BoolVar(&t.icmp, "icmp", false, "an ICMP echo request")
	f.BoolVar(&t.arp, "arp", false, "the question who has TO's IP address: ARP, or a neighbour solicitation")
	f.Var(set(&t.sport, "PORT", "50000", parsePort), "sport", "`PORT` that TCP and UDP come from")
	f.Var(set(&t.size, "BYTES", "", parsePacketSize), "size",
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

// explain asks the daemon what becomes of a frame, and names the containers that d knows.
func (c *client) explain(ctx context.Context, d *docker, request traceRequest) (r traceReply, err error) {
	if err := c.call(ctx, http.MethodPost, "/v1/trace", request, &r); err != nil {
		return r, err
	}
	r.Request, r.NetworkName = request, d.name(r.Network)
	r.In.Container = d.containers[r.In.Port]
	for i := range r.Steps {
		s := &r.Steps[i]
		s.Container = d.containers[s.Port]
		if s.Evicts != nil {
			s.Evicts.NetworkName, s.Evicts.Container = r.NetworkName, d.containers[s.Evicts.Port]
		}
	}
	for i := range r.Ways {
		r.Ways[i].Container = d.containers[r.Ways[i].Port]
	}
	return r, nil
}

// prepare finds out what FROM and TO are, on which network, and makes the frame.
func (t *tracing) prepare(ctx context.Context, from, to string) (*docker, traceRequest, error) {
	if err := t.oneKind(); err != nil {
		return nil, traceRequest{}, err
	}
	on, err := t.find(ctx, t.network)
	if err != nil {
		return nil, traceRequest{}, err
	}
	ports, err := of[portReply](ctx, t.client, "ports", on.id)
	if err != nil {
		return nil, traceRequest{}, err
	}
	name := func(p *portReply) { p.Container = on.docker.containers[p.Name] }
	nameAll(ctx, on.docker, ports, name, func(p portReply) string { return p.Network })
	if strings.HasPrefix(from, "peer:") {
		entries, err := of[entryReply](ctx, t.client, "fdb", on.id)
		if err != nil {
			return nil, traceRequest{}, err
		}
		latest(ports, entries)
	}
	for _, word := range []*string{&from, &to} {
		found, note, err := on.docker.portWord(ctx, *word, ports)
		if err != nil {
			return nil, traceRequest{}, err
		}
		if note != "" {
			t.note("%s.", note)
		}
		*word = found
	}
	if err := t.aim(traceEnds{on.docker, ports}, from, to); err != nil {
		return nil, traceRequest{}, err
	}
	frame, err := t.packet.frame()
	if err != nil {
		return nil, traceRequest{}, failf(exitUsage, "--size %d: %w", t.size, err)
	}
	t.describe(on.docker, len(frame))
	request := traceRequest{Network: t.from.Network, Port: t.from.Name, Frame: frame, Inject: t.inject}
	if t.from.Kind == "remote" {
		request.Port = hostOf(t.from.Name)
	}
	return on.docker, request, nil
}

// latest gives each port of another host the MAC address that was last seen behind it, if one is known, and none of
// that host's own IP addresses: no frame in the network has them.
func latest(ports []portReply, entries []entryReply) {
	slices.SortStableFunc(entries, func(a, b entryReply) int { return cmp.Compare(a.AgeSeconds, b.AgeSeconds) })
	for i := range ports {
		p := &ports[i]
		if p.Kind != "remote" {
			continue
		}
		p.Addresses = nil
		at := slices.IndexFunc(entries, func(e entryReply) bool {
			return e.Network == p.Network && hostOf(e.Port) == hostOf(p.Name)
		})
		if at >= 0 {
			p.MAC = entries[at].MAC.String()
		}
	}
}

// oneKind refuses flags that contradict each other.
func (t *tracing) oneKind() error {
	var given []string
	for _, k := range []struct {
		is   bool
		kind string
	}{{t.tcp != 0, "tcp"}, {t.udp != 0, "udp"}, {t.icmp, "icmp"}, {t.arp, "arp"}} {
		if k.is {
			given = append(given, k.kind)
			t.packet.kind, t.packet.dport = k.kind, t.tcp|t.udp
		}
	}
	if len(given) > 1 {
		return failf(exitUsage, "--%s and --%s are two frames: trace one after the other", given[0], given[1])
	}
	if t.arp && t.size != 0 {
		return failf(exitUsage, "--arp has a size of its own: leave out --size")
	}
	t.packet.sport, t.packet.size = t.sport, t.size
	return nil
}

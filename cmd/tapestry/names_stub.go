package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// What stands here is a stand-in until the files of names, targets, following and captures are there.

const targetHelp = `TARGET is a container's name, network:NAME, peer:HOST, the beginning of an endpoint's id, or all. Several add up; none
means all.`

func (c *client) completeTarget(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func compile(expr string, host filter.Names) (*filter.Filter, captureFilter, error) {
	want := captureFilter{Expr: expr, Names: map[string][]string{}}
	f, err := filter.Compile(expr, func(name string) []netip.Addr {
		all := host(name)
		if len(all) > 0 {
			want.Names[name] = each(all, netip.Addr.String)
		}
		return all
	})
	if bad := (*filter.SyntaxError)(nil); errors.As(err, &bad) {
		return nil, want, failf(exitUsage, "the filter cannot be read:\n%s", bad.Caret())
	}
	return f, want, err
}

func parseSpan(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, errors.New("want a duration of 1s or more, such as 30s or 5m")
	}
	return d, nil
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

type blocks interface{ Next() (pcapng.Block, error) }

type names struct {
	d     *docker
	ports []portReply
}

func (c *client) names(ctx context.Context) (*names, error) {
	d, err := c.askDocker(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := of[portReply](ctx, c, "ports", "")
	if err != nil {
		return nil, err
	}
	nameAll(ctx, d, ports, func(*portReply) {}, func(p portReply) string { return p.Network })
	return &names{d, ports}, nil
}

func (n *names) Container(endpoint string) string { return n.d.containers[endpoint] }
func (n *names) Network(id string) string         { return n.d.name(id) }

func (n *names) Addr(a netip.Addr) string {
	for _, p := range n.All() {
		if p.Addr == a {
			return p.Name
		}
	}
	return ""
}

func (n *names) Host(name string) (all []netip.Addr) {
	for _, p := range n.All() {
		if p.Name == name {
			all = append(all, p.Addr)
		}
	}
	return all
}

func (n *names) All() (all pcapng.Names) {
	for _, p := range n.ports {
		for _, a := range p.Addresses {
			if prefix, err := netip.ParsePrefix(a); err == nil && n.Container(p.Name) != "" {
				all = append(all, pcapng.Name{Addr: prefix.Addr(), Name: n.Container(p.Name)})
			}
		}
	}
	return all
}

type targets struct{ captureTargets }

func (t *targets) Request() captureTargets { return t.captureTargets }

func (c *client) targets(_ context.Context, n *names, words []string, _ bool) (*targets, error) {
	t := &targets{}
	for _, word := range words {
		if network, ok := strings.CutPrefix(word, "network:"); ok {
			t.Networks, t.Some = append(t.Networks, network), true
			continue
		}
		found := false
		for endpoint, name := range n.d.containers {
			if name == word {
				t.Endpoints, t.Some, found = append(t.Endpoints, endpoint), true, true
			}
		}
		if !found {
			return nil, failf(exitNoTarget, "no container %q", word)
		}
	}
	return t, nil
}

type followed struct{ *stream }

func (c *client) follow(_ context.Context, s *stream, _ *names, _ *targets, _ string) *followed {
	return &followed{s}
}

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const portHelp = `PORT is a container's name (all of its ports, if it is on several networks; of one that shares another's
network, those of that other one), the beginning of an endpoint id that no other has, peer:ADDR for another host, in all
networks that reach it, or host:NET for this host's own port on a network. container:NAME is a container, whatever it is called.`

// containerWord begins the word for a container whose name alone would be taken for something else.
const containerWord = "container:"

// portNames are the names by which the daemon knows ports, each once: another host's is the same in each network.
func portNames(ports []portReply) []string {
	return slices.Compact(slices.Sorted(slices.Values(each(ports, func(p portReply) string { return p.Name }))))
}

// findPorts looks for the ports that arg names: by container, whole endpoint id, peer:ADDR, or the beginning of an id.
// Notes go to news.
func (c *client) findPorts(ctx context.Context, arg string, news io.Writer) ([]portReply, *docker, error) {
	d, err := c.askDocker(ctx)
	if err != nil {
		return nil, nil, err
	}
	all, err := of[portReply](ctx, c, "ports", "")
	if err != nil {
		return nil, nil, err
	}
	nameAll(ctx, d, all, func(p *portReply) { p.Container = d.containers[p.Name] }, func(p portReply) string { return p.Network })
	word, note, err := d.portWord(ctx, arg, all)
	if err != nil {
		return nil, nil, err
	}
	ports, err := resolvePorts("port", word, all, d)
	if err == nil && note != "" {
		fmt.Fprintln(news, note)
	}
	return ports, d, err
}

// portWord gives the word for the ports that arg means: arg, or the name of the container whose network the container
// arg shares, with a note that says so.
func (d *docker) portWord(ctx context.Context, arg string, all []portReply) (word, note string, err error) {
	name := strings.TrimPrefix(arg, containerWord)
	if _, err := resolvePorts("port", arg, all, d); exitCode(err) != exitNoTarget || !d.answered || !containerName.MatchString(name) {
		return arg, "", nil
	}
	x, err := d.container(ctx, name)
	if err != nil {
		return arg, "", nil // the word is no container's, and resolvePorts says what it can be
	}
	owner, shares, err := d.owner(ctx, x)
	switch {
	case err != nil:
		return "", "", err
	case shares == "":
		return arg, "", nil
	case !owner.State.Running:
		return "", "", failf(exitNoTarget, "%s, which does not run: start %s, then %s", shares, owner.name(), x.name())
	case !slices.ContainsFunc(all, func(p portReply) bool { return p.Container == owner.name() }):
		return "", "", failf(exitNoTarget, "%s, which has no port here", shares)
	}
	return owner.name(), shares + ": looking at " + owner.name(), nil
}

// resolvePorts picks those of all that arg names, on each network where there is one. what says in an error what was
// looked for.
func resolvePorts(what, arg string, all []portReply, d *docker) ([]portReply, error) {
	match := func(way func(p portReply) bool) (ports []portReply) {
		for _, p := range all {
			if way(p) {
				ports = append(ports, p)
			}
		}
		return ports
	}
	peer, isPeer := strings.CutPrefix(arg, "peer:")
	name := strings.TrimPrefix(arg, containerWord)
	for _, way := range []func(p portReply) bool{
		func(p portReply) bool { return name != "" && p.Container == name },
		func(p portReply) bool { return p.Kind == "container" && p.Name == arg },
		func(p portReply) bool { return d.isHost(p, arg) },
		func(p portReply) bool { return isPeer && p.Kind == "remote" && p.Name == peer },
	} {
		if ports := match(way); ports != nil {
			return ports, nil
		}
	}
	ports := match(func(p portReply) bool { return arg != "" && p.Kind == "container" && strings.HasPrefix(p.Name, arg) })
	switch len(ports) {
	case 0:
		return nil, noPort(what, arg, all, d)
	case 1:
		return ports, nil
	}
	return nil, failf(exitUsage, "%q can be %s: name one by more of its id", arg,
		strings.Join(each(ports, func(p portReply) string {
			if p.Container == "" {
				return p.Name
			}
			return fmt.Sprintf("%s (%s)", p.Name, p.Container)
		}), " or "))
}

// noPort says that nothing is called arg, and what it may have meant.
func noPort(what, arg string, all []portReply, d *docker) error {
	unnamed := ""
	if !d.answered {
		unnamed = fmt.Sprintf(" (Docker does not answer at %s, so %ss are known by endpoint id only)", d.at, what)
	}
	var words, labels []string
	for _, p := range all {
		label := d.portLabel(p.Name)
		if p.Kind == "remote" {
			label = "peer:" + p.Name
		} else if p.Kind == "container" {
			words = append(words, p.Name[:min(len(p.Name), max(len(arg), 4))])
		}
		labels = append(labels, label)
	}
	if len(all) == 0 {
		return failf(exitNoTarget, "no %s %q: this daemon has none yet%s", what, arg, unnamed)
	}
	slices.Sort(labels)
	labels = slices.Compact(labels)
	words = append(words, labels...)
	if slices.Contains(words, "peer:"+arg) {
		return failf(exitNoTarget, "no container %q, did you mean peer:%s?", arg, arg)
	}
	if near := nearest(strings.TrimPrefix(arg, containerWord), words); len(near) > 0 {
		return failf(exitNoTarget, "no %s %q, did you mean %s?%s", what, arg, strings.Join(near, " or "), unnamed)
	}
	if len(labels) > 5 {
		labels = append(labels[:5], "…")
	}
	return failf(exitNoTarget, "no %s %q, there are: %s%s", what, arg, strings.Join(labels, ", "), unnamed)
}

// completeContainer offers the names of containers, or short ids where Docker tells no name, and other hosts.
func (c *client) completeContainer(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	d, err := c.askDocker(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, _ := of[portReply](ctx, c, "ports", "") // nothing to offer when the daemon does not answer
	nameAll(ctx, d, all, func(*portReply) {}, func(p portReply) string { return p.Network })
	names := each(all, func(p portReply) string {
		if p.Kind == "remote" {
			return "peer:" + p.Name
		}
		return d.portLabel(p.Name)
	})
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

package docker

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/spell"
)

// containerPrefix begins the word for a container whose name alone would be taken for something else.
const containerPrefix = "container:"

// FindPorts looks for the ports that arg names: by container, whole endpoint id, peer:ADDR, or the beginning of an id.
// Notes go to news.
func FindPorts(ctx context.Context, c *client.Client, arg string, news io.Writer) ([]api.Port, *Engine, error) {
	d, err := Load(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	all, err := client.List[api.Port](ctx, c, api.PortsPath, "")
	if err != nil {
		return nil, nil, err
	}
	FillNames(ctx, d, all, func(p *api.Port) { p.Container = d.Containers[p.Name] }, func(p api.Port) string { return p.Network })
	word, note, err := d.PortWord(ctx, arg, all)
	if err != nil {
		return nil, nil, err
	}
	ports, err := ResolvePorts(d, "port", word, all)
	if exit.Code(err) == exit.NoTarget {
		if e, asked := FindElsewhere(ctx, c, d); asked == nil {
			if there, _ := e.Find(arg); len(there) > 0 {
				return nil, nil, exit.Errorf(exit.NoTarget, "%s is on host %s, and has no port here: its frames go through peer:%s", arg, there[0].Host, there[0].VTEP)
			}
		}
	}
	if err == nil && note != "" {
		fmt.Fprintln(news, note)
	}
	return ports, d, err
}

// PortWord returns the word for the ports that arg means: arg, or the name of the container whose network the container
// arg shares, with a note that says so.
func (d *Engine) PortWord(ctx context.Context, arg string, all []api.Port) (word, note string, err error) {
	name := strings.TrimPrefix(arg, containerPrefix)
	if _, err := ResolvePorts(d, "port", arg, all); exit.Code(err) != exit.NoTarget || !d.Answered || !containerName.MatchString(name) {
		return arg, "", nil
	}
	x, err := d.container(ctx, name)
	if err != nil {
		return arg, "", nil // the word is no container's, and ResolvePorts says what it can be
	}
	owner, shares, err := d.owner(ctx, x)
	switch {
	case err != nil:
		return "", "", err
	case shares == "":
		return arg, "", nil
	case !owner.State.Running:
		return "", "", exit.Errorf(exit.NoTarget, "%s, which does not run: start %s, then %s", shares, owner.name(), x.name())
	case !slices.ContainsFunc(all, func(p api.Port) bool { return p.Container == owner.name() }):
		return "", "", exit.Errorf(exit.NoTarget, "%s, which has no port here", shares)
	}
	return owner.name(), shares + ": looking at " + owner.name(), nil
}

// ResolvePorts picks those of all that arg names, on each network where there is one. what says in an error what was
// looked for.
func ResolvePorts(d *Engine, what, arg string, all []api.Port) ([]api.Port, error) {
	matching := func(match func(p api.Port) bool) (ports []api.Port) {
		for _, p := range all {
			if match(p) {
				ports = append(ports, p)
			}
		}
		return ports
	}
	peer, isPeer := strings.CutPrefix(arg, "peer:")
	name := strings.TrimPrefix(arg, containerPrefix)
	for _, match := range []func(p api.Port) bool{
		func(p api.Port) bool { return name != "" && p.Container == name },
		func(p api.Port) bool { return p.Kind == "container" && p.Name == arg },
		func(p api.Port) bool { return d.isHostPort(p, arg) },
		func(p api.Port) bool { return isPeer && p.Kind == "remote" && p.Name == peer },
	} {
		if ports := matching(match); ports != nil {
			return ports, nil
		}
	}
	ports := matching(func(p api.Port) bool { return arg != "" && p.Kind == "container" && strings.HasPrefix(p.Name, arg) })
	switch len(ports) {
	case 0:
		return nil, noPort(d, what, arg, all)
	case 1:
		return ports, nil
	}
	return nil, exit.Errorf(exit.Usage, "%q can be %s: name one by more of its id", arg,
		strings.Join(api.Map(ports, func(p api.Port) string {
			if p.Container == "" {
				return p.Name
			}
			return fmt.Sprintf("%s (%s)", p.Name, p.Container)
		}), " or "))
}

// noPort says that nothing is called arg, and what it may have meant.
func noPort(d *Engine, what, arg string, all []api.Port) error {
	unnamed := ""
	if !d.Answered {
		unnamed = fmt.Sprintf(" (Docker does not answer at %s, so %ss are known by endpoint id only)", d.Address, what)
	}
	var words, labels []string
	for _, p := range all {
		label := d.PortLabel(p.Name)
		if p.Kind == "remote" {
			label = "peer:" + p.Name
		} else if p.Kind == "container" {
			words = append(words, p.Name[:min(len(p.Name), max(len(arg), 4))])
		}
		labels = append(labels, label)
	}
	if len(all) == 0 {
		return exit.Errorf(exit.NoTarget, "no %s %q: this daemon has none yet%s", what, arg, unnamed)
	}
	slices.Sort(labels)
	labels = slices.Compact(labels)
	words = append(words, labels...)
	if slices.Contains(words, "peer:"+arg) {
		return exit.Errorf(exit.NoTarget, "no container %q, did you mean peer:%s?", arg, arg)
	}
	if near := spell.Nearest(strings.TrimPrefix(arg, containerPrefix), words); len(near) > 0 {
		return exit.Errorf(exit.NoTarget, "no %s %q, did you mean %s?%s", what, arg, strings.Join(near, " or "), unnamed)
	}
	return exit.Errorf(exit.NoTarget, "no %s %q, there are: %s%s", what, arg, firstFew(labels), unnamed)
}

// FillNames fills in Docker's names, asking only about the networks in rows.
func FillNames[R any](ctx context.Context, d *Engine, rows []R, name func(*R), network func(R) string) {
	ids := map[string]bool{}
	for _, r := range rows {
		ids[network(r)] = true
	}
	d.nameContainers(ctx, ids)
	for i := range rows {
		name(&rows[i])
	}
}

// PortWords are the words that FindPorts takes, sorted; with others also those for containers on other hosts, which a trace takes.
func PortWords(ctx context.Context, c *client.Client, others bool) ([]string, error) {
	d, err := Load(ctx, c)
	if err != nil {
		return nil, err
	}
	all, _ := client.List[api.Port](ctx, c, api.PortsPath, "") // nothing to offer when the daemon does not answer
	FillNames(ctx, d, all, func(*api.Port) {}, func(p api.Port) string { return p.Network })
	names := api.Map(all, func(p api.Port) string {
		if p.Kind == "remote" {
			return "peer:" + p.Name
		}
		return d.PortLabel(p.Name)
	})
	if others {
		e, err := FindElsewhere(ctx, c, d)
		for i := 0; err == nil && i < len(e.Others); i++ {
			names = append(names, e.Others[i].Label)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

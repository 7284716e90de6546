package docker

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/spell"
)

// NetworkSelection is a network that a command was asked for, or all of them, with the names that Docker gives.
type NetworkSelection struct {
	ID     string // "": all
	Engine *Engine
}

// FindNetwork looks for the network that arg names; "" means all and asks the daemon nothing.
func FindNetwork(ctx context.Context, c *client.Client, arg string) (NetworkSelection, error) {
	d, err := Load(ctx, c)
	if err != nil || arg == "" {
		return NetworkSelection{Engine: d}, err
	}
	all, err := c.Networks(ctx)
	if err != nil {
		return NetworkSelection{}, err
	}
	n, err := resolve(d, arg, all)
	return NetworkSelection{n.ID, d}, err
}

// resolve takes, in this order: Docker's name, a whole id, a VNI, the beginning of an id.
func resolve(d *Engine, arg string, all []api.Network) (api.Network, error) {
	vni, err := strconv.ParseUint(arg, 10, 24)
	if err != nil {
		vni = 0
	}
	matches := []func(n api.Network) bool{
		func(n api.Network) bool { return d.NetworkName(n.ID) == arg },
		func(n api.Network) bool { return n.ID == arg },
		func(n api.Network) bool { return vni != 0 && uint64(n.VNI) == vni },
		func(n api.Network) bool { return strings.HasPrefix(n.ID, arg) },
	}
	for _, match := range matches {
		var found []api.Network
		for _, n := range all {
			if match(n) {
				found = append(found, n)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		return api.Network{}, exit.Errorf(exit.Usage, "%q can be %s: name one by more of its id", arg,
			strings.Join(api.Map(found, d.describe), " or "))
	}
	return api.Network{}, d.notFound(arg, all)
}

// describe tells networks with one name or one beginning apart.
func (d *Engine) describe(n api.Network) string {
	name := d.NetworkName(n.ID)
	if name == "" {
		return n.ID
	}
	return fmt.Sprintf("%s (%s)", n.ID, name)
}

// notFound says why no network of this daemon is called arg, and what it may have meant.
func (d *Engine) notFound(arg string, all []api.Network) error {
	for _, n := range d.Networks {
		if n.Name != arg && n.ID != arg && (len(arg) < 12 || !strings.HasPrefix(n.ID, arg)) {
			continue
		}
		other := ""
		if d.elsewhere != nil {
			other = d.elsewhere(n.ID)
		}
		return exit.Errorf(exit.NoTarget, "network %s exists but its driver is %s, and this daemon does not have it%s", n.Name, n.Driver, other)
	}
	unnamed := ""
	if !d.Answered {
		unnamed = fmt.Sprintf(" (Docker does not answer at %s, so networks are known by id and VNI only)", d.Address)
	}
	if len(all) == 0 {
		return exit.Errorf(exit.NoTarget, "no network %q: this daemon has none yet%s", arg, unnamed)
	}
	var words, labels []string
	for _, n := range all {
		labels = append(labels, d.NetworkLabel(n.ID))
		words = append(words, d.NetworkLabel(n.ID), n.ID[:min(len(n.ID), max(len(arg), 4))])
		if n.VNI != 0 {
			words = append(words, strconv.FormatUint(uint64(n.VNI), 10))
		}
	}
	if near := spell.Nearest(arg, words); len(near) > 0 {
		return exit.Errorf(exit.NoTarget, "no network %q, did you mean %s?%s", arg, strings.Join(near, " or "), unnamed)
	}
	slices.Sort(labels)
	return exit.Errorf(exit.NoTarget, "no network %q, there are: %s%s", arg, firstFew(labels), unnamed)
}

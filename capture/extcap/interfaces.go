// Package extcap is tapestry among Wireshark's capture programs (extcap(4)): the interfaces and options that it lists, and the
// script in Wireshark's folder that calls it.
package extcap

import (
	"context"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/docker"
)

// An Interface is what can be captured, as a target of tapestry capture.
type Interface struct{ Target, Description string }

// Interfaces returns what can be captured on this host.
func Interfaces(ctx context.Context, c *client.Client) (all []Interface, err error) {
	networks, err := c.Networks(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := client.List[api.Port](ctx, c, api.PortsPath, "")
	if err != nil {
		return nil, err
	}
	n, err := docker.LoadNames(ctx, c)
	if err != nil {
		return nil, err
	}
	label := func(id string) string {
		if name := n.Network(id); name != "" {
			return name
		}
		return api.ShortID(id)
	}
	for _, w := range networks {
		all = append(all, Interface{"network:" + label(w.ID), "network " + label(w.ID)})
	}
	on := map[string][]string{} // networks of a container
	for _, p := range ports {
		if p.Kind == "host" {
			all = append(all, Interface{api.HostPrefix + label(p.Network), "this host on " + label(p.Network)})
		}
		if p.Kind != "container" {
			continue
		}
		word := n.Container(p.Name)
		if word == "" {
			word = api.ShortID(p.Name)
		}
		on[word] = append(on[word], label(p.Network))
	}
	for word, where := range on {
		slices.Sort(where)
		all = append(all, Interface{word, "container " + word + " on " + strings.Join(slices.Compact(where), ", ")})
	}
	slices.SortFunc(all, func(a, b Interface) int { return strings.Compare(a.Description, b.Description) })
	return append([]Interface{{"all", "all containers of this host"}}, all...), nil
}

// Choices are an interface's options in the format of extcap(4). Wireshark shows them in the interface's settings.
const Choices = `arg {number=0}{call=--view}{display=View}{tooltip=Frames as the containers see them, or the VXLAN datagrams that carry them to other hosts}{type=selector}
value {arg=0}{value=inner}{display=Inner: the containers' frames}{default=true}
value {arg=0}{value=outer}{display=Outer: VXLAN datagrams, rebuilt}{default=false}
value {arg=0}{value=both}{display=Both}{default=false}
arg {number=1}{call=--offload}{display=Offloads}{tooltip=What the kernel leaves to the device: partial checksums, uncut super-frames}{type=selector}
value {arg=1}{value=fix}{display=Complete checksums}{default=true}
value {arg=1}{value=segment}{display=Cut super-frames too, as on a wire}{default=false}
value {arg=1}{value=raw}{display=Raw}{default=false}
arg {number=2}{call=--point}{display=Point}{tooltip=Where a frame is shown}{type=selector}
value {arg=2}{value=once}{display=Once, where it came in}{default=true}
value {arg=2}{value=in}{display=In}{default=false}
value {arg=2}{value=out}{display=Out}{default=false}
value {arg=2}{value=both}{display=Both}{default=false}
arg {number=3}{call=--drops}{display=Dropped frames only}{type=boolflag}{default=false}
`

package docker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// EventNames gives events Docker's names. The names of containers that have ended are gone, unless an earlier event had them.
type EventNames struct {
	Client *client.Client

	engine *Engine              // nil: Docker was not asked yet
	asked  map[string]time.Time // by network, when it was asked last who is on it
}

// load asks Docker who is on the event's network, unless it knows, or was asked after the event. What was known before stays known.
func (n *EventNames) load(ctx context.Context, e *api.Event) {
	if n.engine != nil && (e.Network == "" || n.engine.Containers[e.Port] != "" || n.asked[e.Network].After(e.Time)) {
		return
	}
	asked := time.Now()
	d, err := Load(ctx, n.Client)
	if err != nil {
		return // --docker-host cannot be read: the ids have to do
	}
	d.nameContainers(ctx, map[string]bool{e.Network: true})
	if n.engine == nil {
		n.engine, n.asked = d, make(map[string]time.Time)
	}
	names := make(map[string]string)
	maps.Copy(names, n.engine.Containers)
	maps.Copy(names, d.Containers)
	d.Containers = names
	n.engine, n.asked[e.Network] = d, asked
}

// Text fills an event's names, and is the event as a line for people.
func (n *EventNames) Text(ctx context.Context, e *api.Event) string {
	n.load(ctx, e)
	var about []string
	if d := n.engine; d != nil {
		if e.Network != "" {
			e.NetworkName = d.NetworkName(e.Network)
			about = append(about, d.NetworkLabel(e.Network))
		}
		if e.Port != "" {
			e.Container = d.Containers[e.Port]
			about = append(about, d.PortLabel(e.Port))
		}
	}
	text := fmt.Sprintf("%s  %-16s %s", e.Time.Local().Format("2006-01-02 15:04:05.000"), e.Kind, strings.Join(append(about, e.Text), ": "))
	for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
		text += fmt.Sprintf(", %s %s", key, human.Printable(e.Fields[key]))
	}
	return text
}

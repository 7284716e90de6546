package session

import (
	"context"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
)

// findArmed finds the capture without a reader that --attach names, by its id, its container's name, or the first four or more
// characters of its endpoint's id. It sets want.Attach and returns the capture's targets.
func (j *Job) findArmed(ctx context.Context, n *docker.Names, want *api.CaptureRequest) (*docker.Targets, error) {
	status, err := j.Client.Status(ctx)
	if err != nil {
		return nil, err
	}
	word, t := j.Attach, docker.NewTargets(n)
	for _, b := range status.Captures {
		if b.Endpoint == "" || b.ID != word && n.Container(b.Endpoint) != word && (len(word) < 4 || !strings.HasPrefix(b.Endpoint, word)) {
			continue
		}
		if want.Attach != "" {
			return nil, exit.Errorf(exit.Usage, "%q can be capture %s or %s: name one by that number", word, want.Attach, b.ID)
		}
		want.Attach, t.Endpoints[b.Endpoint] = b.ID, true
	}
	if want.Attach == "" {
		return nil, exit.Errorf(exit.NoTarget, "no capture %q waits for a reader: tapestry status shows those that do, and a container has one that was "+
			"started with --network name=NET,driver-opt=tapestry.capture=FILTER", word)
	}
	return t, nil
}

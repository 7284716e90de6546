package bed

import (
	"context"
	"fmt"
)

// Observed is tapestry with somebody who looks at its frames, or nobody.
type Observed struct {
	Tapestry
	Label    string // its name
	Recorder string // --recorder
	Capture  string // arguments of `tapestry capture`, which are for a shell; "": nobody captures
}

func (l Observed) Name() string { return l.Label }

func (l Observed) Create(ctx context.Context, s Host) error {
	if err := l.start(ctx, s, "--recorder", l.Recorder); err != nil || l.Capture == "" {
		return err
	}
	return s.track(s.commandOwnPIDs(ctx, "sh", "-c", fmt.Sprintf("%s capture all --api-socket /run/tapestry.sock --no-limit %s", l.Binary, l.Capture)), "capturing")
}

package bed

import (
	"context"
	"fmt"
)

// Observed is tapestry with a flight recorder or a capture that copies its frames, or with neither.
type Observed struct {
	Tapestry
	Label    string // what Name returns
	Recorder string // value of the daemon's --recorder: its size, "0" is off
	Capture  string // arguments of `tapestry capture`, for a shell; "": no capture
}

func (o Observed) Name() string { return o.Label }

func (o Observed) Create(ctx context.Context, h Host) error {
	if err := o.start(ctx, h, "--recorder", o.Recorder); err != nil || o.Capture == "" {
		return err
	}
	return h.startCommand(h.commandOwnPIDs(ctx, "sh", "-c", fmt.Sprintf("%s capture all --api-socket /run/tapestry.sock --no-limit %s", o.Binary, o.Capture)), "capturing")
}

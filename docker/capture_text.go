package docker

import (
	"fmt"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// CaptureText describes a running capture: whose it is, its duration, frames and losses.
func (d *Engine) CaptureText(b api.CaptureStats) string {
	if b.State == "armed" || b.State == "kept" {
		return d.armedText(b)
	}
	who := "somebody"
	if b.UID >= 0 {
		who = fmt.Sprintf("uid %d pid %d", b.UID, b.PID)
	}
	return fmt.Sprintf("capture %s of %s %q %s, %s, %s lost", b.ID, who, human.Printable(b.Name),
		human.Duration(time.Duration(b.Seconds*float64(time.Second))), human.Count(b.Delivered, "frame"), human.Thousands(b.Dropped))
}

// armedText describes a capture without a reader: whose it is, and how many frames wait to be read.
func (d *Engine) armedText(b api.CaptureStats) string {
	state := "from its start on"
	if b.State == "kept" {
		state = "which has ended"
	}
	return fmt.Sprintf("capture %s of %s, %s, %q: %s to read, %s lost (tapestry capture --attach %s)", b.ID, d.PortLabel(b.Endpoint), state,
		human.Printable(strings.TrimPrefix(b.Name, "tapestry.capture=")), human.Count(b.Waiting, "frame"), human.Thousands(b.Dropped), b.ID)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

func newEvents(c *cli) *cobra.Command {
	since, follow := time.Unix(0, 0), false
	cmd := c.withJSON(&cobra.Command{
		Use:   "events",
		Short: "Show what has happened",
		Long: `Show what has happened on this host, oldest first: ports and peers that came up and went down, addresses that moved or
that two stations claim, guards that dropped frames, offloads that the kernel refused, captures with who began them.
docs/events.md has all kinds. The daemon keeps the latest 2,048 events in memory, since its start. With --follow it shows what
happens from now on too, until Ctrl-C.` + fmt.Sprintf(jsonHelp, "one object in a line for each event"),
		Example: `  tapestry events
  tapestry events --since 10m
  tapestry events --follow --since 2026-12-01T08:00:00Z
  tapestry events --follow --json | jq -r 'select(.kind == "peer_down") | .port'`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show.RunInterruptible(cmd.Context(), func(ctx context.Context) error {
				names, out := docker.EventNames{Client: c.Client}, cmd.OutOrStdout()
				return c.Events(ctx, since, follow, func(e *api.Event) error {
					text := names.Text(ctx, e)
					if c.json {
						return json.NewEncoder(out).Encode(e)
					}
					_, err := fmt.Fprintln(out, text)
					return err
				})
			})
		},
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show what happens from now on, too")
	cmd.Flags().Var(usage.Set(&since, "WHEN", "", parseSince), "since", "only events from `WHEN` on: a duration until now, as 10m, or a time, as 2026-12-01T08:00:00Z")
	return cmd
}

func parseSince(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return time.Now().Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, errors.New("want a duration, as 10m or 24h, or a time, as 2026-12-01T08:00:00Z")
}

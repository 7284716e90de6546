package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/capture/session"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// A liveView is a session.View with its flag.
type liveView struct{ session.View }

// resolve finds names and targets, and makes the request.
func (l *liveView) resolve(ctx context.Context, c *cli, cmd *cobra.Command, args []string) error {
	words, err := l.takeFilter(cmd, args)
	if err != nil {
		return err
	}
	return l.Resolve(ctx, c.Client, words, strings.Join(append([]string{cmd.CommandPath()}, args...), " "), cmd.ErrOrStderr())
}

// filterFlag adds --filter.
func (l *liveView) filterFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&l.Filter, "filter", "f", "", "only frames that match `EXPR`, as tcpdump has it")
}

// takeFilter stores the words behind -- as the filter, and returns the targets before it.
func (l *liveView) takeFilter(cmd *cobra.Command, args []string) ([]string, error) {
	dash := cmd.ArgsLenAtDash()
	if dash < 0 {
		return args, nil
	}
	if l.Filter != "" && dash < len(args) {
		return nil, exit.Errorf(exit.Usage, "a filter behind --filter and another one behind --: want one")
	}
	if dash < len(args) {
		l.Filter = strings.Join(args[dash:], " ")
	}
	return args[:dash], nil
}

func parseRows(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, errors.New("want a number of rows, 1 or more")
	}
	return n, nil
}

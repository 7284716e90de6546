package main

import (
	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
)

const jsonHelp = "\n\nWith --json it prints %s; docs/json.md explains the keys."

const settingsHead = "SETTINGS" // of a last column

const netHelp = `NET is a network's Docker name, its id, its VNI, or the beginning of its id that no other network has.
Without NET it shows all networks of this host.`

// withJSON gives a command the flags of those that read.
func (c *cli) withJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return c.withDockerHost(cmd)
}

// withDockerHost gives a command the flag of those that ask Docker for names.
func (c *cli) withDockerHost(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&c.DockerHost, "docker-host", "",
		"`ADDR` of Docker, to learn names from: unix:///PATH or tcp://HOST:PORT (default $DOCKER_HOST, else unix:///var/run/docker.sock)")
	return cmd
}

// listRows is a command that prints what the API has at path, of one network or of all, with the names that Docker gives.
func listRows[R any](cmd *cobra.Command, c *cli, args []string, path string, name func(*R, *docker.Engine),
	network func(R) string, head []string, row func(R, *docker.Engine) []string) error {
	arg, err := netArgument(args)
	if err != nil {
		return err
	}
	t, err := docker.FindNetwork(cmd.Context(), c.Client, arg)
	if err != nil {
		return err
	}
	all, err := client.List[R](cmd.Context(), c.Client, path, t.ID)
	if err != nil {
		return err
	}
	docker.FillNames(cmd.Context(), t.Engine, all, func(r *R) { name(r, t.Engine) }, network)
	if c.json {
		return human.PrintJSON(cmd.OutOrStdout(), all)
	}
	print := human.PrintTable
	if head[len(head)-1] == settingsHead {
		print = human.PrintSettings
	}
	return print(cmd.OutOrStdout(), head, api.Map(all, func(r R) []string { return row(r, t.Engine) }))
}

// netArgument is the NET among the arguments, "" when there is none.
func netArgument(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if args[0] == "" {
		return "", exit.Errorf(exit.Usage, "NET is empty: want a network's name, id or VNI, or nothing for all of them")
	}
	return args[0], nil
}

package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/doctor"
)

// cli is what all commands share: the client of the daemon, and --json.
type cli struct {
	*client.Client
	json bool // --json
}

func newRoot() *cobra.Command {
	c := &cli{Client: &client.Client{SearchPaths: client.SearchPaths{Socket: client.DefaultSocket, PluginDir: client.PluginDir}}}
	c.PluginNames = func(ctx context.Context, ids []string) ([]string, error) {
		return docker.PluginNames(ctx, c.Client, ids)
	}
	root := &cobra.Command{
		Use:     "tapestry",
		Version: buildVersion().Version,
		Short:   "A Docker network driver with its switch in user space",
		Long: `tapestry is a network driver for Docker. Its daemon (tapestry run) switches the frames of the containers
on this host and carries them to other hosts in VXLAN; the other commands show what it does. They find the daemon by
themselves, whether it is a unit of systemd, a process or a managed plugin of Docker: --api-socket is for another one.
Docker calls the driver of a plugin by its name with the tag: docker network create -d tapestry:latest.

` + exit.Help,
		Example: `  tapestry run &
  docker network create -d tapestry --subnet 10.77.0.0/24 mynet
  docker run -d --name web --network mynet nginx
  tapestry ports mynet`,
		Args:          usage.Subcommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(usage.FlagError)
	root.PersistentFlags().Var(usage.Set(&c.Socket, "PATH", "", parsePath), "api-socket",
		"`PATH` of the daemon's API socket (default "+client.DefaultSocket+", else that of the plugin that runs)")
	root.AddCommand(newRun(c), newStatus(c), newNetworks(c), newPorts(c), newFDB(c), newPeers(c), newCluster(c), newResolver(c),
		newCapture(c), newWatch(c), newExtcap(c), newTrace(c), newFlows(c), newTop(c), newRecorder(c), newFault(c), newEvents(c),
		newDoctor(c, doctor.ThisMachine()), newBench(), newVersion(c), newCompletion())
	root.SetHelpCommand(newHelp())
	return root
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Long:  "Explain a command: what it does, its flags, examples.",
		Example: `  tapestry help run
  tapestry help peers add`,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return exit.WithCode(exit.Usage, err)
			}
			if len(rest) > 0 {
				return usage.Subcommand(about, rest)
			}
			if about.Name() == "bench" { // another program has its help
				return about.RunE(about, []string{"--help"})
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if about, _, err := cmd.Root().Find(args); err == nil {
				for _, sub := range about.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func newCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a shell's completion script",
		Long: `Print a completion script for a shell. It completes commands, flags and the names of the networks that
the daemon has.`,
		Example: `  tapestry completion bash > /etc/bash_completion.d/tapestry
  tapestry completion zsh > /usr/local/share/zsh/site-functions/_tapestry
  tapestry completion fish > /etc/fish/completions/tapestry.fish`,
		ValidArgs: shells,
		Args:      usage.Arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return exit.Errorf(exit.Usage, "no completion for %q, want %s", args[0], strings.Join(shells, ", "))
		},
	}
}

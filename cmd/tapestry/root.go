package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/doctor"
)

// cli is what all commands have.
type cli struct {
	*client.Client
	json bool // --json
}

func newRoot() *cobra.Command {
	c := &cli{Client: &client.Client{Places: client.Places{Usual: client.UsualSocket, Plugins: client.PluginSockets}}}
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
		Args:          subcommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().Var(set(&c.Socket, "PATH", "", parsePath), "api-socket",
		"`PATH` of the daemon's API socket (default "+client.UsualSocket+", else that of the plugin that runs)")
	root.AddCommand(newRun(c), newStatus(c), newNetworks(c), newPorts(c), newFDB(c), newPeers(c),
		newCapture(c), newWatch(c), newExtcap(c), newTrace(c), newFlows(c), newTop(c), newRecorder(c), newFault(c),
		newDoctor(c, doctor.ThisMachine()), newBench(c), newVersion(c), newCompletion())
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
				return exit.With(exit.Usage, err)
			}
			if len(rest) > 0 {
				return subcommand(about, rest)
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
		Args:      arguments(1, 1),
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

// subcommand refuses any argument: what stands there was meant as a command.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	if cmd.Flags().Lookup(args[0]) != nil {
		return exit.Errorf(exit.Usage, "no command %q, did you mean --%s?", args[0], args[0])
	}
	if near := docker.Nearest(args[0], names); len(near) > 0 {
		return exit.Errorf(exit.Usage, "no command %q, did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return exit.Errorf(exit.Usage, "no command %q, %s", args[0], seeHelp(cmd))
}

// arguments accepts from least to most of them.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return exit.Errorf(exit.Usage, "too few arguments, want: %s", cmd.UseLine())
		case len(args) > most && cmd.HasSubCommands():
			return subcommand(cmd, args)
		case len(args) > most:
			return exit.Errorf(exit.Usage, "%q is one argument too many, want: %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// flagError says in one line what is wrong with a flag, and what would be right.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, "--"+f.Name)
			}
		})
		given := "--" + unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			given = "-" + unknown.GetSpecifiedName()
		}
		if near := docker.Nearest(given, names); len(near) > 0 {
			return exit.Errorf(exit.Usage, "no flag %s, did you mean %s?", given, strings.Join(near, " or "))
		}
		return exit.Errorf(exit.Usage, "no flag %s, %s", given, seeHelp(cmd))
	case errors.As(err, &invalid) && invalid.GetFlag().Value.Type() == "bool":
		return exit.Errorf(exit.Usage, "--%s %q: want true or false", invalid.GetFlag().Name, invalid.GetValue())
	case errors.As(err, &invalid):
		return exit.Errorf(exit.Usage, "--%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
	}
	return exit.Errorf(exit.Usage, "%w, %s", err, seeHelp(cmd))
}

func seeHelp(cmd *cobra.Command) string { return fmt.Sprintf("see %s --help", cmd.CommandPath()) }

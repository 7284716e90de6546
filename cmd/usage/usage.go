// Package usage refuses wrong flags and arguments of a command line in one line that says what would be right. Its
// errors have the exit code exit.Usage.
package usage

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/spell"
)

// Subcommand refuses any argument: what stands there was meant as a command.
func Subcommand(cmd *cobra.Command, args []string) error {
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
	if near := spell.Nearest(args[0], names); len(near) > 0 {
		return exit.Errorf(exit.Usage, "no command %q, did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return exit.Errorf(exit.Usage, "no command %q, %s", args[0], seeHelp(cmd))
}

// Arguments accepts from least to most of them.
func Arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return exit.Errorf(exit.Usage, "too few arguments, want: %s", cmd.UseLine())
		case len(args) > most && cmd.HasSubCommands():
			return Subcommand(cmd, args)
		case len(args) > most:
			return exit.Errorf(exit.Usage, "%q is one argument too many, want: %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// FlagError says in one line what is wrong with a flag, and what would be right.
func FlagError(cmd *cobra.Command, err error) error {
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
		if near := spell.Nearest(given, names); len(near) > 0 {
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

// A Value is a flag with a reader of its own, so that a wrong one is answered with what would be right.
type Value struct {
	Text string // as given, or the default
	Kind string // shown in the help
	Read func(string) error
}

func (v *Value) String() string { return v.Text }
func (v *Value) Type() string   { return v.Kind }

func (v *Value) Set(s string) error {
	err := v.Read(s)
	if err == nil {
		v.Text = s
	}
	return err
}

// Set makes a Value that stores what parse reads; text is the default, already stored in to.
func Set[T any](to *T, kind, text string, parse func(string) (T, error)) *Value {
	return &Value{text, kind, func(s string) error {
		x, err := parse(s)
		if err == nil {
			*to = x
		}
		return err
	}}
}

package usage

import (
	"errors"
	"strconv"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/cmd/exit"
)

// What is wrong is said in a line with what would be right, and the exit code is that of wrong usage.
func TestErrors(t *testing.T) {
	n := 7
	root := &cobra.Command{Use: "tool", Args: Subcommand, SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
	root.SetFlagErrorFunc(FlagError)
	one := &cobra.Command{Use: "show NAME", Args: Arguments(1, 1), RunE: func(*cobra.Command, []string) error { return nil }}
	one.Flags().Var(Set(&n, "N", "7", func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, errors.New("want a number")
		}
		return n, nil
	}), "count", "so many")
	one.Flags().Bool("all", false, "all")
	root.AddCommand(one)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"shwo"}, `no command "shwo", did you mean show?`},
		{[]string{"xyzzyx"}, `no command "xyzzyx", see tool --help`},
		{[]string{"show"}, "too few arguments, want: tool show NAME [flags]"},
		{[]string{"show", "a", "b"}, `"b" is one argument too many, want: tool show NAME [flags]`},
		{[]string{"show", "a", "--conut", "3"}, "no flag --conut, did you mean --count?"},
		{[]string{"show", "a", "-x"}, "no flag -x, see tool show --help"},
		{[]string{"show", "a", "--count", "many"}, `--count "many": want a number`},
		{[]string{"show", "a", "--all=perhaps"}, `--all "perhaps": want true or false`},
	} {
		root.SetArgs(c.args)
		if err := root.Execute(); err == nil || err.Error() != c.want || exit.Code(err) != exit.Usage {
			t.Errorf("%q: %v (exit %d), want %q", c.args, err, exit.Code(err), c.want)
		}
	}
	if n != 7 {
		t.Errorf("wrong values changed it to %d", n)
	}
	root.SetArgs([]string{"show", "a", "--count", "12"})
	if err := root.Execute(); err != nil || n != 12 {
		t.Errorf("--count 12: %v, %d", err, n)
	}
}

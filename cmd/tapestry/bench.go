package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// benchProgram is a program of its own: it links plots and fonts.
const benchProgram = "tapestry-bench"

// newBench runs tapestry-bench, which has the flags, the help and the completion of this command.
func newBench() *cobra.Command {
	return &cobra.Command{
		Use:                "bench",
		Short:              "Measure tapestry against the kernel's own networks, here",
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return runBench(args) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			_ = runBench(append(append([]string{cobra.ShellCompRequestCmd}, args...), typed)) // returns only if it is not there
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// runBench replaces this process by tapestry-bench: the one beside this program, else the one in PATH. It returns only if
// it cannot.
func runBench(args []string) error {
	path, err := findBench()
	if err != nil {
		return err
	}
	if err := syscall.Exec(path, append([]string{benchProgram}, args...), os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}

func findBench() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), benchProgram)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	if path, err := exec.LookPath(benchProgram); err == nil {
		return path, nil
	}
	return "", errors.New("tapestry bench needs the program " + benchProgram + ", which is neither at " + beside +
		" nor in PATH: install it from the same release (install.sh), or build it from the source (make install)")
}

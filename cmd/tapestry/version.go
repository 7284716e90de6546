package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

// version and commit are stamped by the build: -ldflags "-X main.version=v0.1.0 -X main.commit=0123abc".
var version, commit string

// build is what this binary was built from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// buildVersion returns the values that the build has stamped, and otherwise those that the go command has recorded.
func buildVersion() build {
	b := build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
	}
	b.Version, b.Commit = cmp.Or(b.Version, "devel"), cmp.Or(b.Commit, commit)
	return b
}

func newVersion(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Long: `Print the version of this binary and what it was built from. The daemon that runs may be of another version:
see tapestry status.` + fmt.Sprintf(jsonHelp, "one object"),
		Example: `  tapestry version
  tapestry version --json`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := buildVersion()
			if c.json {
				return human.PrintJSON(cmd.OutOrStdout(), b)
			}
			commit := cmp.Or(api.ShortID(b.Commit), "unknown")
			if b.Modified {
				commit += " (modified)"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "tapestry %s, commit %s, %s %s/%s\n", b.Version, commit, b.Go, b.OS, b.Arch)
			return err
		},
	}
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

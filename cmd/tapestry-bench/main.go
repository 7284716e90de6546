// Command tapestry-bench compares tapestry with other ways to connect containers: `tapestry bench` runs it. It is a program
// of its own because it links plots and fonts, which a daemon that runs as root should not.
//
// It is also what sends and receives within the namespaces and containers that it makes: tapestry-bench agent.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/tapestry-net/tapestry/bench/traffic"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// version and commit are stamped by the build: -ldflags "-X main.version=v0.1.0 -X main.commit=0123abc".
var version, commit string

// buildVersion takes what was not stamped from what the go command recorded.
func buildVersion() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	return cmp.Or(v, "devel") + ", commit " + cmp.Or(commit, "unknown")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := command(ctx, args, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "tapestry: %v\n", err)
	}
	return exit.Code(err)
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "agent" { // started by the bench itself: it is in no help and in no completion
		return traffic.Agent(ctx, args[1:], stdout)
	}
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

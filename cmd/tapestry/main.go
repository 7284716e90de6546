// Command tapestry is a Docker network driver whose switch runs in user space: the daemon (tapestry run)
// and the commands that ask it.
//
// Each command is a file here: its flags, its help, and what it prints. The daemon is in package daemon, what the commands
// ask of it and of Docker in packages client and docker.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code (package exit).
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "tapestry: %v\n", err)
		if cmd.Name() == "run" {
			daemon.WriteErrorFile(err)
		}
	}
	return exit.Code(err)
}

// Command tapestry is a Docker network driver whose switch runs in user space: the daemon (tapestry run)
// and the commands that ask it.
//
// Both ends of the local API live here (api.go and client.go, with wire.go between them). The daemon never
// calls Docker; the commands ask Docker for names only.
//
// Log keys, the same in every package: network, endpoint, peer, peers, vni, link, mac, addr, vtep, mtu, down (what it
// is about); method, status, took, body (a call by Docker or by a command); err, stack (what went wrong); name, version,
// socket, dir, workers, lines (the daemon itself).
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code (exit.go).
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "tapestry: %v\n", err)
		if cmd.Name() == "run" {
			writeErrorFile(err)
		}
	}
	return exitCode(err)
}

package client

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cmd/exit"
)

func TestNoPermission(t *testing.T) {
	const dead = "/run/dead.sock"
	c := &Client{Socket: dead}
	err := c.noDaemon(&os.SyscallError{Syscall: "connect", Err: os.ErrPermission})
	if exit.Code(err) != exit.NoDaemon || !strings.Contains(err.Error(), "no permission") || !strings.Contains(err.Error(), "as root") {
		t.Errorf("without permission: exit %d, %v", exit.Code(err), err)
	}
}

// TestStatusOfOlderDaemon: a daemon before v0.2.0 calls rx_dropped strangers.
func TestStatusOfOlderDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"strangers":{"no_peer":12}}`) })}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	defer func() { server.Close(); <-served }()
	if s, err := (&Client{Socket: socket}).Status(t.Context()); err != nil || s.RxDropped["no_peer"] != 12 {
		t.Errorf("rx_dropped is %v, %v", s.RxDropped, err)
	}
}

package client

import (
	"os"
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

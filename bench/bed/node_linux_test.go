package bed

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// Children of a node's processes end with the node.
func TestNodeEndsAll(t *testing.T) {
	node := &Node{}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "(echo ready; sleep 1000) | (cat; sleep 1000)")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := node.startCommand(cmd, "ready"); err != nil {
		t.Fatal(err)
	}
	group := cmd.Process.Pid
	node.close()
	testhost.Until(t, "ended with all of its group", func() bool { return syscall.Kill(-group, 0) == syscall.ESRCH })
}

// A tool that hangs is killed, with its children.
func TestOutputWithin(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 600; echo late")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	began := time.Now()
	if _, err := outputWithin(cmd, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "it was killed after 50ms") {
		t.Errorf("the error is %v", err)
	}
	if took := time.Since(began); took > 5*time.Minute {
		t.Errorf("it took %v", took)
	}
	if out, err := output(exec.CommandContext(t.Context(), "echo", "fine")); out != "fine" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

package bed

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a host's processes began ends with it.
func TestHostEndsAll(t *testing.T) {
	h := &Node{}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "(echo ready; sleep 1000) | (cat; sleep 1000)")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.track(cmd, "ready"); err != nil {
		t.Fatal(err)
	}
	group := cmd.Process.Pid
	h.close()
	for end := time.Now().Add(time.Minute); syscall.Kill(-group, 0) != syscall.ESRCH; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("something of its group is still there")
		}
	}
}

// A tool that hangs is ended, with what it began.
func TestSaidWithin(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 600; echo late")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	began := time.Now()
	if _, err := outputWithin(cmd, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "it was ended after 50ms") {
		t.Errorf("it said %v", err)
	}
	if took := time.Since(began); took > 5*time.Minute {
		t.Errorf("it took %v", took)
	}
	if out, err := output(exec.CommandContext(t.Context(), "echo", "fine")); out != "fine" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

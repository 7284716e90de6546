package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A host is a network and mount namespace: a machine, or a container. It has no name anywhere, so when its last
// process ends the kernel removes it with all its links; and its processes end with the bench, even if that is killed.
type host struct {
	running []*exec.Cmd // the first does nothing but hold the namespaces
}

// newHost makes a host with a /sys of its own, which shows its own links.
func newHost(ctx context.Context) (*host, error) {
	cmd := exec.CommandContext(ctx, "sh", "-ec",
		"mount --make-rprivate /; mount -t sysfs sysfs /sys; ip link set lo up; echo here; exec sleep infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	h := new(host)
	if err := h.keep(cmd, "here"); err != nil {
		h.close()
		return nil, fmt.Errorf("make a namespace: %w", err)
	}
	return h, nil
}

// pid is how `ip link set … netns PID` names the host.
func (h *host) pid() string { return strconv.Itoa(h.running[0].Process.Pid) }

func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", h.pid(), "--net", "--mount", "--"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // ends with the bench
		Setpgid:   true,            // Ctrl-C is for the bench alone, which then ends it
	}
	return cmd
}

// sh runs lines of shell in the host, the first that fails ends it.
func (h *host) sh(ctx context.Context, format string, args ...any) error {
	script := fmt.Sprintf(format, args...)
	if out, err := h.command(ctx, "sh", "-ec", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, bytes.TrimSpace(out))
	}
	return nil
}

// start runs a command for as long as the host lives. It returns when the command has printed a line with ready in it.
func (h *host) start(ctx context.Context, ready string, args ...string) error {
	if err := h.keep(h.command(ctx, args...), ready); err != nil {
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	return nil
}

// keep starts a command that belongs to h from then on, ready or not.
func (h *host) keep(cmd *exec.Cmd, ready string) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		return err
	}
	h.running = append(h.running, cmd)

	late := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	defer late.Stop()
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), ready) {
			go listen(lines, out)
			return nil
		}
		said = append(said, lines.Text())
	}
	out.Close() // the caller closes h
	return fmt.Errorf("it did not get ready: %s", strings.Join(said, "\n"))
}

// listen reads what a process says until it ends, and hands on a daemon's warnings: they may explain a figure.
func listen(lines *bufio.Scanner, out io.Closer) {
	defer out.Close()
	for lines.Scan() {
		if text := lines.Text(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
			fmt.Fprintln(os.Stderr, "  tapestry:", text)
		}
	}
}

// close ends all that runs in the host, and with it the host.
func (h *host) close() {
	for _, cmd := range h.running {
		cmd.Process.Kill() // an error means that it has ended
	}
	for _, cmd := range h.running {
		cmd.Wait() // its error is that it was killed
	}
	h.running = nil
}

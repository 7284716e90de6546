package bed

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Node is a network, mount and process namespace: a machine, or a container. It has no name anywhere, so when its
// first process ends the kernel ends the others, and removes it with all its links and files; and the first process
// ends with the bench, even if that is killed.
type Node struct {
	nsenter   []string    // how nsenter(1) gets there
	processes []*exec.Cmd // the first does nothing but hold the namespaces, unless Docker does
	cleanUp   func()      // removes what the kernel does not, at the end; nil: nothing
}

// newNode makes a host with a /sys of its own, which shows its own links, and with a /run of its own, in memory.
func newNode(ctx context.Context) (*Node, error) {
	cmd := exec.CommandContext(ctx, "sh", "-ec", `mount --make-rprivate /
		mount -t sysfs sysfs /sys
		mount -t tmpfs -o mode=755 run /run
		[ /var/run -ef /run ] || mount --bind /run /var/run
		mkdir /run/lock
		ip link set lo up
		echo here
		exec sleep infinity`)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true,
	}
	h := new(Node)
	if err := h.track(cmd, "here"); err != nil {
		h.close()
		return nil, fmt.Errorf("make a namespace: %w", err)
	}
	h.nsenter = []string{"--target", h.pid(), "--net", "--mount"}
	return h, nil
}

// pid is how `ip link set … netns PID` names the host.
func (h *Node) pid() string { return strconv.Itoa(h.processes[0].Process.Pid) }

// path of one of the host's files, as the bench sees it.
func (h *Node) path(inside string) string { return "/proc/" + h.pid() + "/root" + inside }

// command runs in the host, with the pids of the bench: nsenter becomes the command, and ends with it.
func (h *Node) command(ctx context.Context, args ...string) *exec.Cmd {
	return nsenter(ctx, append(h.nsenter, "--"), args)
}

// commandOwnPIDs is a command with the host's own pids: what it leaves behind ends with the host.
func (h *Node) commandOwnPIDs(ctx context.Context, args ...string) *exec.Cmd {
	return nsenter(ctx, append(h.nsenter, "--pid", "--"), args)
}

func nsenter(ctx context.Context, how, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", slices.Concat(how, args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // ends with the bench
		Setpgid:   true,            // Ctrl-C is for the bench alone, which then ends it
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // nsenter and what it became or began
	return cmd
}

// sh runs lines of shell in the host, the first that fails ends it.
func (h *Node) sh(ctx context.Context, format string, args ...any) error {
	script := fmt.Sprintf(format, args...)
	_, err := output(h.command(ctx, "sh", "-ec", script))
	return err
}

// launch is sh for daemons that put themselves into the background when they are ready.
func (h *Node) launch(ctx context.Context, format string, args ...any) error {
	_, err := output(h.commandOwnPIDs(ctx, "sh", "-ec", fmt.Sprintf(format, args...)))
	return err
}

// patience is how long a tool may take for one step in the making of a bed.
const patience = time.Minute

// output runs a command and gives what it said on standard output; the error holds the other words.
func output(cmd *exec.Cmd) (string, error) { return outputWithin(cmd, patience) }

// outputWithin ends a command that takes longer, with all that it began, and waits no longer for its output than for it.
func outputWithin(cmd *exec.Cmd, limit time.Duration) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Start()
	if err == nil {
		late := time.AfterFunc(limit, func() { cmd.Cancel() }) // an error means that it has ended
		if err = cmd.Wait(); !late.Stop() && err != nil {
			err = fmt.Errorf("it was ended after %v: %w", limit, err)
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// start runs a command for as long as the host lives. It returns when the command has printed a line with ready in it.
func (h *Node) start(ctx context.Context, ready string, args ...string) error {
	return h.track(h.command(ctx, args...), ready)
}

// track starts a command that belongs to h from then on, ready or not.
func (h *Node) track(cmd *exec.Cmd, ready string) error {
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
	h.processes = append(h.processes, cmd)

	late := time.AfterFunc(30*time.Second, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer late.Stop()
	var words []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), ready) {
			go forwardWarnings(lines, out)
			return nil
		}
		words = append(words, lines.Text())
	}
	out.Close() // the caller closes h
	return fmt.Errorf("start %s: it did not get ready: %s", strings.Join(cmd.Args, " "), strings.Join(words, "\n"))
}

// forwardWarnings reads what a process says until it ends, and hands on a daemon's warnings: they may explain a figure.
func forwardWarnings(lines *bufio.Scanner, out io.Closer) {
	defer out.Close()
	for lines.Scan() {
		if text := lines.Text(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
			fmt.Fprintln(os.Stderr, "  tapestry:", text)
		}
	}
}

// kill ends all that runs in the host, and waits for nothing.
func (h *Node) kill() {
	for _, cmd := range h.processes {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with what it began; an error means that all has ended
	}
}

// close ends all that runs in the host, and with it the host.
func (h *Node) close() {
	h.kill()
	for _, cmd := range h.processes {
		cmd.Wait() // its error is that it was killed
	}
	h.processes = nil
	if h.cleanUp != nil {
		h.cleanUp()
		h.cleanUp = nil
	}
}

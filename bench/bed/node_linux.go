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

// A Node is a network, a mount and a process namespace: a host or a container. It has no name in the file system, so when
// its first process ends, the kernel ends the others and removes the namespaces with their links and mounts. The first
// process ends with the bench, even if the bench is killed.
type Node struct {
	nsenter   []string    // arguments with which nsenter(1) enters it
	processes []*exec.Cmd // the first only holds the namespaces, unless Docker holds them
	cleanUp   func()      // removes what the kernel does not; nil: nothing
}

// newNode makes a node with a /sys that shows its own links, and a /run of its own, in memory.
func newNode(ctx context.Context) (*Node, error) {
	cmd := exec.CommandContext(ctx, "sh", "-ec", `mount --make-rprivate /
		mount -t sysfs sysfs /sys
		mount -t tmpfs -o mode=755 run /run
		[ /var/run -ef /run ] || mount --bind /run /var/run
		mkdir /run/lock
		ip link set lo up
		echo ready
		exec sleep infinity`)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true,
	}
	node := new(Node)
	if err := node.startCommand(cmd, "ready"); err != nil {
		node.close()
		return nil, fmt.Errorf("make a namespace: %w", err)
	}
	node.nsenter = []string{"--target", node.pid(), "--net", "--mount"}
	return node, nil
}

// pid of the node's first process, which `ip link set … netns PID` takes.
func (node *Node) pid() string { return strconv.Itoa(node.processes[0].Process.Pid) }

// path of one of the node's files, as the bench sees it.
func (node *Node) path(inside string) string { return "/proc/" + node.pid() + "/root" + inside }

// command is one that runs in the node, but in the bench's process namespace: nsenter executes it in its own place.
func (node *Node) command(ctx context.Context, args ...string) *exec.Cmd {
	return nsenter(ctx, append(node.nsenter, "--"), args)
}

// commandOwnPIDs is one that runs in the node's process namespace as well: what it leaves behind ends with the node.
func (node *Node) commandOwnPIDs(ctx context.Context, args ...string) *exec.Cmd {
	return nsenter(ctx, append(node.nsenter, "--pid", "--"), args)
}

func nsenter(ctx context.Context, how, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", slices.Concat(how, args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // ends with the bench
		Setpgid:   true,            // Ctrl-C reaches the bench only, which then ends it
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // nsenter, the command and its children
	return cmd
}

// sh runs a script of the shell in the node, up to the first command that fails.
func (node *Node) sh(ctx context.Context, format string, args ...any) error {
	script := fmt.Sprintf(format, args...)
	_, err := output(node.command(ctx, "sh", "-ec", script))
	return err
}

// launch is sh for daemons that go into the background when they are ready: they run in the node's process namespace.
func (node *Node) launch(ctx context.Context, format string, args ...any) error {
	_, err := output(node.commandOwnPIDs(ctx, "sh", "-ec", fmt.Sprintf(format, args...)))
	return err
}

// patience is how long a tool may take for one step of building a bed.
const patience = time.Minute

// output runs a command and returns its standard output, trimmed; the error has its standard error.
func output(cmd *exec.Cmd) (string, error) { return outputWithin(cmd, patience) }

// outputWithin kills a command that takes longer than limit, with its children.
func outputWithin(cmd *exec.Cmd, limit time.Duration) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a child that outlives it may keep its output open
	err := cmd.Start()
	if err == nil {
		timer := time.AfterFunc(limit, func() { cmd.Cancel() }) // an error means that it has ended
		if err = cmd.Wait(); !timer.Stop() && err != nil {
			err = fmt.Errorf("it was killed after %v: %w", limit, err)
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// start starts a command that runs as long as the node. It returns when the command has printed a line that contains ready.
func (node *Node) start(ctx context.Context, ready string, args ...string) error {
	return node.startCommand(node.command(ctx, args...), ready)
}

// startCommand is start for any command. close ends it, also if it did not get ready.
func (node *Node) startCommand(cmd *exec.Cmd, ready string) error {
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
	node.processes = append(node.processes, cmd)

	timer := time.AfterFunc(patience, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer timer.Stop()
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

// forwardWarnings reads a process's output until it ends, and prints a daemon's warnings: they may explain a figure.
func forwardWarnings(lines *bufio.Scanner, out io.Closer) {
	defer out.Close()
	for lines.Scan() {
		if text := lines.Text(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
			fmt.Fprintln(os.Stderr, "  tapestry:", text)
		}
	}
}

// kill kills all that runs in the node, and does not wait for it.
func (node *Node) kill() {
	for _, cmd := range node.processes {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its children; an error means that they have ended
	}
}

// close ends all that runs in the node, and with it the node.
func (node *Node) close() {
	node.kill()
	for _, cmd := range node.processes {
		cmd.Wait() // the error is that it was killed
	}
	node.processes = nil
	if node.cleanUp != nil {
		node.cleanUp()
		node.cleanUp = nil
	}
}

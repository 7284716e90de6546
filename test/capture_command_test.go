package test

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// A captureCommand is a running `tapestry capture -w FILE`.
type captureCommand struct {
	*background
	path string
	pid  string // in the host's PID namespace
}

var innerPID = regexp.MustCompile(`(?m)^NSpid:.*\s(\d+)$`) // in proc_pid_status(5)

// startCapture starts a captureCommand, and waits until it captures. The file's name is relative to the test's directory.
func (h *Host) startCapture(t *testing.T, file string, args ...string) *captureCommand {
	t.Helper()
	if !filepath.IsAbs(file) {
		file = filepath.Join(t.TempDir(), file)
	}
	k := &captureCommand{background: h.background(t, "", append([]string{"tapestry", "capture", "-w", file}, args...)...), path: file}
	t.Cleanup(func() { k.signal(syscall.SIGKILL) })
	k.await(t, "capturing ")
	for _, pid := range k.children() {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if m := innerPID.FindSubmatch(status); m != nil {
			k.pid = string(m[1])
		}
	}
	return k
}

// signal sends the command a signal. It is the only child of nsenter, which waits for it.
func (b *background) signal(s syscall.Signal) {
	for _, pid := range b.children() {
		syscall.Kill(pid, s)
	}
}

// children are empty when the command was waited for: then another process may have its number.
func (b *background) children() (pids []int) {
	if b.cmd.ProcessState != nil {
		return nil
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", b.cmd.Process.Pid))
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// exit waits for the command's end and returns its exit code and output.
func (b *background) exit(t *testing.T) (int, string) {
	t.Helper()
	said, err := b.wait(t)
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		t.Fatal(err)
	}
	return b.cmd.ProcessState.ExitCode(), said
}

var tookFrames = regexp.MustCompile(`captured ([\d,]+) frames? \((?:[\d,]+ filtered, )?([\d,]+) lost\)`)

// end interrupts the command, as Ctrl-C does, and returns the number of frames that it reports. None may be lost.
func (k *captureCommand) end(t *testing.T) int {
	t.Helper()
	k.signal(syscall.SIGINT)
	code, said := k.exit(t)
	frames, lost := k.counts(t)
	if code != 0 || lost != 0 {
		t.Errorf("exit code %d: %s", code, said)
	}
	return frames
}

// counts are the numbers in the command's last line.
func (k *captureCommand) counts(t *testing.T) (frames, lost int) {
	t.Helper()
	m := tookFrames.FindStringSubmatch(k.said.String())
	if m == nil {
		t.Fatalf("it does not say what it captured: %s", k.said.String())
	}
	frames, _ = strconv.Atoi(strings.ReplaceAll(m[1], ",", ""))
	lost, _ = strconv.Atoi(strings.ReplaceAll(m[2], ",", ""))
	return frames, lost
}

// rows is tshark's output for the packets that match a display filter: a row for each, with the fields separated by |.
func rows(t *testing.T, path, display string, fields ...string) []string {
	t.Helper()
	args := []string{"tshark", "-r", path, "-N", "n", "-o", "frame.generate_md5_hash:TRUE", "-Y", display, "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out := tool(t, args...)
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// packetsIn is the number of packets in a file, as capinfos counts them.
func packetsIn(t *testing.T, path string) int {
	t.Helper()
	_, count, _ := strings.Cut(tool(t, "capinfos", "-rTc", path), "\t")
	n, err := strconv.Atoi(count)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// inOrder checks that a file's packets are in the order of time.
func inOrder(t *testing.T, path string) {
	t.Helper()
	if out := tool(t, "reordercap", "-n", path, os.DevNull); !strings.Contains(out, " 0 out of order") {
		t.Errorf("%s: %s", path, out)
	}
}

// A contents is what our own reader reads of a file.
type contents struct {
	packets    []pcapng.Packet
	interfaces []pcapng.Interface
	stats      map[int]pcapng.Stats // the last of each interface
	cut        bool                 // the file ends within a block
}

func readFile(t *testing.T, path string) contents {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return readText(t, path, text)
}

func readText(t *testing.T, path string, text []byte) (c contents) {
	t.Helper()
	r := pcapng.NewReader(bytes.NewReader(text))
	c.stats = map[int]pcapng.Stats{}
	for {
		b, err := r.Next()
		switch b := b.(type) {
		case *pcapng.Packet:
			p := *b
			p.Data = bytes.Clone(b.Data)
			c.packets = append(c.packets, p)
		case *pcapng.Interface:
			c.interfaces = append(c.interfaces, *b)
		case *pcapng.Stats:
			c.stats[b.Interface] = *b
		}
		if err == nil {
			continue
		}
		c.cut = errors.Is(err, io.ErrUnexpectedEOF)
		if err != io.EOF && !c.cut {
			t.Errorf("%s: %v", path, err)
		}
		return c
	}
}

// sums are the checksums of frames without their first bytes, sorted.
func sums(all []pcapng.Packet, skip int) (list []string) {
	for _, p := range all {
		list = append(list, fmt.Sprintf("%x", md5.Sum(p.Data[min(skip, len(p.Data)):])))
	}
	slices.Sort(list)
	return list
}

// spoof makes a container send an ARP request for an address, with the MAC address of another container.
func (h *Host) spoof(t *testing.T, container, mac, address string) {
	t.Helper()
	own := h.exec(t, container, "cat", "/sys/class/net/eth0/address")
	h.in(t, "nsenter", "-n", "-t", h.init(t, container), "sh", "-c",
		`ip link set eth0 address "$2"; busybox arping -c1 -w1 -I eth0 "$3" >/dev/null; ip link set eth0 address "$1"`, "sh", own, mac, address)
}

// getJSON is the daemon's reply to a GET.
func getJSON[T any](t *testing.T, h *Host, path string) (v T) {
	t.Helper()
	answer := h.ask(t, "GET", path, "")
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestCaptureCrash: whichever process ends, and however, what was captured until then can be read. TAPESTRY_ROUNDS=100 kills more.
func TestCaptureCrash(t *testing.T) {
	h := newWatched(t, "capturecrash")
	load := h.background(t, "web", "ping", "-n", "-q", "-i", "0.01", "-s", "200", dbAddress)
	t.Cleanup(func() { load.signal(syscall.SIGINT); load.cmd.Wait() })

	t.Run("a signal to the command", func(t *testing.T) {
		h.quiet(t)
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			k := h.startCapture(t, "x.pcapng", "web")
			k.grows(t)
			k.signal(signal)
			if code, said := k.exit(t); code != 0 || !strings.Contains(said, "captured ") {
				t.Errorf("%v: exit code %d: %s", signal, code, said)
			}
			frames, _ := k.counts(t)
			k.whole(t, frames)
		}
	})

	for _, c := range []struct{ signal, says string }{{"TERM", "the daemon was stopped"}, {"KILL", "the daemon went away"}} {
		t.Run("the daemon ends by "+c.signal, func(t *testing.T) {
			h.quiet(t)
			k, classic := h.startCapture(t, "x.pcapng", "web"), h.startCapture(t, "x.pcap")
			k.grows(t)
			classic.grows(t)
			h.stopDaemon(t, c.signal)
			h.startDaemon(t)
			for _, k := range []*captureCommand{k, classic} {
				code, said := k.exit(t)
				if want := "; what came until then is in " + k.path; code != 1 || !strings.Contains(said, c.says) || !strings.Contains(said, want) {
					t.Errorf("exit code %d: %s", code, said)
				}
				frames, _ := k.counts(t)
				k.whole(t, frames)
			}
		})
	}

	t.Run("kill -9 of the command, again and again", func(t *testing.T) {
		h.quiet(t)
		cut := 0
		for round := 0; round < rounds(t, 10) && !t.Failed(); round++ {
			some := h.startFive(t)
			for _, k := range some {
				k.signal(syscall.SIGKILL)
				k.exit(t)
			}
			for i, n := range inFiles(t, some) {
				c := readFile(t, some[i].path)
				if c.cut {
					cut++
				}
				if i == 0 && round%5 == 0 {
					fmt.Sscan(tool(t, "sh", "-c", `tshark -r "$1" -T fields -e frame.number 2>/dev/null | wc -l`, "sh", some[i].path), &n)
				}
				if n == 0 || n != len(c.packets) {
					t.Errorf("of %s others read %d packets, we %d", some[i].path, n, len(c.packets))
				}
			}
		}
		t.Logf("%d files end within a block", cut)
	})
	t.Run("kill -9 of the daemon, again and again", func(t *testing.T) {
		h.quiet(t)
		for round := 0; round < rounds(t, 10) && !t.Failed(); round++ {
			some := h.startFive(t)
			h.stopDaemon(t, "KILL")
			h.startDaemon(t)
			for _, k := range some {
				if code, said := k.exit(t); code != 1 || !strings.Contains(said, "the daemon went away") {
					t.Errorf("round %d: exit code %d: %s", round, code, said)
				}
			}
			for i, n := range inFiles(t, some) {
				frames, _ := some[i].counts(t)
				if c := readFile(t, some[i].path); c.cut || n != frames || len(c.packets) != frames {
					t.Errorf("round %d: the command says %d frames, capinfos %d, we read %d, cut off: %v", round, frames, n, len(c.packets), c.cut)
				}
			}
		}
	})
}

// startFive starts five captures of web, and waits until there are packets in all files.
func (h *Host) startFive(t *testing.T) (some []*captureCommand) {
	t.Helper()
	for range 5 {
		some = append(some, h.startCapture(t, "web.pcapng", "web"))
	}
	for _, k := range some {
		k.grows(t)
	}
	return some
}

// inFiles are the numbers of packets that capinfos reads in files that may be cut off; it says so, and goes on with the next.
func inFiles(t *testing.T, some []*captureCommand) []int {
	t.Helper()
	args := []string{"sh", "-c", `capinfos -rTc "$@" 2>/dev/null; true`, "sh"}
	for _, k := range some {
		args = append(args, k.path)
	}
	counts := make([]int, len(some))
	for line := range strings.Lines(tool(t, args...)) {
		path, n, _ := strings.Cut(strings.TrimSpace(line), "\t")
		for i, k := range some {
			if k.path == path {
				counts[i], _ = strconv.Atoi(n)
			}
		}
	}
	return counts
}

// grows waits until there are packets in the file.
func (k *captureCommand) grows(t *testing.T) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		if info, err := os.Stat(k.path); err != nil || info.Size() <= 4096 {
			return fmt.Errorf("nothing comes into the file: %s", k.said.String())
		}
		return nil
	})
}

// whole checks that the file is complete and has so many packets.
func (k *captureCommand) whole(t *testing.T, frames int) {
	t.Helper()
	c := readFile(t, k.path)
	if n := len(rows(t, k.path, "frame", "frame.number")); c.cut || n != frames || len(c.packets) != frames {
		t.Errorf("%s: it said %d frames, tshark reads %d, we %d, cut off: %v", filepath.Base(k.path), frames, n, len(c.packets), c.cut)
	}
}

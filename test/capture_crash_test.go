package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestCaptureCrash: whichever process ends, and however, what was captured until then can be read.
func TestCaptureCrash(t *testing.T) {
	h := newWatched(t, "capturecrash")
	load := h.background(t, "web", "ping", "-n", "-q", "-i", "0.002", "-s", "200", dbAddress)
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

	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	t.Run("kill -9 of the command, a hundred times", func(t *testing.T) {
		h.quiet(t)
		cut := 0
		for i := 0; i < rounds && !t.Failed(); {
			var some []*captureCommand
			for ; len(some) < 5; i++ {
				some = append(some, h.startCapture(t, fmt.Sprintf("killed%d.pcapng", i), "web"))
			}
			for _, k := range some {
				k.grows(t)
				k.signal(syscall.SIGKILL)
				k.exit(t)
				c := readFile(t, k.path)
				if c.cut {
					cut++
				}
				if n := readable(t, k.path, k == some[0]); n == 0 || n != len(c.packets) {
					t.Errorf("of %s others read %d packets, we %d", k.path, n, len(c.packets))
				}
			}
		}
		t.Logf("%d of %d files end within a block", cut, rounds)
	})
	t.Run("kill -9 of the daemon, a hundred times", func(t *testing.T) {
		h.quiet(t)
		for i := 0; i < rounds && !t.Failed(); i++ {
			left := h.startCapture(t, fmt.Sprintf("left%d.pcapng", i), "web")
			left.grows(t)
			h.stopDaemon(t, "KILL")
			h.startDaemon(t)
			if code, said := left.exit(t); code != 1 || !strings.Contains(said, "the daemon went away") {
				t.Errorf("round %d: exit code %d: %s", i, code, said)
			}
			frames, _ := left.counts(t)
			c := readFile(t, left.path)
			if n := packetsIn(t, left.path); c.cut || n != frames || len(c.packets) != frames {
				t.Errorf("round %d: the command says %d frames, capinfos %d, we read %d, cut off: %v", i, frames, n, len(c.packets), c.cut)
			}
		}
	})
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

// readable counts the packets that tshark, or for less work capinfos, reads of a file that may be cut off.
func readable(t *testing.T, path string, thoroughly bool) (n int) {
	t.Helper()
	text := ""
	if thoroughly {
		text = tool(t, "sh", "-c", `tshark -r "$1" -T fields -e frame.number 2>/dev/null | wc -l`, "sh", path)
	} else {
		text = tool(t, "sh", "-c", `capinfos -rTc "$1" 2>/dev/null | cut -f2`, "sh", path)
	}
	fmt.Sscan(text, &n)
	return n
}

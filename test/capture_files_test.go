package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// files are the files of a set, in order.
func files(t *testing.T, path string) []string {
	t.Helper()
	ext := filepath.Ext(path)
	all, err := filepath.Glob(strings.TrimSuffix(path, ext) + "_*" + ext)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func captureRotation(t *testing.T, h *Host) {
	h.quiet(t)
	whole := h.startCapture(t, "whole.pcapng", "all", "-f", "icmp")
	sets := map[string]*captureCommand{
		"size":     h.startCapture(t, "size.pcapng", "all", "-f", "icmp", "-C", "64KB"),
		"time":     h.startCapture(t, "time.pcapng", "all", "-f", "icmp", "-G", "1s"),
		"classic":  h.startCapture(t, "classic.pcap", "all", "-f", "icmp", "-C", "64KB"),
		"the last": h.startCapture(t, "last.pcapng", "all", "-f", "icmp", "-C", "64KB", "-W", "2"),
	}
	h.pings(t, "web", dbAddress, 120, "-s", "1000", "-i", "0.02")
	if n := whole.end(t); n != 240 {
		t.Errorf("%d frames, want 240", n)
	}
	want := sums(readFile(t, whole.path).packets, 0)
	for name, k := range sets {
		k.end(t)
		list := files(t, k.path)
		least := map[string]int{"size": 5, "time": 3, "classic": 4, "the last": 2}[name]
		if len(list) < least || name == "the last" && len(list) != 2 {
			t.Errorf("%s: files %v", name, list)
			continue
		}
		for _, file := range list {
			c := readFile(t, file)
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || name != "time" && info.Size() > 64_000 {
				t.Errorf("%s: %s: %v %v", name, file, info, err)
			}
			if n := packetsIn(t, file); n != len(c.packets) || c.cut || name != "classic" && n > 0 && len(c.interfaces) < 2 {
				t.Errorf("%s: %s: %d packets, we read %d: %+v", name, file, n, len(c.packets), c.interfaces)
			}
		}
		if last := list[len(list)-1]; name == "size" && len(rows(t, last, "icmp && ip.src_host == web && frame.interface_name == web", "frame.number")) == 0 {
			t.Errorf("%s does not know its names", last)
		}
		merged := filepath.Join(t.TempDir(), "merged.pcapng")
		tool(t, append([]string{"mergecap", "-w", merged}, list...)...)
		got := readFile(t, merged).packets
		if name == "the last" {
			all := readFile(t, whole.path).packets
			if len(got) == 0 || len(got) > 120 || !slices.Equal(sums(got, 0), sums(all[len(all)-len(got):], 0)) {
				t.Errorf("%s: %d packets, not the latest ones", name, len(got))
			}
		} else if !slices.Equal(sums(got, 0), want) {
			t.Errorf("%s: %d packets in %d files are not those of the whole capture, %d", name, len(got), len(list), len(want))
		}
		inOrder(t, merged)
	}
}

func captureFullDisk(t *testing.T, h *Host) {
	h.quiet(t)
	var takes []*captureCommand
	for _, file := range []string{"/run/small1/x.pcapng", "/run/small2/y.pcap"} {
		h.in(t, "sh", "-ec", `mkdir "$1" && mount -t tmpfs -o size=1M small "$1"`, "sh", filepath.Dir(file))
		defer h.in(t, "umount", filepath.Dir(file))
		takes = append(takes, h.startCapture(t, file, "all", "-f", "icmp"))
	}
	load := h.background(t, "web", "ping", "-n", "-q", "-f", "-c", "3000", "-s", "1400", dbAddress)
	for _, k := range takes {
		code, said := k.exit(t)
		if code != 1 || !strings.Contains(said, "no space left") {
			t.Errorf("exit code %d: %s", code, said)
		}
		copied := filepath.Join(t.TempDir(), filepath.Base(k.path))
		h.in(t, "cp", k.path, copied)
		c := readFile(t, copied)
		if n := count(t, copied, "icmp"); c.cut || n < 100 || n != len(c.packets) {
			t.Errorf("%d packets, we read %d, cut off: %v", n, len(c.packets), c.cut)
		}
	}
	load.wait(t)
}

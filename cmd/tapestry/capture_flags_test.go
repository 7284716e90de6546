package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
)

func TestCaptureUsage(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"capture -w a -f tcp -- udp", "both in --filter and behind --"},
		{"capture -r a web", `"web" with --read: a file has no targets, want a filter, such as -f 'host web'`},
		{"capture -r a --strict", "--strict with --read"},
		{"watch -r a --for 3s", "--for with --read"},
		{"capture -C 1MB", "--max-size without --write"},
		{"capture -w - -G 60s", "--every with --write -: want a file's name"},
		{"capture -w a -W 3", "--keep without --max-size or --every"},
		{"capture -w a --listen 127.0.0.1:1", "--listen with --write"},
		{"capture --listen 0.0.0.0:1", "want an address of this host only"},
		{"capture --listen 1", "want ADDR:PORT"},
		{"capture --json -w a", "--json with --write"},
		{"capture --bytes 1MB --no-limit", "--bytes with --no-limit"},
		{"capture -r a --bytes 1MB", "--bytes with --read"},
		{"capture --bytes much", "want a size such as 100MB"},
		{"capture --headers -s 9", "--headers with --snap"},
		{"capture -w a.pcapng --pcap --annotate all", "classic pcap has no comments"},
		{"capture -n 0", "want a number of frames from 1 on"},
		{"capture -s -1", "want a number of bytes"},
		{"capture -w a -C 100XB", "want a size such as 100MB"},
		{"capture -w a -C 12", "want 4096 bytes or more"},
		{"capture --for 5", "want a duration of 1s or more"},
		{"capture -w a.pcap --annotate all", "classic pcap has no comments"},
		{"capture --ring 1", "want a size from 256KiB"},
		{"capture --offload cut", "want fix, segment, raw"},
		{"watch --color blue", "want auto, always, never"},
		{"capture -w ", "the file's name is empty"},
		{"watch --jsn", "did you mean --json?"},
	} {
		args := strings.Split(c.args, " ")
		r := tapestry(t, append(args[:1:1], append([]string{"--api-socket", filepath.Join(dir, "none")}, args[1:]...)...)...)
		if r.code != exit.Usage || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, want %q", c.args, r.code, r.stderr, c.want)
		}
	}
	d := newCaptureDaemon(t, func(*feed) { t.Error("a daemon was asked with a filter that cannot be read") })
	r := tapestry(t, d.args(t, "watch", "-f", "tcp prot 80")...)
	if want := "tapestry: the filter cannot be read:\ntcp prot 80\n    ^ "; r.code != exit.Usage || !strings.HasPrefix(r.stderr, want) {
		t.Errorf("exit %d, %q, want %q", r.code, r.stderr, want)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"100MB": 1e8, "1GiB": 1 << 30, "4096": 4096, "1.5k": 1500, "2 MiB": 2 << 20} {
		if n, err := parseSize(text); n != want || err != nil {
			t.Errorf("%s is %d, %v, want %d", text, n, err, want)
		}
	}
	if n, err := parseRing("10MB"); n != 16<<20 || err != nil {
		t.Errorf("10MB of ring are %d, %v", n, err)
	}
	for _, text := range []string{"128KiB", "257MiB"} { // the daemon would refuse it
		if n, err := parseRing(text); err == nil || !strings.Contains(err.Error(), "256KiB to 256MiB") {
			t.Errorf("%s of ring are %d, %v", text, n, err)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := human.Thousands(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 90 * time.Second: "1m30s", 2 * time.Minute: "2m", 100 * time.Minute: "1h40m", 10 * time.Second: "10s"} {
		if got := human.ShortDuration(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

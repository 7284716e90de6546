package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func capturePipe(t *testing.T, h *Host) {
	h.quiet(t)
	pipe := h.background(t, "", "bash", "-o", "pipefail", "-c", "tapestry capture web -f icmp -w - | tshark -i - -c 4 -T fields -e frame.interface_name -e ip.src")
	pipe.await(t, "capturing web")
	h.pings(t, "web", dbAddress, 3)
	code, said := pipe.exit(t)
	if code != 0 || !sawPings(said, 4) {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// sawPings tells whether tshark showed so many packets, from both containers. (On a slow machine three may be sent before the first reply.)
func sawPings(said string, want int) bool {
	web, db := strings.Count(said, "web\t10.77.0.11"), strings.Count(said, "db\t"+dbAddress)
	return web+db == want && web > 0 && db > 0
}

func captureListen(t *testing.T, h *Host) {
	h.quiet(t)
	listener := h.background(t, "", "tapestry", "capture", "web", "-f", "icmp", "--listen", "127.0.0.1:19000")
	listener.await(t, "listening")
	for range 2 {
		before := strings.Count(listener.said.String(), "capturing web")
		shark := h.background(t, "", "tshark", "-i", "TCP@127.0.0.1:19000", "-c", "4", "-T", "fields", "-e", "frame.interface_name", "-e", "ip.src")
		testhost.Eventually(t, patience, func() error {
			if strings.Count(listener.said.String(), "capturing web") == before {
				return fmt.Errorf("nobody has connected: %s", shark.said.String())
			}
			return nil
		})
		h.pings(t, "web", dbAddress, 3)
		code, said := shark.exit(t)
		if code != 0 || !sawPings(said, 4) {
			t.Errorf("exit code %d: %s", code, said)
		}
	}
	listener.signal(syscall.SIGINT)
	if code, said := listener.exit(t); code != 0 {
		t.Errorf("exit code %d: %s", code, said)
	}
}

func captureExtcap(t *testing.T, h *Host) {
	h.quiet(t)
	h.awaitCaptures(t, 0) // those before it end when the daemon sees that their readers have gone
	folder := ""
	for line := range strings.Lines(h.in(t, "tshark", "-G", "folders")) {
		if key, value, _ := strings.Cut(line, ":"); key == "Extcap path" || key == "Global Extcap path" {
			folder = strings.TrimSpace(value)
		}
	}
	// The folder belongs to the machine: a mount gives the host its own.
	h.in(t, "sh", "-ec", `mkdir /run/extcap && mount --bind /run/extcap "$1"`, "sh", folder)
	defer h.in(t, "umount", "-l", folder) // -l: a script of the folder may be about to end
	if said := h.tapestry(t, "extcap", "install"); !strings.Contains(said, filepath.Join(folder, "tapestry")) {
		t.Errorf("install says %s", said)
	}
	list := h.in(t, "tshark", "-D")
	for _, want := range []string{" tapestry-all (", " tapestry-network:mynet (tapestry: network mynet)", " tapestry-network:other (",
		" tapestry-web (tapestry: container web on mynet)", " tapestry-db ("} {
		if !strings.Contains(list, want) {
			t.Errorf("tshark -D lists no %q:\n%s", want, list)
		}
	}
	shark := h.background(t, "", "tshark", "-i", "tapestry-web", "-f", "icmp", "-c", "4", "-T", "fields", "-e", "frame.interface_name", "-e", "ip.src")
	testhost.Eventually(t, patience, func() error {
		if len(h.captures(t)) == 0 {
			return fmt.Errorf("no capture runs: %s", shark.said.String())
		}
		return nil
	})
	h.pings(t, "web", dbAddress, 3)
	if code, said := shark.exit(t); code != 0 || !sawPings(said, 4) {
		t.Errorf("exit code %d: %s", code, said)
	}
	testhost.Eventually(t, patience, func() error {
		if running := h.captures(t); len(running) != 0 {
			return fmt.Errorf("tshark has ended, but a capture runs: %+v", running)
		}
		return nil
	})
	wrong := h.background(t, "", "tshark", "-i", "tapestry-web", "-f", "tcp prot 80", "-c", "1")
	if code, said := wrong.exit(t); code == 0 || !strings.Contains(said, "prot") {
		t.Errorf("a wrong filter: exit code %d: %s", code, said)
	}
	h.tapestry(t, "extcap", "remove")
	if list := h.in(t, "tshark", "-D"); strings.Contains(list, "tapestry") {
		t.Errorf("after remove tshark -D lists:\n%s", list)
	}
	if code, said := h.exit(t, "extcap", "remove"); code != 1 || !strings.Contains(said, "not installed") {
		t.Errorf("remove again: exit code %d: %s", code, said)
	}
}

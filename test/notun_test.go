package test

import (
	"fmt"
	"strings"
	"testing"
)

// TestNoTUN: where no TAP can be made, `tapestry run` ends with an error before it reports that it is ready, and doctor has the
// same reason and remedy.
func TestNoTUN(t *testing.T) {
	h := newHost(t, "notun")
	const device = "mknod -m 666 /dev/net/tun c 10 200"
	ends := fmt.Sprintf("timeout %.0f ", patience.Seconds()) // a daemon that does not end by itself
	for _, tt := range []struct{ name, prepare, as, wrong, remedy string }{
		{"no right", "true", "unshare --user --map-root-user ", "lacks CAP_NET_ADMIN", "run it as root on the host itself"},
		{"no node", "mount -t tmpfs none /dev/net", "", "there is no /dev/net/tun, though this kernel has the tun driver", device},
		{"a plain file", "mount -t tmpfs none /dev/net && touch /dev/net/tun", "", "/dev/net/tun is no device but a plain file", device},
		{"nodev", "mount -t tmpfs -o nodev none /dev/net && " + device, "", "/dev/net/tun is on a file system that is mounted nodev", "mount -o remount,dev"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.in(t, "sh", "-ec", tt.prepare)
			run := strings.Fields(ends + tt.as + "tapestry run --state-dir " + h.dir + "/state")
			out, err := h.command(run...).CombinedOutput()
			said := string(out)
			if err == nil || err.Error() != "exit status 1" || strings.Contains(said, "msg=ready") ||
				!strings.Contains(said, "tapestry: containers cannot be connected: ") || !strings.Contains(said, tt.wrong) || !strings.Contains(said, tt.remedy) {
				t.Errorf("run: %v\n%s", err, said)
			}
			said, err = h.try(strings.Fields(tt.as + "tapestry doctor --state-dir " + h.dir + "/state")...)
			found := false
			for line := range strings.Lines(said) {
				found = found || strings.HasPrefix(line, "fail  tun ") && strings.Contains(line, tt.wrong)
			}
			if err == nil || !found || !strings.Contains(said, tt.remedy) {
				t.Errorf("doctor: %v\n%s", err, said)
			}
		})
	}
}

package test

import (
	"strings"
	"testing"
)

// lookShared: for a container in another one's network namespace every command looks at the other one's port, and says so.
func lookShared(t *testing.T, h *Host) {
	h.quiet(t, "fault")
	h.run(t, "c1", "mynet", "--ip", "10.77.0.21")
	h.run(t, "side", "container:c1")
	const note = "side shares the network of c1: looking at c1"
	said := func(what string, code int, text string, words ...string) {
		t.Helper()
		if code != 0 {
			t.Errorf("%s: exit code %d", what, code)
		}
		for _, want := range append(words, note) {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", what, want, text)
			}
		}
	}
	capturing := h.nextCapture(t)
	w := h.background(t, "", "tapestry", "watch", "side", "-n", "1", "-f", "icmp")
	capturing()
	k := h.startCapture(t, "side.pcapng", "side", "--", "icmp")
	h.pings(t, "side", dbAddress, 3)
	code, text := w.exit(t)
	said("watch", code, text, "c1 → db  ICMP echo request")
	if n := k.end(t); n != 6 {
		t.Errorf("capture: %d frames of 3 pings, want 6", n)
	}
	said("capture", 0, k.said.String())
	if n := count(t, k.path, `frame.interface_name == "c1"`); n == 0 {
		t.Errorf("the file names no port c1: %s", rows(t, k.path, "icmp", "frame.interface_name"))
	}
	for _, c := range []struct{ args, want string }{
		{"flows side", "icmp"},
		{"recorder dump side -- icmp", "c1 → db  ICMP echo request"},
		{"trace side db", "verdict      forwarded to db\n"},
		{"trace db side", "verdict      forwarded to c1\n"},
		{"fault set side --loss 100%", "fault set on c1 of mynet, both directions: loss 100%"},
		{"fault clear side", "2 faults cleared"},
	} {
		code, text := h.exit(t, strings.Fields(c.args)...)
		said(c.args, code, text, c.want)
	}

	h.stop(t, "c1")
	if code, text := h.exit(t, "watch", "side"); code != 4 || !strings.Contains(text, "side shares the network of c1: container c1 does not run") {
		t.Errorf("watch, c1 is stopped: exit code %d: %s", code, text)
	}
	if code, text := h.exit(t, "fault", "set", "side", "--loss", "1%"); code != 4 || !strings.Contains(text, "side shares the network of c1, which does not run") {
		t.Errorf("fault set, c1 is stopped: exit code %d: %s", code, text)
	}
	h.docker(t, "rm", "-f", "c1")
	if code, text := h.exit(t, "watch", "side"); code != 4 || !strings.Contains(text, "which is removed: make side again") {
		t.Errorf("watch, c1 is removed: exit code %d: %s", code, text)
	}
}

package test

import (
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestControl tests the hosts themselves with Docker's own bridge driver: if it fails, the cause is not tapestry.
func TestControl(t *testing.T) {
	h, outside := newHost(t, "control"), newHost(t, "control-outside")
	wire(t, h, outside)
	h.startDockerd(t)
	script(t, "image", h.name)
	h.docker(t, "network", "create", "-d", "bridge", "--subnet", "10.77.0.0/24", "X")
	h.run(t, "c1", "X", "-p", "18080:80")
	h.run(t, "c2", "X")
	h.docker(t, "exec", "-d", "c1", "httpd", "-p", "80", "-h", "/etc")
	h.ping(t, "c2", "c1")
	h.ping(t, "c2", "192.0.2.2")
	h.ping(t, "c2", h.address(t, "c1", "X"), "-M", "do", "-s", "1472")
	outside.in(t, "ping", "-c1", "-W20", "2001:db8::1")
	testhost.Eventually(t, patience, func() error { return outside.asksWeb("192.0.2.1", "18080") }) // a published port
	seen := h.capture(t, "c2", "eth0", "icmp")
	h.ping(t, "c1", "c2")
	if lines := seen.end(t); len(lines) != 2 {
		t.Errorf("one ping made these frames, want 2:\n%s", strings.Join(lines, "\n"))
	}
	if end := h.hostEnd(t, "c1", "eth0"); !strings.HasPrefix(end, "veth") {
		t.Errorf("host end of c1's link is %q", end)
	}
}

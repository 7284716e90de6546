package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// commandsKnow: the commands of a host know the container web of another one, b, at an address; first is the host's own, on blue too.
func (a *Host) commandsKnow(t *testing.T, b *Host, address string) {
	is := fmt.Sprintf("web is on host %s (192.0.2.2), as the cluster says", b.name)
	first := a.address(t, "first", "blue")
	a.exec(t, "first", "ping", "-c1", "-W20", address)
	capturing := a.nextCapture(t)
	w := a.background(t, "", "tapestry", "watch", "web.blue@"+b.name, "-n", "2", "--", "icmp and host first")
	capturing()
	a.exec(t, "asks", "ping", "-c1", "-W20", first) // not of web
	a.exec(t, "first", "ping", "-c1", "-W20", address)
	if code, said := w.exit(t); code != 0 || !strings.Contains(said, "first → web  ICMP echo request") || !strings.Contains(said, "web → first  ICMP echo reply") || strings.Contains(said, "asks") {
		t.Errorf("watch exits %d: %s", code, said)
	}
	for _, c := range []struct {
		args string
		want []string
	}{
		{"trace first web", []string{"from first to web on blue", is + ".\n", "egress       192.0.2.2: it leaves (VXLAN to 192.0.2.2:4789", "verdict      forwarded to 192.0.2.2\n"}},
		{"trace first " + address, []string{"from first to web on blue", is + ".\n", "verdict      forwarded to 192.0.2.2\n"}},
		{"trace web first", []string{"from web to first on blue", is + ": its frames come in by that peer.", "verdict      forwarded to first\n"}},
		{"flows web", []string{"first", "web", "icmp"}},
		{"flows first -- host web", []string{"first", "web", "icmp"}},
		{"recorder dump web -- icmp", []string{"first → web  ICMP echo request"}},
	} {
		code, said := a.exit(t, strings.Fields(c.args)...)
		for _, want := range c.want {
			if code != 0 || !strings.Contains(said, want) || strings.Contains(said, "asks → first") {
				t.Errorf("%s exits %d, no %q in\n%s", c.args, code, want, said)
			}
		}
	}
	for args, want := range map[string]string{"watch wbe": "did you mean web?", "fault set web --loss 1%": "web is on host " + b.name + ", and has no port here: its frames go through peer:192.0.2.2"} {
		if code, said := a.exit(t, strings.Fields(args)...); code != 4 || !strings.Contains(said, want) {
			t.Errorf("%s exits %d: %s", args, code, said)
		}
	}
	_, lines := a.doctor(t)
	testhost.Must(t, finds(lines, "cluster", "ok", " hosts, all there", ""))
	testhost.Must(t, finds(lines, "resolver", "warn", "Docker does not ask", "daemon.json"))
}

package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// traceSays runs tapestry trace and checks its exit code, and that its output has some words.
func (h *Host) traceSays(t *testing.T, code int, args string, words ...string) {
	t.Helper()
	got, text := h.exit(t, append([]string{"trace"}, strings.Fields(args)...)...)
	if got != code {
		t.Errorf("trace %s: exit %d, want %d:\n%s", args, got, code, text)
	}
	for _, want := range words {
		if !strings.Contains(text, want) {
			t.Errorf("trace %s: no %q in\n%s", args, want, text)
		}
	}
	t.Logf("tapestry trace %s\n%s", args, text)
}

// traces: what trace says of containers' frames is what then happens to them.
func traces(t *testing.T, a, b *Host) {
	a.ping(t, "c1", "10.80.2.10")
	a.ping(t, "c1", "10.80.1.30")
	far := b.exec(t, "c2", "cat", "/sys/class/net/eth0/address")

	before := len(objects[struct{ MAC string }](t, a, "fdb", "wide"))
	a.traceSays(t, 0, "c1 c3 --tcp 80", "frame        TCP SYN 10.80.1.10:50000 → 10.80.1.30:80, 54 bytes, from c1 to c3 on wide",
		"'s own\n", "length       54 bytes fit, the path takes 1468", "verdict      forwarded to c3\n")
	a.traceSays(t, 0, "c1 "+far, "was learned at 192.0.2.2, last seen", "VXLAN to 192.0.2.2:4789, MTU 1450, path MTU 1500 less 50, VNI 80", "verdict      forwarded to 192.0.2.2\n")
	a.traceSays(t, 0, "c1 10.80.2.10 --tcp 80", "No container of this host has 10.80.2.10", "ARP, who has 10.80.2.10? tell 10.80.1.10", "verdict      flooded to ")
	a.traceSays(t, 0, "c1 fd80::12", "neighbour solicitation, who has fd80::12? tell fd80::11", "verdict      flooded to ")
	a.traceSays(t, 1, "c1 c3 --udp 9 --size 1500", "The MTU of c1 is 1450", "length       1514 bytes are too long, the path takes 1468", "verdict      dropped (mtu)", "\ntapestry: the frame would be dropped: mtu")
	a.traceSays(t, 1, "c1 c1", "hairpin      yes", "verdict      dropped (hairpin)")
	a.traceSays(t, 1, "c1 198.51.100.1", "tapestry is layer 2")
	a.traceSays(t, 4, "c1 c4", `no container "c4"`)
	if after := len(objects[struct{ MAC string }](t, a, "fdb", "wide")); after != before {
		t.Errorf("tracing has changed the table from %d to %d addresses", before, after)
	}

	// A captured frame is explained as the switch decided about it.
	live := make(chan string)
	go func() {
		out, err := a.command("tapestry", "trace", "--live", "c1", "-n", "2", "--for", "20s", "--", "icmp", "and", "host", "10.80.2.10").CombinedOutput()
		live <- fmt.Sprintf("%v\n%s", err, out)
	}()
	for text := ""; text == ""; {
		a.ping(t, "c1", "10.80.2.10")
		select {
		case text = <-live:
			for _, want := range []string{"<nil>\n", "switch       forwarded to ", "verdict      forwarded to 192.0.2.2\n",
				"switch       forwarded to c1\n", "verdict      forwarded to c1\n"} {
				if !strings.Contains(text, want) || strings.Contains(text, "differs") {
					t.Errorf("trace --live: no %q in\n%s", want, text)
				}
			}
		default:
		}
	}
	a.traceSays(t, 0, "peer:192.0.2.2 c1", "from the address that was last seen behind 192.0.2.2", "source       "+far, "verdict      forwarded to c1\n")

	// An injected frame arrives unchanged, is answered, and tcpdump finds its checksums right.
	for _, tc := range []struct{ args, filter, want string }{
		{"c1 c3 --udp 41412 --size 1300", "udp port 41412 and src host 10.80.1.10", "[udp sum ok]"},
		{"c1 fd80::13 --udp 41413", "udp port 41413 and src host fd80::11", "[udp sum ok]"},
		{"c1 c3 --tcp 41414", "tcp dst port 41414", "Flags [S], cksum"},
		{"c1 fd80::13", "icmp6 and src host fd80::13 and icmp6[0] == 129", "echo reply"},
		{"c1 c3", "icmp and src host 10.80.1.30", "echo reply"},
	} {
		dump := a.capture(t, "c3", "eth0", tc.filter, "-vv", "-c1")
		out := a.tapestry(t, append([]string{"trace", "--inject", "--json"}, strings.Fields(tc.args)...)...)
		var reply struct{ Verdict, Injected string }
		if err := json.Unmarshal([]byte(out), &reply); err != nil || reply.Injected != "forwarded" || reply.Verdict != "forwarded" {
			t.Errorf("trace %s --inject: %v, %+v", tc.args, err, reply)
		}
		select {
		case <-dump.ended:
			if text := dump.frames.String(); !strings.Contains(text, tc.want) || strings.Contains(text, "incorrect") || strings.Contains(text, "bad") {
				t.Errorf("trace %s --inject: c3 sees %s, want %q", tc.args, text, tc.want)
			}
		case <-time.After(time.Minute):
			t.Errorf("trace %s --inject: nothing came to c3", tc.args)
		}
	}
}

package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// line is one finding of tapestry doctor.
type line struct{ Check, State, Seen, Remedy string }

func (h *Host) doctor(t *testing.T) (code int, lines []line) {
	t.Helper()
	code, text := h.exit(t, "doctor", "--json", "--state-dir", h.dir+"/state")
	lines, err := findings(text)
	if err != nil {
		t.Fatalf("doctor exits %d: %v", code, err)
	}
	return code, lines
}

// findings reads what doctor --json prints; text may also have the lines of standard error.
func findings(text string) (lines []line, err error) {
	text, _, _ = strings.Cut(text, "\ntapestry: ")
	if err := json.Unmarshal([]byte(text), &lines); err != nil {
		return nil, fmt.Errorf("%w in %s", err, text)
	}
	return lines, nil
}

// finds returns an error unless a line of this check has this state, and these words in what it says and in its remedy.
func finds(lines []line, check, state, seen, remedy string) error {
	for _, l := range lines {
		if l.Check == check && l.State == state && strings.Contains(l.Seen, seen) && strings.Contains(l.Remedy, remedy) {
			return nil
		}
	}
	return fmt.Errorf("no %s of %s with %q and %q in %+v", state, check, seen, remedy, lines)
}

// TestDoctor: what doctor and trace say of two hosts is so.
//
//	c1, c3 ── a ──underlay── b ── c2
func TestDoctor(t *testing.T) {
	a, b := newHost(t, "doctor-a"), newHost(t, "doctor-b")
	wire(t, a, b)
	for i, h := range []*Host{a, b} {
		h.startDockerd(t)
		script(t, "image", h.name)
		h.startDaemon(t)
		own, peer := fmt.Sprint(i+1), fmt.Sprint(2-i)
		h.network(t, "wide", "--subnet", "10.80.0.0/16", "--ip-range", "10.80."+own+".0/24", "--gateway", "10.80."+own+".1",
			"--ipv6", "--subnet", "fd80::/64", "-o", "tapestry.vni=80", "-o", "tapestry.peers=192.0.2."+peer)
		h.run(t, "c"+own, "wide", "--ip", "10.80."+own+".10", "--ip6", "fd80::1"+own)
	}
	a.run(t, "c3", "wide", "--ip", "10.80.1.30", "--ip6", "fd80::13")
	a.ping(t, "c1", "10.80.2.10")
	a.tests(t, "ok", true) // not the result of a time when b was not there

	t.Run("healthy", func(t *testing.T) {
		a.quiet(t)
		code, text := a.exit(t, "doctor", "--state-dir", a.dir+"/state")
		if code != 0 || strings.Contains(text, "\nwarn") || !strings.HasSuffix(text, " ok, 0 warn, 0 fail\n") {
			t.Errorf("exit %d:\n%s", code, text)
		}
		for _, want := range []string{"segments arrive whole at 1 peer", "1 peer, all heard", "\nok    offloads     csum tso4 tso6"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		a.ping(t, "c1", "10.80.2.10") // it disturbed nothing
	})

	t.Run("trace", func(t *testing.T) { traces(t, a, b) })

	t.Run("the path to a peer becomes narrow", func(t *testing.T) {
		a.in(t, "ip", "link", "set", "underlay", "mtu", "1400")
		var code int
		var lines []line
		testhost.Eventually(t, patience, func() error { // the daemon looks every 10 s
			code, lines = a.doctor(t)
			return finds(lines, "mtu", "fail", "wide: containers send packets of up to 1450 bytes, the path to 192.0.2.2:4789 takes 1350", "ip link set underlay mtu 1500")
		})
		if code != 1 {
			t.Errorf("exit %d, want 1", code)
		}
		a.in(t, "ip", "link", "set", "underlay", "mtu", "1500")
		testhost.Eventually(t, patience, func() error {
			_, lines := a.doctor(t)
			return finds(lines, "mtu", "ok", "", "")
		})
	})

	t.Run("the path to a peer drops long datagrams", func(t *testing.T) {
		rule := []string{"INPUT", "-p", "udp", "--dport", "4789", "-m", "length", "--length", "1401:65535", "-j", "DROP"}
		b.in(t, append([]string{"iptables", "-A"}, rule...)...)
		testhost.Eventually(t, patience, func() error { // what was just found good is not tested again
			_, lines := a.doctor(t)
			return finds(lines, "mtu", "fail", "wide: datagrams of 1500 bytes do not reach 192.0.2.2:4789", "driver.mtu=")
		})
		b.in(t, append([]string{"iptables", "-D"}, rule...)...)
		testhost.Eventually(t, patience, func() error {
			_, lines := a.doctor(t)
			return errors.Join(finds(lines, "mtu", "ok", "", ""), finds(lines, "selftest", "ok", "arrive whole at 1 peer", ""))
		})
	})

	t.Run("killed, and its port taken", func(t *testing.T) {
		a.stopDaemon(t, "KILL")
		a.in(t, "sh", "-ec", "ip link add vxlan9 type vxlan id 9 dstport 4789 local 192.0.2.1 dev underlay; ip link set vxlan9 up")
		code, lines := a.doctor(t)
		for _, err := range []error{
			finds(lines, "plugin", "fail", "tapestry.sock is stale", "systemctl restart tapestry"),
			finds(lines, "daemon", "fail", "1 network on record in "+a.dir+"/state", "tapestry run"),
			finds(lines, "port", "warn", "UDP 4789 is taken by the kernel's vxlan device vxlan9 (VNI 9)", "ip -detail link"),
			finds(lines, "tun", "ok", "", ""),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		if code != 1 {
			t.Errorf("exit %d, want 1", code)
		}

		a.startDaemon(t)
		code, lines = a.doctor(t)
		for _, err := range []error{
			finds(lines, "plugin", "ok", "", ""),
			finds(lines, "daemon", "ok", "", ""),
			finds(lines, "port", "fail", "UDP 4789 is taken by the kernel's vxlan device vxlan9", "--vxlan-port"),
			finds(lines, "networks", "fail", "wide has no tunnel", ""),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		if code != 1 {
			t.Errorf("exit %d, want 1", code)
		}
		a.in(t, "ip", "link", "del", "vxlan9")
		testhost.Eventually(t, patience, func() error { // the daemon tries every 5 s
			_, lines := a.doctor(t)
			return finds(lines, "port", "ok", "is the daemon's", "")
		})
	})
}

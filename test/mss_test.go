package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var announced = regexp.MustCompile(`Flags \[(S\.?[EW]*)\].*?\[mss (\d+)`)

// mss are what the last segments that open and accept a connection announce, in what tcpdump says.
func mss(lines []string) (opens, accepts string) {
	for _, line := range lines {
		m := announced.FindStringSubmatch(line)
		switch {
		case m == nil:
		case strings.HasPrefix(m[1], "S."):
			accepts = m[2]
		default:
			opens = m[2]
		}
	}
	return opens, accepts
}

// lowersMSS: what comes to the other host announces what fits the path, or the number that its container was given, and TCP works, whoever computes checksums.
func (p *pair) lowersMSS(t *testing.T) {
	const opening = "tcp[tcpflags] & tcp-syn != 0 or (ip6[6] = 6 and ip6[53] & 2 != 0)"
	a, b := p.a, p.b
	for i, mode := range []string{"off", "auto", "1000"} {
		name := "mss" + mode
		ip4, ip6 := fmt.Sprint("10.80.1.13", i), fmt.Sprint("fd00:80::1:13", i)
		a.docker(t, "run", "-d", "--name", name, "--network", "name=wide,ip="+ip4+",ip6="+ip6+",driver-opt=tapestry.mss="+mode, "tp/net")
		t.Cleanup(func() { a.docker(t, "rm", "-f", name) })
		a.in(t, "nsenter", "-n", "-t", a.init(t, name), "ip", "link", "set", "eth0", "mtu", "1500") // it does not know its path
		for _, to := range []struct {
			far, near string
			headers   int
		}{{"10.80.2.10", ip4, 40}, {"fd00:80::20", ip6, 60}} {
			for _, complete := range []bool{false, true} {
				if complete {
					a.in(t, "nsenter", "-n", "-t", a.init(t, name), "ethtool", "-K", "eth0", "tx", "off")
				} else {
					a.in(t, "nsenter", "-n", "-t", a.init(t, name), "ethtool", "-K", "eth0", "tx", "on")
				}
				want := map[string]int{"off": 1500 - to.headers, "auto": 1500 - p.overhead - to.headers, "1000": 1000}[mode]
				seen := b.capture(t, "blue", "eth0", opening)
				iperf(t, b, "blue", a, name, "-c", to.far, "--bytes", "1M")
				opens, _ := mss(seen.end(t))
				seen = b.capture(t, "blue", "eth0", opening)
				iperf(t, a, name, b, "blue", "-c", to.near, "--bytes", "1M")
				_, accepts := mss(seen.end(t))
				if opens != fmt.Sprint(want) || accepts != fmt.Sprint(want) {
					t.Errorf("%s, %s, complete checksums %t: connections are opened with an MSS of %s and accepted with one of %s, want %d", mode, to.far, complete, opens, accepts, want)
				}
			}
		}
	}
	if said := a.tapestry(t, "ports", "wide"); !regexp.MustCompile(`mss1000 .* mss=1000\n`).MatchString(said) || !regexp.MustCompile(`mssauto .* mss=auto\n`).MatchString(said) {
		t.Errorf("ports shows\n%s", said)
	}
	lowered := 0
	for _, n := range objects[struct {
		MSSLowered int `json:"mss_lowered"`
	}](t, a, "networks") {
		lowered += n.MSSLowered
	}
	if lowered < 48 { // iperf3 makes two connections: each of 8 times one end or, with 1000, both
		t.Errorf("%d are counted", lowered)
	}
}

package test

import (
	"strconv"
	"strings"
	"testing"
)

// accessPorts: access ports of one VLAN reach each other, on both hosts and at full size, and no port of another VLAN.
func (p *pair) accessPorts(t *testing.T) {
	a, b := p.a, p.b
	start := func(h *Host, name, last, vlan string) (ip4, ip6 string) {
		n := map[*Host]string{a: "1", b: "2"}[h]
		ip4, ip6 = "10.80."+n+"."+last, "fd00:80::"+n+":"+last
		h.docker(t, "run", "-d", "--name", name, "--network", "name=wide,ip="+ip4+",ip6="+ip6+",driver-opt=tapestry.vlan="+vlan, "tp/net")
		t.Cleanup(func() { h.docker(t, "rm", "-f", name) })
		return ip4, ip6
	}
	start(a, "ten", "110", "10")
	far4, far6 := start(b, "tenfar", "110", "10")
	near4, _ := start(a, "tennear", "111", "trunk:0+10")
	other4, _ := start(b, "twenty", "120", "20")
	own4, _ := start(a, "twentynear", "121", "20")

	seen := a.capture(t, "", "underlay", "udp port 4789")
	a.ping(t, "ten", far4)
	a.ping(t, "ten", far6)
	mtu := 1500 - p.overhead - 4
	if got := a.exec(t, "ten", "cat", "/sys/class/net/eth0/mtu"); got != strconv.Itoa(mtu) {
		t.Errorf("MTU %s, want %d", got, mtu)
	}
	a.ping(t, "ten", far4, "-M", "do", "-s", strconv.Itoa(mtu-28))
	b.ping(t, "tenfar", "fd00:80::1:110", "-M", "do", "-s", strconv.Itoa(mtu-48))
	if lines := strings.Join(seen.end(t), "\n"); !strings.Contains(lines, "vlan 10") {
		t.Errorf("on the underlay:\n%s", lines)
	}
	iperf(t, b, "tenfar", a, "ten", "-c", far4, "--time", "1")
	iperf(t, b, "tenfar", a, "ten", "-c", far6, "-R", "--time", "1")
	for _, ip := range []string{other4, own4, "10.80.2.10", near4} { // another VLAN, far and near; and frames without a tag
		if said, err := a.tryExec("ten", "ping", "-c1", "-W1", ip); err == nil {
			t.Errorf("ten reaches %s: %s", ip, said)
		}
	}
	if code, said := a.exit(t, "trace", "ten", "twentynear"); code != 1 || !strings.Contains(said, "its VLAN is none of the port's that it would leave by") {
		t.Errorf("trace says: %d, %s", code, said)
	}
	if said := a.tapestry(t, "trace", "ten", far4); !strings.Contains(said, "it leaves") {
		t.Errorf("trace says: %s", said)
	}
}

package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// sendRaw sends frames by a container's eth0, as a program with CAP_NET_RAW does.
func (h *Host) sendRaw(t *testing.T, container string, frames ...[]byte) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	testhost.Must(t, err)
	defer here.Close()
	there, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/root/proc/%s/ns/net", h.pid, h.init(t, container)))
	testhost.Must(t, err)
	defer there.Close()
	testhost.Must(t, netns.Set(there))
	defer func() { testhost.Must(t, netns.Set(here)) }()
	link, err := net.InterfaceByName("eth0")
	testhost.Must(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	testhost.Must(t, err)
	defer unix.Close(fd)
	for _, b := range frames {
		testhost.Must(t, unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6}))
	}
}

// TestGuard: a container that speaks for another one, and what honest ones need.
func TestGuard(t *testing.T) {
	h := newNode(t, "guard")
	h.network(t, "net", "--subnet", "10.77.0.0/24", "--ipv6", "--subnet", "fd77::/64")
	h.run(t, "victim", "net", "--ip", "10.77.0.20", "--ip6", "fd77::20")
	h.run(t, "other", "net", "--ip", "10.77.0.21", "--ip6", "fd77::21")
	for name, opts := range map[string]string{"evil": "ip=10.77.0.66,ip6=fd77::66", "router": "ip=10.77.0.67,ip6=fd77::67,driver-opt=tapestry.allow=ra",
		"proxy": "ip=10.77.0.68,ip6=fd77::68,driver-opt=tapestry.guard=mac"} {
		h.docker(t, "run", "-d", "--name", name, "--network", "name=net,"+opts, "tp/net")
	}
	macOf := func(container string) ether.MAC {
		m, err := ether.ParseMAC(h.exec(t, container, "cat", "/sys/class/net/eth0/address"))
		testhost.Must(t, err)
		return m
	}
	evil, victim, all := macOf("evil"), macOf("victim"), ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes := ether.MAC{0x33, 0x33, 0, 0, 0, 1}
	v4, v6, nodes := netip.MustParseAddr("10.77.0.20"), netip.MustParseAddr("fd77::20"), netip.MustParseAddr("ff02::1")
	forged := func(mac ether.MAC) map[string][]byte {
		ra := packets.ICMPv6(allNodes, mac, netip.MustParseAddr("fe80::66"), nodes, 134, []byte{64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0})
		bpdu := packets.Ethernet(38, packets.Data(46))
		copy(bpdu, []byte{1, 0x80, 0xc2, 0, 0, 0})
		copy(bpdu[6:], mac[:])
		return map[string][]byte{
			"spoofed_ip":  packets.Packet{UDP: true, SrcMAC: mac, DstMAC: macOf("other"), Src: v4, Dst: netip.MustParseAddr("10.77.0.21")}.Bytes(),
			"spoofed_arp": packets.ARP(all, mac, 2, v4, ether.MAC{}, v4),
			"spoofed_nd":  packets.Advertisement(allNodes, mac, 0x20, v6, nodes),
			"ra":          ra,
			"dhcp":        packets.Packet{UDP: true, SrcMAC: mac, DstMAC: all, Src: netip.MustParseAddr("10.77.0.66"), Dst: netip.MustParseAddr("255.255.255.255"), SrcPort: 67, DstPort: 68}.Bytes(),
			"bpdu":        bpdu,
			"unreadable":  packets.Tagged(packets.ARP(all, mac, 2, v4, ether.MAC{}, v4), 0x81000000, 0x81000000, 0x81000000),
		}
	}
	drops := func(container string) map[string]uint64 {
		var ports []api.Port
		testhost.Must(t, json.Unmarshal([]byte(h.tapestry(t, "ports", "net", "--json")), &ports))
		for _, p := range ports {
			if p.Container == container {
				return p.Drops
			}
		}
		t.Fatalf("no port of %s", container)
		return nil
	}
	dropped := func(container, reason string, want uint64) {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			if got := drops(container)[reason]; got != want {
				return fmt.Errorf("%d frames of %s were dropped as %s, want %d", got, container, reason, want)
			}
			return nil
		})
	}

	t.Run("row56 no container speaks for another, nor as a router, DHCP server or bridge", func(t *testing.T) {
		h.quiet(t, "a guard has dropped frames")
		from := h.mark()
		h.ping(t, "other", "10.77.0.20")
		own := strings.Fields(h.exec(t, "evil", "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"))[3] // by it, and by ::, its kernel says what all do
		seen := h.capture(t, "other", "eth0", "ether src "+evil.String()+" and not ip6 src host "+strings.TrimSuffix(own, "/64")+" and not ip6 src host ::")
		live := h.background(t, "", "tapestry", "trace", "--live", "evil", "--drops", "-n", "1", "--", "arp")
		for reason, frame := range forged(evil) {
			if reason == "spoofed_arp" {
				continue
			}
			for range 20 {
				h.sendRaw(t, "evil", frame)
			}
			dropped("evil", reason, 20)
		}
		testhost.Eventually(t, patience, func() error { // until the trace listens
			h.sendRaw(t, "evil", forged(evil)["spoofed_arp"])
			if !strings.Contains(live.said.String(), "spoofed_arp") {
				return fmt.Errorf("trace --live shows none: %s", live.said.String())
			}
			return nil
		})
		said, _ := live.wait(t)
		if !strings.Contains(said, "its ARP speaks for 10.77.0.20, which belongs to victim") || !strings.Contains(said, "spoofed_arp") {
			t.Errorf("trace --live says\n%s", said)
		}
		if lines := seen.end(t); len(lines) != 0 {
			t.Errorf("these arrived:\n%s", strings.Join(lines, "\n"))
		}
		for _, address := range []string{"10.77.0.20", "fd77::20"} {
			h.ping(t, "other", address)
			if said := h.exec(t, "other", "ip", "neigh", "show", address); !strings.Contains(said, victim.String()) {
				t.Errorf("%s is at %s, want %s", address, said, victim)
			}
		}
		kept := h.tapestry(t, "recorder", "dump", "evil", "--json")
		for reason := range forged(evil) {
			if !strings.Contains(kept, `"`+reason+`"`) {
				t.Errorf("the recorder has no frame dropped as %s", reason)
			}
		}
		if said := h.tapestry(t, "status"); !strings.Contains(said, "spoofed_arp") || !strings.Contains(said, "evil") || !strings.Contains(said, "victim") {
			t.Errorf("status says\n%s", said)
		}
		testhost.Eventually(t, patience, func() error {
			told := map[string]int{}
			for _, r := range h.records(t, from) {
				if r.Msg == "a guard has dropped frames" {
					for reason := range forged(evil) {
						if strings.Contains(r.line, `"reason":"`+reason+`"`) {
							told[reason]++
						}
					}
				}
			}
			for reason := range forged(evil) {
				if told[reason] == 0 {
					return fmt.Errorf("the log does not tell of %s: %v", reason, told)
				}
			}
			return nil
		})
	})

	t.Run("row57 what an option allows passes, and addresses that nobody has", func(t *testing.T) {
		h.quiet(t)
		router, proxy := macOf("router"), macOf("proxy")
		seen := h.capture(t, "other", "eth0", "ether src "+router.String()+" or ether src "+proxy.String())
		h.sendRaw(t, "router", forged(router)["ra"])
		h.sendRaw(t, "proxy", forged(proxy)["spoofed_ip"])
		h.exec(t, "router", "ip", "addr", "add", "10.77.0.200/24", "dev", "eth0") // as keepalived does
		h.exec(t, "router", "arping", "-c1", "-w20", "-U", "-I", "eth0", "10.77.0.200")
		h.ping(t, "other", "10.77.0.200")
		h.exec(t, "router", "ip", "link", "add", "mv0", "link", "eth0", "type", "macvlan", "mode", "bridge")
		h.exec(t, "router", "ip", "addr", "add", "10.77.0.201/24", "dev", "mv0")
		h.exec(t, "router", "ip", "link", "set", "mv0", "up")
		h.ping(t, "other", "10.77.0.201")
		lines := strings.Join(seen.end(t), "\n")
		for _, want := range []string{"router advertisement", "10.77.0.20."} {
			if !strings.Contains(lines, want) {
				t.Errorf("%s did not arrive:\n%s", want, lines)
			}
		}
		for _, name := range []string{"router", "proxy", "other", "victim"} {
			for reason, n := range drops(name) {
				if n > 0 && reason != "hairpin" {
					t.Errorf("%d frames of %s were dropped as %s", n, name, reason)
				}
			}
		}
	})
}

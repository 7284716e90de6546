package test

import (
	"fmt"
	"strings"
	"testing"
)

// nest makes a VXLAN device in a container, with another container as remote, as in Docker in Docker and network labs. The device
// is nested0.
func (h *Host) nest(t *testing.T, container, remote, inside string, flags ...string) {
	t.Helper()
	within := []string{"nsenter", "-n", "-t", h.init(t, container), "ip"}
	h.in(t, append(append(within[:len(within):len(within)], "link", "add", "nested0", "type", "vxlan", "id", "9", "dev", "eth0", "dstport", "4789", "remote", remote), flags...)...)
	h.in(t, append(within[:len(within):len(within)], "address", "add", inside, "dev", "nested0")...)
	h.in(t, append(within[:len(within):len(within)], "link", "set", "nested0", "up")...)
}

// captureNested has containers with a VXLAN tunnel between them. The tunnel's super-frames go whole from TAP to TAP if the kernel
// delivers them whole, and are cut when they leave the host.
func (p *pair) captureNested(t *testing.T) {
	// Not on wide: its links have a gso_max_size, for the tunnel between the hosts, that a VXLAN device in a container does
	// not know of, and the kernel cuts what is longer.
	p.a.network(t, "near", "--subnet", "10.82.0.0/24", "--ipv6", "--subnet", "fd00:82::/64")
	p.a.run(t, "orange", "near", "--ip", "10.82.0.10", "--ip6", "fd00:82::10")
	p.a.run(t, "lime", "near", "--ip", "10.82.0.20", "--ip6", "fd00:82::20")
	for _, outer := range []struct {
		name, network, one, oneIP string
		h                         *Host
		other, otherIP, sums      string
	}{
		{"IPv4, no outer checksum", "near", "orange", "10.82.0.10", p.a, "lime", "10.82.0.20", "noudpcsum"},
		{"IPv4, outer checksum", "near", "orange", "10.82.0.10", p.a, "lime", "10.82.0.20", "udpcsum"},
		{"IPv6", "near", "orange", "fd00:82::10", p.a, "lime", "fd00:82::20", ""},
		{"IPv4, to another host", "wide", "red", "10.80.1.10", p.b, "blue", "10.80.2.10", "udpcsum"},
		{"IPv6, to another host", "wide", "red", "fd00:80::10", p.b, "blue", "fd00:80::20", ""},
	} {
		t.Run(outer.name, func(t *testing.T) {
			p.a.quiet(t)
			p.b.quiet(t)
			there, other := outer.h, outer.other
			defer p.a.try("nsenter", "-n", "-t", p.a.init(t, outer.one), "ip", "link", "del", "nested0")
			defer there.try("nsenter", "-n", "-t", there.init(t, other), "ip", "link", "del", "nested0")
			p.a.nest(t, outer.one, outer.otherIP, "10.99.0.1/24", strings.Fields(outer.sums)...)
			there.nest(t, other, outer.oneIP, "10.99.0.2/24", strings.Fields(outer.sums)...)
			there.ping(t, other, "10.99.0.1")

			for _, load := range [][]string{{"-n", "4M"}, {"-n", "500K", "-u", "-b", "300M", "-l", "8000"}} {
				before := portOf(t, there, outer.network, other)
				recordings := map[string]*recording{}
				for _, mode := range []string{"fix", "segment"} {
					recordings[mode] = p.a.record(t, mode, fmt.Sprintf(`{"offload":%q,"bytes":-1,"ring":268435456}`, mode))
				}
				measure(t, p.a, outer.one, there, other, append([]string{"-c", "10.99.0.1"}, load...)...)
				for mode, r := range recordings {
					b := r.end(t)
					if b.Delivered == 0 {
						t.Errorf("%s: %+v", mode, b)
					}
					said := tshark(t, r.path, badSums, "frame.len > 1514", "vxlan && (tcp || udp)")
					if bad := said.counts[0]; bad != 0 {
						t.Errorf("%s: %d of %d packets with a bad checksum, outer or inner", mode, bad, b.Packets)
					}
					if long := said.counts[1]; mode == "segment" && long != 0 {
						t.Errorf("%d segments are longer than MTU and header", long)
					}
					if mode == "segment" && said.counts[2] == 0 {
						t.Error("no packet of the tunnel")
					}
				}
				after := portOf(t, there, outer.network, other)
				for reason, n := range after.Drops {
					if n != before.Drops[reason] {
						t.Errorf("%s: %d frames dropped as %s", other, n-before.Drops[reason], reason)
					}
				}
				frames, bytes := after.RxFrames-before.RxFrames, after.RxBytes-before.RxBytes
				whole := false
				for _, o := range there.offloads(t) {
					whole = whole || o.Name == "udp_tunnel" && o.State == "on"
				}
				if whole && len(load) == 2 && outer.network == "near" && bytes/frames < 4000 {
					t.Errorf("%d frames of %d bytes on average came from %s: the super-frames were cut before", frames, bytes/frames, other)
				}
				t.Logf("%v: %d frames, %d bytes on average, whole: %v", load, frames, bytes/frames, whole)
			}
		})
	}
}

// portOf is a container's port on a network.
func portOf(t *testing.T, h *Host, network, container string) port {
	t.Helper()
	id := h.inspect(t, container).NetworkSettings.Networks[network].EndpointID
	for _, p := range objects[port](t, h, "ports", network) {
		if p.Name == id {
			return p
		}
	}
	t.Fatalf("%s has no port on %s", container, network)
	return port{}
}

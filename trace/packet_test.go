package trace

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
)

// gopacket reads each frame as the layers that were asked for, and computes the same lengths and checksums.
func TestPacket(t *testing.T) {
	ends := Packet{src: ether.MAC{2, 0, 0, 0, 0, 1}, dst: ether.MAC{2, 0, 0, 0, 0, 2}, Sport: 50000, Dport: 53}
	for _, v6 := range []bool{false, true} {
		ends.from, ends.to = netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.77.0.3")
		ip := "IPv4"
		if v6 {
			ends.from, ends.to, ip = netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::abcd"), "IPv6"
		}
		for kind, want := range map[string]string{
			"tcp": "Ethernet " + ip + " TCP", "udp": "Ethernet " + ip + " UDP", "icmp": "Ethernet " + ip + " " + map[bool]string{false: "ICMPv4", true: "ICMPv6 ICMPv6Echo"}[v6],
			"arp": map[bool]string{false: "Ethernet ARP", true: "Ethernet IPv6 ICMPv6 ICMPv6NeighborSolicitation"}[v6],
		} {
			for _, size := range []int{0, 61, 200, 1500, 65535} {
				if kind == "arp" && size != 0 {
					continue
				}
				t.Run(fmt.Sprint(kind, " ", ip, " ", size), func(t *testing.T) {
					p := ends
					p.Kind, p.Size = kind, size
					frame, err := p.frame()
					if err != nil {
						t.Fatal(err)
					}
					if size != 0 && len(frame) != 14+size {
						t.Errorf("%d bytes, want %d", len(frame), 14+size)
					}
					read := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
					var names []string
					var stack []gopacket.SerializableLayer
					for _, l := range read.Layers() {
						if l.LayerType() == gopacket.LayerTypeDecodeFailure {
							t.Fatal(read.ErrorLayer().Error())
						}
						if l.LayerType() == gopacket.LayerTypePayload || l.LayerType() == layers.LayerTypeDNS {
							break
						}
						names = append(names, l.LayerType().String())
						if c, ok := l.(interface {
							SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
						}); ok {
							_ = c.SetNetworkLayerForChecksum(read.NetworkLayer())
						}
						stack = append(stack, l.(gopacket.SerializableLayer))
					}
					if got := strings.Join(names, " "); got != want {
						t.Errorf("read as %s, want %s", got, want)
					}
					buf := gopacket.NewSerializeBuffer()
					if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, stack[1:]...); err != nil {
						t.Fatal(err)
					}
					stack = append(stack, gopacket.Payload(frame[14+len(buf.Bytes()):]))
					if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
						t.Fatal(err)
					}
					if got := bytes.TrimRight(buf.Bytes()[len(frame):], "\x00"); len(got) > 0 {
						t.Errorf("gopacket adds % x", got)
					}
					if got := buf.Bytes()[:len(frame)]; !bytes.Equal(got, frame) {
						t.Errorf("made\n% x\ngopacket makes\n% x", frame, got)
					}
				})
			}
		}
	}
	for _, p := range []Packet{{Kind: "tcp", Size: 39}, {Kind: "udp", Size: 65536}, {Size: -1}} {
		p.from, p.to = ends.from, ends.to
		if f, err := p.frame(); err == nil || !strings.Contains(err.Error(), "to 65535 bytes") {
			t.Errorf("%+v: %d bytes, %v", p, len(f), err)
		}
	}
	if f, err := (Packet{Size: 46}).frame(); err != nil || len(f) != 60 {
		t.Errorf("without IP: %d bytes, %v", len(f), err)
	}
	for addr, want := range map[string]string{"224.0.0.251": "01:00:5e:00:00:fb", "239.255.1.2": "01:00:5e:7f:01:02", "10.77.0.255": "ff:ff:ff:ff:ff:ff", "ff02::1:ff00:abcd": "33:33:ff:00:ab:cd"} {
		if got := groupMAC(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s goes to %s, want %s", addr, got, want)
		}
	}
}

package fabric

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/fabric/neighbour"
	"github.com/tapestry-net/tapestry/test/packets"
)

// gopacket decodes the announcements as intended, and encodes the same bytes.
func TestAnnouncements(t *testing.T) {
	e := ep(3)
	e.Addrs = append(e.Addrs, netip.MustParsePrefix("fd77::3/64"), netip.MustParsePrefix("fe80::1:2:3/64"))
	frames := neighbour.Announcements(e)
	if len(frames) != len(e.Addrs) {
		t.Fatalf("%d announcements of %d addresses", len(frames), len(e.Addrs))
	}
	mac := net.HardwareAddr(e.MAC[:])
	for i := range frames {
		addr := e.Addrs[i].Addr()
		b := frames[i].Bytes()
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		if err := p.ErrorLayer(); err != nil {
			t.Fatal(err.Error())
		}
		eth := p.LinkLayer().(*layers.Ethernet)
		if !bytes.Equal(eth.SrcMAC, mac) || frames[i].Check() != nil || len(frames[i].WithHeadroom()) != len(b)+8 {
			t.Errorf("%s: sent by %s", addr, eth.SrcMAC)
		}
		if addr.Is4() {
			arp := p.Layer(layers.LayerTypeARP).(*layers.ARP)
			ip := addr.AsSlice()
			if eth.DstMAC.String() != "ff:ff:ff:ff:ff:ff" || arp.Operation != layers.ARPRequest ||
				arp.AddrType != layers.LinkTypeEthernet || arp.Protocol != layers.EthernetTypeIPv4 ||
				!bytes.Equal(arp.SourceHwAddress, mac) || !bytes.Equal(arp.SourceProtAddress, ip) ||
				!bytes.Equal(arp.DstHwAddress, make([]byte, 6)) || !bytes.Equal(arp.DstProtAddress, ip) {
				t.Errorf("%s: %+v", addr, arp)
			}
			continue
		}
		ip := p.NetworkLayer().(*layers.IPv6)
		icmp := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		na := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		if eth.DstMAC.String() != "33:33:00:00:00:01" || ip.HopLimit != 255 || ip.SrcIP.String() != addr.String() || ip.DstIP.String() != "ff02::1" {
			t.Errorf("%s: %+v", addr, ip)
		}
		if na.TargetAddress.String() != addr.String() || na.Solicited() || !na.Override() || na.Router() ||
			len(na.Options) != 1 || na.Options[0].Type != layers.ICMPv6OptTargetAddress || !bytes.Equal(na.Options[0].Data, mac) {
			t.Errorf("%s: %+v", addr, na)
		}
		again := packets.Serialize(eth, ip, icmp, na)
		if !bytes.Equal(again, b) {
			t.Errorf("%s: sent\n%x, gopacket writes\n%x", addr, b, again)
		}
	}
}

// Each Join announces the container's addresses on the network.
func TestJoinAnnounces(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(2))
	listener := h.m.dev(t, epID(2))
	h.container(netID(1), ep(1))
	want := neighbour.Announcements(ep(1))
	listener.expect(t, string(want[0].Bytes()[14:]))
	if _, err := h.Join(t.Context(), netID(1), epID(1), ""); err != nil {
		t.Fatal(err)
	}
	listener.expect(t, string(want[0].Bytes()[14:]))
}

package tunnel

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestSourcePorts: many flows spread over many ports of the recommended range, one flow keeps to one,
// and the outer header forbids fragments.
func TestSourcePorts(t *testing.T) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			l, k := pair(t, family.a, family.b)
			sniff, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, unix.ETH_P_ALL<<8|unix.ETH_P_ALL>>8)
			testhost.Must(t, err)
			defer unix.Close(sniff)
			testhost.Must(t, unix.SetsockoptInt(sniff, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
			ports := make(map[uint16]map[layers.UDPPort]bool) // of the underlay, by inner source port
			used := make(map[layers.UDPPort]bool)
			for flow := range uint16(200) {
				p := packet{SrcPort: 1000 + flow, UDP: true, Payload: packets.Data(100)}
				q := packet{SrcPort: 1000 + flow, UDP: true, Payload: packets.Data(5000)}
				if sent, _ := l.Send([]*ether.Frame{p.frame(t), q.super(t, 1000), p.frame(t)}); sent != 3 {
					t.Fatal("refused")
				}
				k.drainFrames(t, 7)
				ports[flow] = make(map[layers.UDPPort]bool)
				for b := make([]byte, 1<<17); ; {
					n, err := unix.Read(sniff, b)
					if err == unix.EAGAIN {
						break
					}
					testhost.Must(t, err)
					p := gopacket.NewPacket(b[:n], layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
					udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
					if !ok || udp.DstPort != port {
						continue
					}
					if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.Flags&layers.IPv4DontFragment == 0 {
						t.Fatal("the outer header allows fragments")
					}
					ports[flow][udp.SrcPort], used[udp.SrcPort] = true, true
				}
				if len(ports[flow]) != 1 {
					t.Errorf("flow %d uses source ports %v, want one", flow, ports[flow])
				}
			}
			if len(used) != senders {
				t.Errorf("200 flows use %d source ports, want all %d", len(used), senders)
			}
			for p := range used {
				if p < firstPort {
					t.Errorf("source port %d is outside 49152 to 65535", p)
				}
			}
		})
	}
}

func TestSendersTakeNothingIn(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	for _, fd := range v.send {
		sa, err := unix.Getsockname(fd)
		testhost.Must(t, err)
		c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port))
		testhost.Must(t, err)
		_, err = c.Write([]byte("nobody reads this, and it must not pile up"))
		c.Close()
		testhost.Must(t, err)
		b := make([]byte, 100)
		if n, err := unix.Read(fd, b); err != unix.EAGAIN {
			t.Errorf("a sending socket took %d bytes in (%v)", n, err)
		}
	}
}

// TestSeveralReceivers: every datagram comes, whichever socket the kernel chose, and a flow keeps its order.
func TestSeveralReceivers(t *testing.T) {
	host(t)
	l, err := listen(t, "127.0.0.1", 1).Link(vni, at("127.0.0.2"))
	testhost.Must(t, err)
	v := listen(t, "127.0.0.2", 3)
	if n := len(v.Receivers()); n != 3 {
		t.Fatalf("%d receivers, want 3", n)
	}
	k, _ := caught(t, v, vni, "127.0.0.1")
	for flow := range uint16(100) {
		for i := range uint16(3) {
			f := packet{SrcPort: 1000 + flow, UDP: true, ID: i, Payload: packets.Data(100)}.frame(t)
			if sent, _ := l.Send([]*ether.Frame{f}); sent != 1 {
				t.Fatal("refused")
			}
		}
	}
	next := make(map[uint16]uint16)
	for _, b := range k.drainFrames(t, 300) {
		flow, id := binary.BigEndian.Uint16(b[34:]), binary.BigEndian.Uint16(b[18:])
		if id != next[flow] {
			t.Errorf("flow %d: frame %d came where %d was due", flow, id, next[flow])
		}
		next[flow]++
	}
}

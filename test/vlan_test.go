package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// vlanFrame is an IPv4 TCP segment with a VLAN tag and a partial checksum.
func vlanFrame(t *testing.T, src, dst, from, to string, payload int) []byte {
	t.Helper()
	p := packets.Packet{Tags: []uint16{5}, ID: 1, DF: true, Src: netip.MustParseAddr(from), Dst: netip.MustParseAddr(to),
		SrcPort: 50000, DstPort: 41500, TCP: packets.Flags(0x10), Payload: make([]byte, payload)}
	for text, to := range map[string]*[6]byte{dst: &p.DstMAC, src: &p.SrcMAC} {
		mac, err := net.ParseMAC(text)
		testhost.Must(t, err)
		copy(to[:], mac)
	}
	return p.Partial()
}

// vlans: the longest frame to another host has, with its VLAN tag, the path's MTU less VXLAN's headers; so have the segments of a super-frame.
func (p *pair) vlans(t *testing.T) {
	var network, red string
	for _, p := range objects[portState](t, p.a, "ports", "wide") {
		if p.Container == "red" {
			network, red = p.Network, p.Name
		}
	}
	mac := func(h *Host, container string) string {
		return h.exec(t, container, "cat", "/sys/class/net/eth0/address")
	}
	src, dst := mac(p.a, "red"), mac(p.b, "blue")
	received := func() int {
		n, err := strconv.Atoi(p.b.exec(t, "blue", "cat", "/sys/class/net/eth0/statistics/rx_bytes"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	p.a.ping(t, "red", "10.80.2.10") // so that blue is known here
	limit := 1500 - p.overhead + 14
	for _, super := range []bool{false, true} {
		for more := range 2 {
			segment := limit - 58 + more
			payload, offload := segment, map[string]any{"needs_sum": true, "sum_start": 38, "sum_offset": 16}
			if super {
				payload = 5*segment + 100
				offload["kind"], offload["segment"] = "tcp4", segment
			}
			body, err := json.Marshal(map[string]any{"network": network, "port": red, "inject": true,
				"frame": vlanFrame(t, src, dst, "10.80.1.10", "10.80.2.10", payload), "offload": offload})
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Bytes             int
				Verdict, Injected string
			}
			before := received()
			answer := p.a.ask(t, "POST", "/v1/trace", string(body))
			err = json.NewDecoder(answer.Body).Decode(&got)
			answer.Body.Close()
			want := []string{"forwarded", "mtu"}[more]
			if err != nil || got.Bytes != limit+more || got.Verdict != want || got.Injected != want {
				t.Errorf("super-frame %v, %d bytes too long: %+v, %v; want %s", super, more, got, err, want)
			}
			if more == 0 {
				testhost.Eventually(t, patience, func() error {
					if now := received(); now < before+payload {
						return fmt.Errorf("super-frame %v: blue has got %d bytes, want %d and more", super, now-before, payload)
					}
					return nil
				})
			}
		}
	}
	peers := objects[struct{ Lost map[string]uint64 }](t, p.a, "peers", "wide")
	if len(peers) != 1 || peers[0].Lost["long"] != 0 {
		t.Errorf("peers: %+v", peers)
	}
}

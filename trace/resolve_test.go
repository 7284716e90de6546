package trace

import (
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"
)

// If a VLAN-tagged frame is too long, trace says which MTU its link needs.
func TestTraceVLAN(t *testing.T) {
	const hint = "It has a VLAN tag"
	for _, tc := range []struct {
		typ  byte // first byte of the EtherType
		want bool
	}{{0x81, true}, {0x88, false}, {0x08, false}} {
		r := api.Trace{Verdict: "mtu", Drop: true, Request: api.TraceRequest{Frame: append(make([]byte, 12), tc.typ, 0, 0, 5, 8, 0)}}
		if got := verdictText(r, &docker.Engine{}); strings.Contains(got, hint) != tc.want {
			t.Errorf("EtherType %#x00: %s", tc.typ, got)
		}
	}
	for _, frame := range [][]byte{nil, make([]byte, 13)} {
		if ether.IsTagged(frame) {
			t.Errorf("%d bytes have a tag", len(frame))
		}
	}
}

// There is a text for each result of each check.
func TestTraceWords(t *testing.T) {
	for check, words := range map[string]string{"offload": "none checksum super-frame runt contradiction", "port": "attached detached down",
		"source": "pinned known new moved other taken own group zero", "guard": "passes spoofed_ip spoofed_arp spoofed_nd ra dhcp bpdu unreadable", "destination": "pinned learned told unknown group", "hairpin": "no yes", "horizon": "no yes",
		"vlan": "in not_here not_there", "link": "up down", "length": "fits long told", "mss": "lowered", "flood": "some members nobody long down reserved"} {
		for _, found := range strings.Fields(words) {
			if got := stepText((api.TraceStep{Check: check, Found: found}), api.Trace{}, &docker.Engine{}); got == found {
				t.Errorf("%s %s has no words", check, found)
			}
		}
	}
}

// A frame from another host has the MAC address that was last seen behind it. Networks where none was seen do not count.
func TestTraceFromPeer(t *testing.T) {
	ports := []api.Port{{Kind: "remote", Network: fake.WideID, Name: "192.0.2.2", Addresses: []string{"192.0.2.2/32"}},
		{Kind: "remote", Network: fake.LocalID, Name: "192.0.2.2"}, {Kind: "container", Network: fake.WideID, Name: fake.WebID, MAC: "02:00:00:00:00:02"}}
	setRemoteMACs(ports, []api.Entry{{Network: fake.WideID, Port: "192.0.2.2", MAC: ether.MAC{2, 9}, AgeSeconds: 7},
		{Network: fake.WideID, Port: "192.0.2.2", MAC: ether.MAC{2, 8}, AgeSeconds: 3}, {Network: fake.WideID, Port: fake.WebID, MAC: ether.MAC{2, 7}}})
	if ports[0].MAC != "02:08:00:00:00:00" || ports[0].Addresses != nil || ports[1].MAC != "" || ports[2].MAC != "02:00:00:00:00:02" {
		t.Errorf("%+v", ports)
	}
	e := candidates{docker: &docker.Engine{Answered: true}, ports: ports}
	var x Query
	if err := x.resolve(e, "peer:192.0.2.2", fake.WebID); err != nil || x.from.Network != fake.WideID || x.Packet.src != (ether.MAC{2, 8}) {
		t.Errorf("%v, %+v", err, x)
	}
	e.ports = ports[1:]
	if err := x.resolve(e, "peer:192.0.2.2", fake.WebID); exit.Code(err) != exit.Failure || !strings.Contains(err.Error(), "no MAC address is known behind peer:192.0.2.2") {
		t.Errorf("%v", err)
	}
}

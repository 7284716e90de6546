package ether

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

var (
	group4, group6   = netip.MustParseAddr("239.129.2.3"), netip.MustParseAddr("ff05::1:3")
	reports4         = netip.MustParseAddr("224.0.0.22")
	reports6         = netip.MustParseAddr("ff02::16")
	local6           = netip.MustParseAddr("fe80::2")
	all4, allRouters = netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("224.0.0.2")
	all6             = netip.MustParseAddr("ff02::1")
)

// record4 is a record of IGMPv3 about group4 with n sources; record6 of MLDv2.
func record4(kind byte, sources int) []byte {
	return append([]byte{kind, 0, 0, byte(sources), 239, 129, 2, 3}, make([]byte, 4*sources)...)
}

func record6(kind byte, sources int) []byte {
	return append(append([]byte{kind, 0, 0, byte(sources)}, group6.AsSlice()...), make([]byte, 16*sources)...)
}

func report3(records ...[]byte) []byte {
	return packets.IGMP(asker, four, reports4, append([]byte{0x22, 0, 0, 0, 0, 0, 0, byte(len(records))}, bytes.Join(records, nil)...)...)
}

func mld2(records ...[]byte) []byte {
	return packets.MLD(asker, local6, reports6, append([]byte{143, 0, 0, 0, 0, 0, 0, byte(len(records))}, bytes.Join(records, nil)...)...)
}

func mld1(typ byte, from, to netip.Addr, group netip.Addr) []byte {
	return packets.MLD(asker, from, to, append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, group.AsSlice()...)...)
}

// What stations and routers say about groups.
func TestReadGroups(t *testing.T) {
	with := func(b []byte, at int, what ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], what)
		return b
	}
	const four4, six6 = "01:00:5e:01:02:03", "33:33:00:01:00:03"
	ask4 := func(from string) []byte {
		return packets.IGMP(asker, netip.MustParseAddr(from), all4, 0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0)
	}
	tagged := report3(record4(4, 0))
	tagged = bytes.Join([][]byte{tagged[:12], {0x81, 0, 0, 7}, tagged[12:]}, nil)
	for _, tc := range []struct {
		name string
		b    []byte
		talk GroupTalk
		says string
	}{
		{"IGMPv1", packets.IGMP(asker, four, group4, 0x12, 0, 0, 0, 239, 129, 2, 3), GroupReport, "+" + four4},
		{"IGMPv2", packets.IGMP(asker, four, group4, 0x16, 0, 0, 0, 239, 129, 2, 3), GroupReport, "+" + four4},
		{"IGMPv2 leave", packets.IGMP(asker, four, allRouters, 0x17, 0, 0, 0, 239, 129, 2, 3), GroupReport, "-" + four4},
		{"IGMPv3 join", report3(record4(4, 0)), GroupReport, "+" + four4},
		{"IGMPv3, tagged", tagged, GroupReport, "+" + four4},
		{"IGMPv3 leave", report3(record4(3, 0)), GroupReport, "-" + four4},
		{"IGMPv3 all kinds", report3(record4(1, 0), record4(1, 2), record4(2, 0), record4(3, 1), record4(4, 3), record4(5, 1), record4(5, 0), record4(6, 1), record4(9, 0)), GroupReport,
			strings.Join([]string{"-" + four4, "+" + four4, "+" + four4, "+" + four4, "+" + four4, "+" + four4}, " ")},
		{"IGMPv3 with auxiliary data", report3([]byte{2, 1, 0, 0, 239, 1, 1, 1, 9, 9, 9, 9}, record4(4, 0)), GroupReport, "+01:00:5e:01:01:01 +" + four4},
		{"IGMPv3, a record is cut", report3(record4(4, 0), record4(4, 2)[:8]), GroupReport, "+" + four4},
		{"IGMPv3 for no group", report3([]byte{4, 0, 0, 0, 10, 1, 1, 1}), GroupReport, ""},
		{"IGMP query of a router", ask4("10.0.0.1"), GroupQuery, ""},
		{"IGMP query of a switch", ask4("0.0.0.0"), SwitchQuery, ""},
		{"IGMPv2 for no group", packets.IGMP(asker, four, group4, 0x16, 0, 0, 0, 10, 129, 2, 3), NoGroupTalk, ""},
		{"another IGMP", packets.IGMP(asker, four, group4, 0x13, 0, 0, 0, 239, 129, 2, 3), NoGroupTalk, ""},
		{"IGMP, wrong sum", with(report3(record4(4, 0)), 50, 1), NoGroupTalk, ""},
		{"IGMP, wrong sum of IP", with(report3(record4(4, 0)), 18, 1), NoGroupTalk, ""},
		{"IGMP to a station", with(report3(record4(4, 0)), 0, 2, 0, 0), NoGroupTalk, ""},
		{"IGMP from afar", with(report3(record4(4, 0)), 22, 2), NoGroupTalk, ""},
		{"IGMP, longer than its frame", with(report3(record4(4, 0)), 16, 9), NoGroupTalk, ""},
		{"MLDv1", mld1(131, local6, group6, group6), GroupReport, "+" + six6},
		{"MLDv1 without an address", mld1(131, netip.IPv6Unspecified(), group6, group6), GroupReport, "+" + six6},
		{"MLDv1 done", mld1(132, local6, netip.MustParseAddr("ff02::2"), group6), GroupReport, "-" + six6},
		{"MLDv2", mld2(record6(4, 0)), GroupReport, "+" + six6},
		{"MLDv2 leave", mld2(record6(3, 0)), GroupReport, "-" + six6},
		{"MLDv2 all kinds", mld2(record6(1, 1), record6(2, 0), record6(3, 0), record6(6, 2)), GroupReport, "+" + six6 + " +" + six6 + " -" + six6},
		{"MLD query of a router", mld1(130, local6, all6, netip.IPv6Unspecified()), GroupQuery, ""},
		{"MLD query of no router", mld1(130, netip.IPv6Unspecified(), all6, netip.IPv6Unspecified()), NoGroupTalk, ""},
		{"MLD of another network", mld1(131, netip.MustParseAddr("2001:db8::2"), group6, group6), NoGroupTalk, ""},
		{"MLD, wrong sum", with(mld2(record6(4, 0)), 80, 1), NoGroupTalk, ""},
		{"MLD from afar", with(mld2(record6(4, 0)), 21, 2), NoGroupTalk, ""},
		{"MLD for no group", mld1(131, local6, group6, local6), NoGroupTalk, ""},
		{"a neighbour", solicitation6(), NoGroupTalk, ""},
		{"ARP", request(), NoGroupTalk, ""},
		{"nothing", make([]byte, HeaderLen), NoGroupTalk, ""},
	} {
		var says []string
		f := lend(tc.b, Offload{})
		talk := ReadGroups(&f, func(m MAC, wanted bool) {
			says = append(says, map[bool]string{true: "+", false: "-"}[wanted]+m.String())
		})
		if got := strings.Join(says, " "); talk != tc.talk || got != tc.says {
			t.Errorf("%s: %d, %q, want %d, %q", tc.name, talk, got, tc.talk, tc.says)
		}
	}
}

// Which addresses stations have to ask for.
func TestSnoopable(t *testing.T) {
	for m, want := range map[MAC]bool{
		{1, 0, 0x5e, 1, 2, 3}: true, {1, 0, 0x5e, 0, 0, 0xfb}: false, {1, 0, 0x5e, 0, 1, 0x81}: true, {1, 0, 0x5e, 0x80, 1, 1}: false,
		{0x33, 0x33, 0, 0, 0, 1}: false, {0x33, 0x33, 0, 0, 0, 2}: true, {0x33, 0x33, 0xff, 1, 2, 3}: false,
		{1, 0x80, 0xc2, 0, 0, 0}: false, toAll: false, asked: false,
	} {
		if m.Snoopable() != want {
			t.Errorf("%s: %t", m, !want)
		}
	}
}

// gopacket reads the queries as they are meant, and so do we.
func TestAppendGroupQuery(t *testing.T) {
	m := QuerierMAC([3]byte{7, 8, 9})
	if m.Group() || m[0]&2 == 0 {
		t.Errorf("%s is no locally administered station", m)
	}
	four, six := AppendGroupQuery4(nil, m), AppendGroupQuery6(nil, m)
	if len(four) != GroupQuery4Len || len(six) != GroupQuery6Len {
		t.Errorf("%d and %d bytes", len(four), len(six))
	}
	for _, b := range [][]byte{four, six} {
		f := lend(b, Offload{})
		if talk := ReadGroups(&f, nil); talk != SwitchQuery {
			t.Errorf("%x is read as %d", b, talk)
		}
	}
	p := gopacket.NewPacket(four, layers.LayerTypeEthernet, gopacket.Default)
	igmp, _ := p.Layer(layers.LayerTypeIGMP).(*layers.IGMP)
	ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if p.ErrorLayer() != nil || igmp == nil || ip.TTL != 1 || ip.DstIP.String() != "224.0.0.1" || igmp.Type != layers.IGMPMembershipQuery || igmp.Version != 3 ||
		igmp.MaxResponseTime.Seconds() != maxAnswer || igmp.RobustnessValue != 2 || igmp.IntervalTime.Seconds()*10 != queryInterval || /* RFC 3376 section 4.1.7 has seconds */ len(ip.Options) != 1 || ip.Options[0].OptionType != 148 {
		t.Errorf("%v", p)
	}
	p = gopacket.NewPacket(six, layers.LayerTypeEthernet, gopacket.Default)
	mld, _ := p.Layer(layers.LayerTypeMLDv2MulticastListenerQuery).(*layers.MLDv2MulticastListenerQueryMessage)
	ip6, _ := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if p.ErrorLayer() != nil || mld == nil || ip6.HopLimit != 1 || fmt.Sprint(ip6.SrcIP, ip6.DstIP) != "fe80::74:71ff:fe07:809 ff02::1" ||
		mld.MaximumResponseCode != maxAnswer*1000 || mld.QueriersQueryIntervalCode != queryInterval || !mld.MulticastAddress.IsUnspecified() {
		t.Errorf("%v", p)
	}
}

// Whatever bytes: no panic, and a report names group addresses only.
func FuzzReadGroups(f *testing.F) {
	for _, b := range [][]byte{report3(record4(4, 0), record4(1, 2)), mld2(record6(4, 0), record6(6, 3)), mld1(131, local6, group6, group6),
		packets.IGMP(asker, four, group4, 0x16, 0, 0, 0, 239, 129, 2, 3), AppendGroupQuery4(nil, asker), AppendGroupQuery6(nil, asker), request()} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := lend(b, Offload{})
		if fr.Check() != nil {
			return
		}
		n := 0
		talk := ReadGroups(&fr, func(m MAC, _ bool) {
			if n++; !m.Group() {
				t.Errorf("%s is no group", m)
			}
		})
		if n > 0 && talk != GroupReport || n > len(b)/8 {
			t.Errorf("%d with %d groups in %d bytes", talk, n, len(b))
		}
	})
}

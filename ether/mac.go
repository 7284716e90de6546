package ether

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
)

// MAC is an EUI-48 address (IEEE 802). The zero MAC is no station's address.
type MAC [6]byte

// ParseMAC reads "02:42:0a:4d:00:02" (also with - or . as net.ParseMAC does).
// An EUI-64 or InfiniBand address is an error.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return MAC{}, fmt.Errorf("%q is no Ethernet address, want six bytes as in 02:42:0a:4d:00:02", s)
	}
	return MAC(hw), nil
}

// DockerMAC is the MAC that Docker makes of a container's IPv4 address: 02:42 and its four bytes.
func DockerMAC(a netip.Addr) MAC {
	b := a.As4()
	return MAC{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

// DockerIPv4 is the IPv4 address that Docker makes m of; false: m has another form.
func (m MAC) DockerIPv4() (addr [4]byte, ok bool) {
	return [4]byte(m[2:]), m[0] == 0x02 && m[1] == 0x42
}

// Group tells whether m addresses many stations: multicast or broadcast.
func (m MAC) Group() bool { return m[0]&1 != 0 }

// LinkLocal tells whether m is one of the group addresses that bridges do not forward (IEEE 802.1Q table 8-1), which STP, pause frames, LACP and
// LLDP use: they are for the other end of the link.
func (m MAC) LinkLocal() bool { return m[0] == 0x01 && m == MAC{0x01, 0x80, 0xc2, 5: m[5] & 0x0f} }

// OfBridges tells whether m is a group by which bridges find loops or each other: the bridge group, to which Linux's bridge forwards if
// it has no STP (IEEE 802.1Q table 8-1), or Cisco's for PVST+, CDP, VTP and DTP.
func (m MAC) OfBridges() bool {
	return m[0] == 1 && (m == MAC{1, 0x80, 0xc2} || m == MAC{1, 0, 0x0c, 0xcc, 0xcc, 0xcc} || m == MAC{1, 0, 0x0c, 0xcc, 0xcc, 0xcd})
}

// LinkLocalMAC is the MAC that a link-local IPv6 address is made of (RFC 4291 appendix A, RFC 4862); false: it is made of none.
func LinkLocalMAC(a netip.Addr) (m MAC, ok bool) {
	b := a.As16()
	return MAC{b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]}, a.Is6() && a.IsLinkLocalUnicast() && b[11] == 0xff && b[12] == 0xfe
}

// IsZero tells whether m is the all-zero address.
func (m MAC) IsZero() bool { return m == MAC{} }

func (m MAC) String() string {
	b, _ := m.MarshalText()
	return string(b)
}

// MarshalText writes colon-separated lower-case hex.
func (m MAC) MarshalText() ([]byte, error) {
	b := make([]byte, 0, 17)
	for i, x := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, []byte{x})
	}
	return b, nil
}

// UnmarshalText is ParseMAC.
func (m *MAC) UnmarshalText(b []byte) error {
	v, err := ParseMAC(string(b))
	if err == nil {
		*m = v
	}
	return err
}

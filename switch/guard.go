package vswitch

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

// A finding is what a guard has found in a frame.
type finding struct {
	verdict Verdict    // Forwarded: nothing
	of      *Port      // of Spoofed…: the port whose address it is
	addr    netip.Addr // that is its; zero: the MAC that ARP or ND names is
	mac     ether.MAC  // that ARP or ND names
	source  netip.Addr // of the IP packet, if nothing was found
}

// inspect looks into a frame that p has received.
func (p *Port) inspect(g Guards, f *ether.Frame) (r finding) {
	if g&GuardBPDU != 0 && f.Dst().OfBridges() {
		return finding{verdict: BPDU}
	}
	if g&^GuardBPDU == 0 {
		return r
	}
	c := ether.ReadClaims(f.Bytes())
	spoofed := SpoofedIP
	switch {
	case c.Role == ether.Router && g&GuardRA != 0:
		return finding{verdict: RA}
	case c.Role == ether.DHCPServer && g&GuardDHCP != 0:
		return finding{verdict: DHCP}
	case c.Role == ether.Hidden && g&GuardAddrs != 0:
		return finding{verdict: Unreadable}
	case c.Role == ether.ARPSender:
		spoofed = SpoofedARP
	case c.Role == ether.Neighbour:
		spoofed = SpoofedND
	}
	if g&GuardAddrs != 0 {
		for _, a := range [...]netip.Addr{c.Source, c.Own} {
			if a.IsValid() {
				if q := p.sw.ownerOf(a); p.isOther(q) {
					return finding{verdict: spoofed, of: q, addr: a, mac: c.MAC}
				}
			}
		}
		if !c.MAC.IsZero() {
			if q := p.sw.pinnedTo(c.MAC); p.isOther(q) {
				return finding{verdict: spoofed, of: q, mac: c.MAC}
			}
		}
	}
	r.source, r.mac = c.Source, c.MAC
	return r
}

// isOther tells whether q is another port than p.
func (p *Port) isOther(q *Port) bool { return q != nil && q != p && !q.detached.Load() }

// guarding is what one batch is held to. It remembers the IP sources that have passed, one for each value of the last byte's last bits, so that
// most frames cost one comparison: at first 0.0.0.0 and ::, which nobody has.
type guarding struct {
	guards Guards
	v4     [8]uint32
	v6     [4][2]uint64
}

// check gives the verdict of a frame: Forwarded if it passes.
func (g *guarding) check(p *Port, f *ether.Frame) Verdict {
	if g.known(f.Bytes()) && (f.Bytes()[0] != 1 || !f.Dst().OfBridges()) {
		return Forwarded
	}
	r := p.inspect(g.guards, f)
	if r.verdict != Forwarded {
		p.tripped(r)
		return r.verdict
	}
	if r.source.Is4() {
		a := r.source.As4()
		g.v4[a[3]&7] = binary.LittleEndian.Uint32(a[:])
	} else if r.source.Is6() {
		a := r.source.As16()
		g.v6[a[15]&3] = [2]uint64{binary.LittleEndian.Uint64(a[:]), binary.LittleEndian.Uint64(a[8:])}
	}
	return Forwarded
}

// known tells whether a frame passes, as far as that shows at a glance: it is TCP, or UDP of no port of DHCP, or over IPv4 any other
// protocol, in an untagged packet without options or extension headers, from a source that has passed.
func (g *guarding) known(b []byte) bool {
	const tcp, udp = 6, 17
	const v4, v6 = 0x450008, 0x60dd86 // EtherType and what follows, in memory's order
	if len(b) < ether.HeaderLen+28 {
		return false
	}
	at, proto := ether.HeaderLen+20, b[23]
	switch head := binary.LittleEndian.Uint32(b[12:]); {
	case head&0xffffff == v4:
		if binary.LittleEndian.Uint32(b[26:]) != g.v4[b[29]&7] {
			return false
		}
		if proto != udp {
			return true
		}
		if b[20]&0x1f|b[21] != 0 {
			return false
		}
	case head&0xf0ffff == v6 && len(b) >= ether.HeaderLen+48:
		if v6 := &g.v6[b[37]&3]; binary.LittleEndian.Uint64(b[22:]) != v6[0] || binary.LittleEndian.Uint64(b[30:]) != v6[1] {
			return false
		}
		if proto = b[20]; proto == tcp {
			return true
		}
		at += 20
	default:
		return false
	}
	ports := binary.BigEndian.Uint32(b[at:])
	from, to := ports>>16, ports&0xffff
	return proto == udp && from != 67 && to != 68 && from != 547 && to != 546
}

// A Trip is how often frames of a port were dropped by one of its guards.
type Trip struct {
	Verdict Verdict
	Count   uint64
	Of      *Port // of Spoofed…: the port whose address it was last
}

// tripped notes whose address a frame was about to take.
func (p *Port) tripped(r finding) {
	if r.of != nil {
		p.victims[r.verdict-SpoofedIP].Store(r.of)
	}
}

// Trips are those of the port's guards that have dropped something.
func (p *Port) Trips() (all []Trip) {
	for v := SpoofedIP; v <= Unreadable; v++ {
		if n := p.tally[v].Load(); n > 0 {
			t := Trip{Verdict: v, Count: n}
			if v <= SpoofedND {
				t.Of = p.victims[v-SpoofedIP].Load()
			}
			all = append(all, t)
		}
	}
	return all
}

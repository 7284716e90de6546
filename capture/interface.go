package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A Port is a port of a switch, for captures. An Encoder writes it as an Interface whose Name is the port's.
type Port struct {
	Number   uint32 // vswitch.Port's
	Network  string // id
	VNI      uint32
	Remote   bool
	HostPort bool   // it is this host's own
	Name     string // endpoint id, or the remote host's address
	Link     string // host link that carries it; "" for a remote host
	MAC      ether.MAC
	Addrs    []netip.Prefix
	MTU      int    // bytes of IP packet
	Sandbox  string // of the container: the name of its network namespace's file; "" before it is known
	Tunnel   Tunnel // of a remote host's
	Outer    bool   // its frames are rebuilt VXLAN datagrams; only ReadPort sets it

	AttachedAt int64 // ns since 1970: when it was plugged
	DetachedAt int64 // and unplugged; 0: not yet
}

// describe is the Interface's Description.
func (p *Port) describe(outer bool) string {
	kind := "container"
	if p.Remote {
		kind = "remote"
	} else if p.HostPort {
		kind = "host"
	}
	text := fmt.Sprintf("port=%d kind=%s network=%s vni=%d", p.Number, kind, p.Network, p.VNI)
	if p.Link != "" {
		text += " link=" + p.Link
	}
	if p.Sandbox != "" {
		text += fmt.Sprintf(" sandbox=%s came=%d", p.Sandbox, p.AttachedAt)
	}
	if outer {
		text += " view=outer: the VXLAN datagrams, rebuilt from the inner frames"
	}
	return text
}

// ReadPort reads a Port from an Interface that an Encoder wrote; false if it is of another origin.
func ReadPort(i *pcapng.Interface) (p Port, ok bool) {
	p = Port{Name: i.Name, MAC: i.MAC, Addrs: i.Addrs}
	for _, word := range strings.Fields(i.Description) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "port":
			n, err := strconv.ParseUint(value, 10, 32)
			p.Number, ok = uint32(n), err == nil
		case "kind":
			p.Remote, p.HostPort = value == "remote", value == "host"
		case "network":
			p.Network = value
		case "vni":
			n, _ := strconv.ParseUint(value, 10, 24)
			p.VNI = uint32(n)
		case "link":
			p.Link = value
		case "sandbox":
			p.Sandbox = value
		case "came":
			p.AttachedAt, _ = strconv.ParseInt(value, 10, 64)
		case "view":
			p.Outer = strings.HasPrefix(value, "outer")
		}
	}
	return p, ok
}

// A Detail is what is known of a frame and has no field in a capture file. An Encoder with Detail writes it into the packet's
// verdict option, with type 0; in a file, a comment has the interesting part.
type Detail struct {
	Verdict vswitch.Verdict
	Fault   ether.Fault
	Kind    ether.Kind // of a super-frame, as it was; None: it is none
	Segment uint16     // bytes of payload in each of its segments
	Inner   uint8      // where the inner IP header begins in one that travels in a UDP tunnel
	Out     int        // Interface of the port it was forwarded to; -1: none, or none that was written
	In      int        // Interface of its ingress port, as Out; of a rebuilt datagram it is not the packet's
}

const detailLen = 15

// put writes the Detail into b, little-endian.
func (d *Detail) put(b *[detailLen]byte) {
	b[0], b[1], b[2], b[3] = 0, byte(d.Verdict), byte(d.Fault), byte(d.Kind)
	binary.LittleEndian.PutUint16(b[4:], d.Segment)
	binary.LittleEndian.PutUint32(b[6:], uint32(d.Out+1))
	binary.LittleEndian.PutUint32(b[10:], uint32(d.In+1))
	b[14] = d.Inner
}

// AppendTo appends the Detail to b as the bytes of a packet's Verdict.
func (d *Detail) AppendTo(b []byte) []byte {
	var fixed [detailLen]byte
	d.put(&fixed)
	return append(b, fixed[:]...)
}

// ReadDetail reads a packet's Detail; false if it has none.
func ReadDetail(p *pcapng.Packet) (d Detail, ok bool) {
	b := p.Verdict
	if len(b) == detailLen-1 { // a daemon of v0.1 knows no tunnels
		b = append(b[:len(b):len(b)], 0)
	}
	if len(b) != detailLen || b[0] != 0 || !vswitch.Verdict(b[1]).Known() {
		return Detail{Out: -1, In: -1}, false
	}
	return Detail{Verdict: vswitch.Verdict(b[1]), Fault: ether.Fault(b[2]), Kind: ether.Kind(b[3]),
		Segment: binary.LittleEndian.Uint16(b[4:]), Out: int(binary.LittleEndian.Uint32(b[6:])) - 1,
		In: int(binary.LittleEndian.Uint32(b[10:])) - 1, Inner: b[14]}, true
}

// comment formats verdict and fault as the comment of a packet: key=value words, a colon, a sentence. all: also for a frame that
// was forwarded or flooded without a fault.
func comment(r *Record, out string, all bool) string {
	var text string
	switch {
	case r.Verdict.Drop():
		text = "verdict=drop reason=" + r.Verdict.String()
	case r.Fault != 0 || all || r.Verdict == vswitch.Answered:
		text = "verdict=" + r.Verdict.String()
		if out != "" {
			text += " out=" + out
		}
	default:
		return ""
	}
	if r.Fault != 0 {
		text += " fault=" + r.Fault.String()
	}
	if why := r.Verdict.Meaning(); why != "" {
		text += ": " + why
	} else if r.Fault != 0 {
		text += ": this was done on purpose, by tapestry fault"
	} else if r.Verdict == vswitch.Answered && r.In == 0 {
		text += ": tapestry has made this answer, since another host of the cluster says that it has the address"
	} else if r.Verdict == vswitch.Answered {
		text += ": tapestry answers this, since another host of the cluster says that it has the address"
	}
	return text
}

// ReadComment reads the words of a comment that an Encoder wrote: verdict (forwarded, flooded, answered, drop), reason, fault, out.
// It gives nil for any other comment.
func ReadComment(text string) map[string]string {
	text, _, _ = strings.Cut(text, ": ")
	words := make(map[string]string)
	for _, word := range strings.Fields(text) {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil
		}
		words[key] = value
	}
	if words["verdict"] == "" {
		return nil
	}
	return words
}

package view

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Offload is one kernel offload, summed up over all TAPs or links that could use it.
type Offload struct {
	Name    string        // csum, tso4, tso6, uso, udp_tunnel (super-frames within a container's own UDP tunnel): of containers' TAPs; udp_gso: of links to other hosts; udp_gro: of what comes from there; remote_checksum: of links to hosts that complete checksums
	State   string        // "on", "off" (somewhere), "unavailable" (not supported by this kernel), "unused" (there is nothing that could use it)
	Why     string        // why it is off, where it was switched off last
	Since   time.Duration // since it was switched off there
	Users   int           // TAPs, or links to other hosts
	Off     int           // how many of them have it off
	Refused uint64        // how often the kernel refused it
	Resent  uint64        // frames or datagrams that were sent again without it after a refusal
}

// PortOffloads is how many of Offloads are features of what carries a port's frames: they are the first ones.
const PortOffloads = 6

// Offloads are the kernel's offloads, in a fixed order; nothing is added to them yet.
func Offloads() []Offload {
	return []Offload{{Name: "csum"}, {Name: "tso4"}, {Name: "tso6"}, {Name: "uso"}, {Name: "udp_tunnel"}, {Name: "udp_gso"}, {Name: "udp_gro"}, {Name: "remote_checksum"}}
}

// AddPort adds what carries a port's frames, either a device or a link, to the first PortOffloads.
func AddPort(all []Offload, dev Device, link *tunnel.Link) {
	if link != nil {
		all[5].Add(link.Stats().GSO)
	}
	if dev == nil {
		return
	}
	for i, kind := range []ether.Kind{ether.None, ether.TCP4, ether.TCP6, ether.UDP} {
		all[i].Add(dev.Offload(kind))
	}
	all[4].Add(Combine(dev.Offload(ether.TunnelTCP4), dev.Offload(ether.TunnelTCP6), dev.Offload(ether.TunnelUDP)))
}

// SetStates says of each offload how it is, when all were added.
func SetStates(all []Offload) {
	for i := range all {
		v := &all[i]
		switch {
		case v.Users == 0:
			v.State = "unused"
		case v.Off == 0:
			v.State = "on"
		case v.State == "":
			v.State = "off"
		}
	}
}

// Combine sums up several features: disabled if one of them is.
func Combine(features ...offload.Status) (all offload.Status) {
	for _, s := range features {
		s.Refused += all.Refused
		s.Resent += all.Resent
		if s.Why == nil {
			s.Why, s.Since, s.Blocked = all.Why, all.Since, all.Blocked
		}
		all = s
	}
	return all
}

// Add adds one TAP or link.
func (v *Offload) Add(s offload.Status) {
	v.Users++
	v.Refused += s.Refused
	v.Resent += s.Resent
	if s.Why == nil {
		return
	}
	if age := time.Since(s.Since); v.Off == 0 || age < v.Since {
		v.Why, v.Since = ShortReason(s.Why), age
	}
	v.Off++
	if errors.Is(s.Why, offload.ErrUnsupported) {
		v.State = "unavailable"
	}
}

// ShortReason is why an offload is off: the errno's name, such as EINVAL, or else the error's text.
func ShortReason(err error) string {
	if err == nil {
		return ""
	}
	var errno unix.Errno
	if errors.As(err, &errno) && unix.ErrnoName(errno) != "" {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

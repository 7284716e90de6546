package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"unicode"

	"github.com/tapestry-net/tapestry/ether"
)

// ErrVersion is the error of Decode for an intact record of a newer tapestry.
var ErrVersion = errors.New("a newer tapestry wrote it")

// Bounds of a record that another host has written.
const (
	MaxRecord = 8 << 20 // bytes
	maxName   = 255     // bytes of a host's or container's name: of a domain name (RFC 1035 section 2.3.4)
	maxAddrs  = 64      // of one station or name
)

const version = 1

// written is a Record as it is sent and stored.
type written struct {
	Version int             `json:"version"`
	Record  json.RawMessage `json:"record"`
}

// Encode writes a record.
func (r *Record) Encode() ([]byte, error) {
	body, err := json.Marshal(r)
	if err == nil {
		body, err = json.Marshal(written{version, body})
	}
	if err == nil && len(body) > MaxRecord {
		err = fmt.Errorf("this host's record has %d bytes, more than %d: it has too many names or addresses out of its blocks", len(body), MaxRecord)
	}
	return body, err
}

// Decode reads a record that another host has written. Nothing in it is believed: every field is checked. ErrVersion if it
// is of a newer version.
func Decode(b []byte) (*Record, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("a record of %d bytes, more than %d", len(b), MaxRecord)
	}
	var w written
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	switch {
	case w.Version > version:
		return nil, fmt.Errorf("a record of version %d, this tapestry reads %d: %w", w.Version, version, ErrVersion)
	case w.Version < 1:
		return nil, fmt.Errorf("not a record: version %d", w.Version)
	}
	r := new(Record)
	if err := json.Unmarshal(w.Record, r); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Record) check() error {
	if err := r.Host.Check(); err != nil {
		return err
	}
	keys := make(map[string]bool)
	for i := range r.Members {
		m := &r.Members[i]
		if err := m.check(); err != nil {
			return err
		}
		if keys[m.Key] {
			return fmt.Errorf("network %s is named twice", m.Key)
		}
		keys[m.Key] = true
	}
	for _, s := range r.Stations {
		if !keys[s.Key] {
			return notOn(s.Key)
		}
		if err := checkAddrs(s.Key, s.Addrs); err != nil {
			return err
		}
		if s.MAC.Group() || s.MAC.IsZero() {
			return fmt.Errorf("network %s: %s is no address of a station", s.Key, s.MAC)
		}
	}
	for i := range r.Names {
		n := &r.Names[i]
		if !keys[n.Key] {
			return notOn(n.Key)
		}
		if err := n.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Check refuses what cannot be a container's name.
func (n *Name) Check() error {
	if err := checkAddrs(n.Key, n.Addrs); err != nil {
		return err
	}
	if !printable(n.Name) || len(n.Addrs) == 0 {
		return fmt.Errorf("network %s: %q with %d addresses is no name", n.Key, n.Name, len(n.Addrs))
	}
	return nil
}

// Check refuses what cannot be a host.
func (h *Host) Check() error {
	for i := range len(h.ID) {
		if c := h.ID[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return fmt.Errorf("host id %q: want 16 hex digits", string(h.ID))
		}
	}
	switch a := h.VTEP.Addr(); {
	case len(h.ID) != 16:
		return fmt.Errorf("host id %q: want 16 hex digits", string(h.ID))
	case !printable(h.Name):
		return fmt.Errorf("host %s: %q is no name", h.ID, h.Name)
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || a.Is4In6() || h.VTEP.Port() == 0:
		return fmt.Errorf("host %s: %s is no address of a VTEP", h.ID, h.VTEP)
	}
	return nil
}

func (m *Member) check() error {
	if err := m.Spec.Check(); err != nil {
		return err
	}
	for _, b := range m.Blocks {
		if !b.IsValid() || b != b.Masked() {
			return fmt.Errorf("network %s: %s is no block of addresses", m.Key, b)
		}
	}
	return nil
}

// Check refuses a spec that no host can have.
func (s *Spec) Check() error {
	if err := CheckKey(s.Key); err != nil {
		return err
	}
	if s.VNI > ether.MaxVNI || s.MTU < 0 || s.MTU > ether.MaxMTU {
		return fmt.Errorf("network %s: VNI %d, MTU %d", s.Key, s.VNI, s.MTU)
	}
	for i, p := range s.Subnets {
		if !p.IsValid() || p != p.Masked() || i > 0 && ComparePrefix(s.Subnets[i-1], p) >= 0 {
			return fmt.Errorf("network %s: subnets %v: want them masked, and in ascending order", s.Key, s.Subnets)
		}
	}
	return nil
}

func notOn(key string) error {
	return fmt.Errorf("network %q has a station or a name, but the host is not on it", key)
}

// checkAddrs checks the addresses of a station or a name.
func checkAddrs(key string, addrs []netip.Addr) error {
	if len(addrs) > maxAddrs {
		return fmt.Errorf("network %s: a station or a name with %d addresses", key, len(addrs))
	}
	for _, a := range addrs {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
			return fmt.Errorf("network %s: %s is no address of a container", key, a)
		}
	}
	return nil
}

func printable(name string) bool {
	for _, c := range name {
		if !unicode.IsGraphic(c) || c == unicode.ReplacementChar {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// ComparePrefix orders prefixes: IPv4 before IPv6, then by address, then shorter ones first.
func ComparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/ether"
)

// MaxKey is the longest key, in bytes: a label of DNS (RFC 1035 section 2.3.4), since it is a part of names.
const MaxKey = 63

// CheckKey refuses what cannot be a network's key: 1 to 63 small letters, digits, hyphens and underscores, the first and the
// last one a letter or digit.
func CheckKey(key string) error {
	ok := key != "" && len(key) <= MaxKey && alphanumeric(key[0]) && alphanumeric(key[len(key)-1])
	for i := range len(key) {
		ok = ok && (alphanumeric(key[i]) || key[i] == '-' || key[i] == '_')
	}
	if !ok {
		return fmt.Errorf("network %q: want 1 to %d small letters, digits, hyphens and underscores, a letter or digit first and last", key, MaxKey)
	}
	return nil
}

func alphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// Differs returns how a wanted spec differs from the one that the cluster has, in that one's words; "" if it fits. A VNI or an
// MTU of 0 fits all.
func (s Spec) Differs(want Spec) string {
	var have []string
	if !slices.Equal(s.Subnets, want.Subnets) {
		have = append(have, "subnet "+joined(s.Subnets))
	}
	if want.VNI != 0 && s.VNI != 0 && want.VNI != s.VNI {
		have = append(have, fmt.Sprintf("VNI %d", s.VNI))
	}
	if want.MTU != 0 && s.MTU != 0 && want.MTU != s.MTU {
		have = append(have, fmt.Sprintf("MTU %d", s.MTU))
	}
	return strings.Join(have, ", ")
}

func joined(all []netip.Prefix) string {
	if len(all) == 0 {
		return "none"
	}
	var words []string
	for _, p := range all {
		words = append(words, p.String())
	}
	return strings.Join(words, " and ")
}

// The VNIs that are chosen: the upper half, so that the lower one is free for people, and for Docker's overlay, which counts
// from 4096.
const (
	FirstChosen = 1 << 23
	chosen      = ether.MaxVNI + 1 - FirstChosen
)

// ChooseVNI is the VNI that follows from a cluster's name and a network's key: all hosts choose the same one without asking.
func ChooseVNI(cluster, key string) uint32 {
	h := sha256.Sum256([]byte(cluster + "\x00" + key))
	return FirstChosen + binary.BigEndian.Uint32(h[:])%chosen
}

// Blocks yields the blocks of a subnet that have so many bits, in order.
func Blocks(subnet netip.Prefix, bits int) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		subnet = subnet.Masked()
		for b := netip.PrefixFrom(subnet.Addr(), bits); b.IsValid() && bits >= subnet.Bits() && subnet.Overlaps(b); {
			if !yield(b) {
				return
			}
			last := LastAddr(b).Next()
			if !last.IsValid() {
				return
			}
			b = netip.PrefixFrom(last, bits)
		}
	}
}

// LastAddr is the highest address of a prefix.
func LastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

package resolver

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/tapestry-net/tapestry/api"
)

// A table is what is known of names at one time. It is never changed, only replaced.
type table struct {
	others map[string]*network // by key: containers on other hosts
	own    map[string]*network // and on this one
}

// A network is the names on one network.
type network struct {
	names   map[string][]netip.Addr // by name in small letters; addresses in order
	reverse map[netip.Addr]string   // the container's own name
}

// sorted puts names into their networks. What cannot be a part of a domain name is left out.
func sorted(names []api.Name) map[string]*network {
	all := make(map[string]*network)
	for _, n := range names {
		if !speakable(n.Name, n.Key) {
			continue
		}
		on := all[n.Key]
		if on == nil {
			on = &network{names: make(map[string][]netip.Addr), reverse: make(map[netip.Addr]string)}
			all[n.Key] = on
		}
		lower := strings.ToLower(n.Name)
		for _, a := range n.Addrs {
			a = a.Unmap()
			if !a.IsValid() {
				continue
			}
			at, twice := slices.BinarySearchFunc(on.names[lower], a, netip.Addr.Compare)
			if !twice {
				on.names[lower] = slices.Insert(on.names[lower], at, a)
			}
			if on.reverse[a] == "" {
				on.reverse[a] = n.Name
			}
		}
	}
	return all
}

// speakable tells whether NAME.KEY is a domain name (RFC 1035 section 2.3.4) of letters, digits, hyphens and underscores.
func speakable(name, key string) bool {
	for i := range len(name) {
		c := name[i] | 0x20
		if !('a' <= c && c <= 'z' || '0' <= name[i] && name[i] <= '9' || name[i] == '-' || name[i] == '_' || name[i] == '.') {
			return false
		}
	}
	_, ok := dns.IsDomainName(name + "." + key)
	return ok && name != "" && name[0] != '.'
}

// with is t after what the daemon has told.
func (t *table) with(n *api.Names) *table {
	others, news := maps.Clone(t.others), sorted(n.Names)
	maps.DeleteFunc(others, func(key string, _ *network) bool {
		return !slices.Contains(n.Keys, key) || slices.Contains(n.Changed, key)
	})
	for _, key := range n.Changed {
		if news[key] != nil {
			others[key] = news[key]
		}
	}
	return &table{others: others, own: t.own}
}

// find gives the addresses of a name in small letters, without the dot at its end: of NAME.KEY, or of a NAME without dots that containers
// of other hosts have on one network only, or with the same addresses on all that know it.
func (t *table) find(name string) (addrs []netip.Addr, found bool) {
	if at := strings.LastIndexByte(name, '.'); at >= 0 {
		var all []netip.Addr
		for _, from := range [...]map[string]*network{t.others, t.own} {
			if n := from[name[at+1:]]; n != nil {
				all = append(all, n.names[name[:at]]...)
			}
		}
		slices.SortFunc(all, netip.Addr.Compare)
		all = slices.Compact(all)
		return all, len(all) > 0
	}
	for _, n := range t.others {
		there, ok := n.names[name]
		if !ok {
			continue
		}
		if found && !slices.Equal(addrs, there) {
			return nil, false
		}
		addrs, found = there, true
	}
	return addrs, found
}

// namesOf gives NAME.KEY of all containers that have an address, in order.
func (t *table) namesOf(a netip.Addr) (names []string) {
	for _, from := range [...]map[string]*network{t.others, t.own} {
		for key, n := range from {
			if name := n.reverse[a]; name != "" {
				names = append(names, name+"."+key)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reverseAddr reads the name of a reverse look-up, in small letters and without the dot at its end (RFC 1035 section 3.5, RFC 3596
// section 2.5).
func reverseAddr(name string) (a netip.Addr, ok bool) {
	if digits, is := strings.CutSuffix(name, ".in-addr.arpa"); is {
		parts := strings.Split(digits, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	digits, is := strings.CutSuffix(name, ".ip6.arpa")
	if !is || len(digits) != 63 {
		return a, false
	}
	var b strings.Builder
	for i := 62; i >= 0; i-- {
		switch at := 62 - i; {
		case at%2 == 0 && !strings.ContainsRune("0123456789abcdef", rune(digits[i])):
			return a, false
		case at%2 == 0:
			b.WriteByte(digits[i])
		case digits[i] != '.':
			return a, false
		case at%8 == 7:
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil && a.Is6()
}

package show

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// A Resolver gives the names of endpoints, networks and addresses: *docker.Names those that Docker has, *FileNames those
// in a capture file.
type Resolver interface {
	Container(endpoint string) string  // the container's name by its endpoint's id; "": not known
	Network(id string) string          // "": not known
	Addr(netip.Addr) string            // the name of who has the address now; "": not known
	Version() uint64                   // rises when a result of the other methods changes
	Since(version uint64) pcapng.Names // at least the names that came or changed after that version

	// Born returns when a container was created, in ns since 1970, and whether its past was asked for (recorder dump, flows).
	Born(container string) (ns int64, asked bool)
}

// Labels are the names that people read for the interfaces of a capture.
type Labels struct {
	Resolver   Resolver
	interfaces []pcapng.Interface
	Ports      []capture.Port // by interface; the zero Port if the interface is not one of tapestry's
	texts      []string       // the labels, by interface
	version    uint64         // of Resolver, when texts was made
}

// AddInterface adds the next interface of the capture: packets refer to it by its index.

func (l *Labels) AddInterface(i *pcapng.Interface) {
	p, ok := capture.ReadPort(i)
	if !ok {
		p = capture.Port{}
	}
	l.interfaces, l.Ports, l.texts = append(l.interfaces, *i), append(l.Ports, p), nil
}

// label returns the label of an interface; "" if there is no interface of this index.
func (l *Labels) label(index int) string {
	if uint(index) >= uint(len(l.interfaces)) {
		return ""
	}
	if _, ok := l.Resolver.(*FileNames); ok { // the file's own label: a later interface does not change it
		return l.interfaces[index].Name
	}
	if v := l.Resolver.Version(); v != l.version || len(l.texts) < len(l.interfaces) {
		l.version, l.texts = v, l.texts[:0]
		for i := range l.interfaces {
			l.texts = append(l.texts, l.build(i))
		}
	}
	return l.texts[index]
}

func (l *Labels) build(i int) string {
	p := &l.Ports[i]
	if _, ok := l.Resolver.(*FileNames); ok || p.Name == "" {
		return l.interfaces[i].Name
	}
	text := l.portName(p)
	if p.Remote {
		if text = api.RemoteLabel(api.WithoutPort(p.Name)); !strings.HasPrefix(text, "group ") {
			text = "peer " + text
		}
		text += "@" + l.networkName(p)
	} else if slices.ContainsFunc(l.Ports, func(q capture.Port) bool { return !q.Remote && q.Network != p.Network && l.portName(&q) == text }) {
		text += "@" + l.networkName(p)
	}
	if p.Outer {
		text += " (outer)"
	}
	return text
}

// addrName returns the name of the container with an address, "" if it is not known. ports are the interfaces of the frame: if
// one of them had the address at that time, the name is that of its container, not of the one that has the address now. If
// Docker no longer knows the port, the name of today's owner is used only if that container existed then and its past was
// asked for: it has been restarted since, and the port is one of its former ones.
func (l *Labels) addrName(a netip.Addr, ports ...int) string {
	now := l.Resolver.Addr(a)
	if _, ok := l.Resolver.(*FileNames); ok {
		return now
	}
	for _, i := range ports {
		if uint(i) >= uint(len(l.Ports)) || l.Ports[i].Remote || l.Ports[i].Name == "" {
			continue
		}
		p := &l.Ports[i]
		if slices.ContainsFunc(p.Addrs, func(q netip.Prefix) bool { return q.Addr() == a.Unmap() }) {
			name := l.Resolver.Container(p.Name)
			if born, asked := l.Resolver.Born(now); name == "" && asked && p.AttachedAt >= born {
				return now
			}
			return name
		}
	}
	return now
}

func (l *Labels) portName(p *capture.Port) string {
	if name := l.Resolver.Container(p.Name); name != "" {
		return name
	}
	return api.ShortID(p.Name)
}

func (l *Labels) networkName(p *capture.Port) string {
	if name := l.Resolver.Network(p.Network); name != "" {
		return name
	}
	return api.ShortID(p.Network)
}

// daemonOnlyFields are fields of an interface's description that the daemon sends to its commands, and that no file gets.
var daemonOnlyFields = regexp.MustCompile(` (sandbox|came)=\S*`)

// fileInterface returns an interface as it is written to a file: called by its label, with the ids in its description.
func (l *Labels) fileInterface(i int) pcapng.Interface {
	told, p := l.interfaces[i], &l.Ports[i]
	if _, ok := l.Resolver.(*FileNames); ok || p.Name == "" {
		return told
	}
	told.Name = l.label(i)
	told.Description = daemonOnlyFields.ReplaceAllString(told.Description, "")
	told.Description = strings.Replace(told.Description, "network="+p.Network, "network="+l.networkName(p), 1)
	if !p.Remote {
		before, view, outer := strings.Cut(told.Description, " view=")
		told.Description = before + " endpoint=" + api.ShortID(p.Name)
		if outer {
			told.Description += " view=" + view
		}
	}
	return told
}

// comment returns a packet's comment in which the port that the frame was forwarded to is called by its container's name.
func (l *Labels) comment(text string) string {
	before, rest, ok := strings.Cut(text, " out=")
	if !ok {
		return text
	}
	out, rest, more := strings.Cut(rest, " ")
	if name := l.Resolver.Container(out); name != "" {
		out = name
	}
	if more {
		rest = " " + rest
	}
	return before + " out=" + out + rest
}

// At most maxFileNames names of a file are kept. A name of more than maxName bytes is ignored (RFC 1035 section 2.3.4).
const (
	maxFileNames = 1 << 18
	maxName      = 255
)

// FileNames are the names that a capture file has for addresses. Their version is the number of names. It implements Resolver.
type FileNames struct {
	names       pcapng.Names            // in the order of the file; the latest name of an address counts
	current     map[netip.Addr]string   // the latest name of each address
	addrsByName map[string][]netip.Addr // all addresses of a name; interfaces have the name of their container
	size        int                     // number of addresses in addrsByName
}

// AddInterface adds the addresses of an interface under the interface's name without its network (web of web@mynet).
func (f *FileNames) AddInterface(i *pcapng.Interface) {
	name, _, _ := strings.Cut(i.Name, "@")
	for _, a := range i.Addrs {
		f.addAddr(name, a.Addr())
	}
}

// addAddr adds an address of a name, and reports whether it is new.
func (f *FileNames) addAddr(name string, a netip.Addr) bool {
	a = a.Unmap()
	if name == "" || len(name) > maxName || f.size >= maxFileNames || slices.Contains(f.addrsByName[name], a) {
		return false
	}
	if f.addrsByName == nil {
		f.addrsByName = make(map[string][]netip.Addr)
	}
	f.addrsByName[name] = append(f.addrsByName[name], a)
	f.size++
	return true
}

// AddForFilters adds names for filters only, and reports whether one of them is new: they may stand behind the packets that are
// printed.
func (f *FileNames) AddForFilters(names pcapng.Names) (fresh bool) {
	for _, n := range names {
		fresh = f.addAddr(n.Name, n.Addr) || fresh
	}
	return fresh
}

// Add adds names for filters and for the packets that follow, and reports whether one of them is new to filters.
func (f *FileNames) Add(names pcapng.Names) (fresh bool) {
	if f.current == nil {
		f.current = make(map[netip.Addr]string)
	}
	for _, n := range names {
		if n.Addr = n.Addr.Unmap(); n.Name != "" && len(n.Name) <= maxName && n.Name != f.current[n.Addr] && len(f.names) < maxFileNames {
			f.current[n.Addr], f.names = n.Name, append(f.names, n)
		}
	}
	return f.AddForFilters(names)
}

// Container returns "": a file has names in place of endpoints' ids.
func (f *FileNames) Container(string) string { return "" }

// Network returns id: a file has the names of networks in place of their ids.
func (f *FileNames) Network(id string) string { return id }

// Born returns false: a file does not say when a container was created.
func (f *FileNames) Born(string) (int64, bool) { return 0, false }

// Version returns the number of names up to here.
func (f *FileNames) Version() uint64 { return uint64(len(f.names)) }

// Since returns the names that were added after a version.
func (f *FileNames) Since(version uint64) pcapng.Names { return f.names[version:] }

// Addr returns the latest name of an address, "" if it has none.
func (f *FileNames) Addr(a netip.Addr) string { return f.current[a.Unmap()] }

// Addrs returns all addresses of a name, for a filter.
func (f *FileNames) Addrs(name string) []netip.Addr { return slices.Clone(f.addrsByName[name]) }

// isFullID reports whether s has the length of a whole id of Docker's, 64 characters, and so is not a name.
func isFullID(s string) bool { return len(s) == 64 }

// networkLabel returns what a table shows for a network. id is the network's id, or its name if it comes from a file; n may be nil.
func networkLabel(n Resolver, id string) string {
	if n != nil {
		if name := n.Network(id); name != "" {
			return name
		}
	}
	if isFullID(id) {
		return api.ShortID(id)
	}
	return id
}

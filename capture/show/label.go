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

// naming says who is called what: *names as Docker does, *FileNames as a file does.
type Naming interface {
	Container(endpoint string) string  // "" not known
	Network(id string) string          // "" not known
	Addr(netip.Addr) string            // "" not known
	Version() uint64                   // rises with every change of what the others give
	Since(version uint64) pcapng.Names // the names of addresses that came or changed after that version, if not more

	// Born tells when a container was made whose past was asked for, in ns since 1970.
	Born(container string) (ns int64, asked bool)
}

// Labels are what people call a capture's interfaces.
type Labels struct {
	Who        Naming
	interfaces []pcapng.Interface
	Ports      []capture.Port // of the same index; zero of another origin
	texts      []string
	version    uint64 // of who, when texts was made
}

func (l *Labels) Add(i *pcapng.Interface) {
	p, ok := capture.ReadPort(i)
	if !ok {
		p = capture.Port{}
	}
	l.interfaces, l.Ports, l.texts = append(l.interfaces, *i), append(l.Ports, p), nil
}

// of is the label of an interface; "" if there is none of this index.
func (l *Labels) of(index int) string {
	if uint(index) >= uint(len(l.interfaces)) {
		return ""
	}
	if _, ok := l.Who.(*FileNames); ok { // as the file has it: what joins changes no other
		return l.interfaces[index].Name
	}
	if v := l.Who.Version(); v != l.version || len(l.texts) < len(l.interfaces) {
		l.version, l.texts = v, l.texts[:0]
		for i := range l.interfaces {
			l.texts = append(l.texts, l.make(i))
		}
	}
	return l.texts[index]
}

func (l *Labels) make(i int) string {
	p := &l.Ports[i]
	if _, ok := l.Who.(*FileNames); ok || p.Name == "" {
		return l.interfaces[i].Name
	}
	text := l.port(p)
	if p.Remote {
		text = "peer " + api.WithoutPort(p.Name) + "@" + l.network(p)
	} else if slices.ContainsFunc(l.Ports, func(q capture.Port) bool { return !q.Remote && q.Network != p.Network && l.port(&q) == text }) {
		text += "@" + l.network(p)
	}
	if p.Outer {
		text += " (outer)"
	}
	return text
}

// addr is what the container with an address is called, "" if that is not known. ports are those of the frame: if one of
// them had the address then, its container's name counts, and not that of who has the address now. Only of a container
// that was asked for it is taken that a port with its address was its own before it was started again.
func (l *Labels) addr(a netip.Addr, ports ...int) string {
	now := l.Who.Addr(a)
	if _, ok := l.Who.(*FileNames); ok {
		return now
	}
	for _, i := range ports {
		if uint(i) >= uint(len(l.Ports)) || l.Ports[i].Remote || l.Ports[i].Name == "" {
			continue
		}
		p := &l.Ports[i]
		if slices.ContainsFunc(p.Addrs, func(q netip.Prefix) bool { return q.Addr() == a.Unmap() }) {
			name := l.Who.Container(p.Name)
			if born, asked := l.Who.Born(now); name == "" && asked && p.AttachedAt >= born {
				return now
			}
			return name
		}
	}
	return now
}

func (l *Labels) port(p *capture.Port) string {
	if name := l.Who.Container(p.Name); name != "" {
		return name
	}
	return api.ShortID(p.Name)
}

func (l *Labels) network(p *capture.Port) string {
	if name := l.Who.Network(p.Network); name != "" {
		return name
	}
	return api.ShortID(p.Network)
}

// ownWords are what the daemon tells its commands of a port, and nobody else.
var ownWords = regexp.MustCompile(` (sandbox|came)=\S*`)

// forFile is an interface for a file: with names, and the ids in its description.
func (l *Labels) forFile(i int) pcapng.Interface {
	told, p := l.interfaces[i], &l.Ports[i]
	if _, ok := l.Who.(*FileNames); ok || p.Name == "" {
		return told
	}
	told.Name = l.of(i)
	told.Description = ownWords.ReplaceAllString(told.Description, "")
	told.Description = strings.Replace(told.Description, "network="+p.Network, "network="+l.network(p), 1)
	if !p.Remote {
		before, view, outer := strings.Cut(told.Description, " view=")
		told.Description = before + " endpoint=" + api.ShortID(p.Name)
		if outer {
			told.Description += " view=" + view
		}
	}
	return told
}

// comment is a packet's, with the name of the port that a frame was forwarded to.
func (l *Labels) comment(text string) string {
	before, rest, ok := strings.Cut(text, " out=")
	if !ok {
		return text
	}
	out, rest, more := strings.Cut(rest, " ")
	if name := l.Who.Container(out); name != "" {
		out = name
	}
	if more {
		rest = " " + rest
	}
	return before + " out=" + out + rest
}

// maxFileNames bounds what is kept of a file's names. What is longer than maxName is none (RFC 1035 section 2.3.4).
const (
	maxFileNames = 1 << 18
	maxName      = 255
)

// FileNames are the names that a file tells. Their version is the number of those told.
type FileNames struct {
	told  pcapng.Names            // in order; an address is called as it was told last
	last  map[netip.Addr]string   // that
	hosts map[string][]netip.Addr // every address that a name, or an interface that is called as its container, was told with
	size  int                     // entries of hosts
}

// AddInterface takes an interface for the host that it is called after.
func (f *FileNames) AddInterface(i *pcapng.Interface) {
	name, _, _ := strings.Cut(i.Name, "@")
	for _, a := range i.Addrs {
		f.host(name, a.Addr())
	}
}

// host adds an address of a name, and tells whether it is new.
func (f *FileNames) host(name string, a netip.Addr) bool {
	a = a.Unmap()
	if name == "" || len(name) > maxName || f.size >= maxFileNames || slices.Contains(f.hosts[name], a) {
		return false
	}
	if f.hosts == nil {
		f.hosts = make(map[string][]netip.Addr)
	}
	f.hosts[name] = append(f.hosts[name], a)
	f.size++
	return true
}

// AddHosts takes names for filters only, and tells whether some are new.
func (f *FileNames) AddHosts(names pcapng.Names) (fresh bool) {
	for _, n := range names {
		fresh = f.host(n.Name, n.Addr) || fresh
	}
	return fresh
}

// Add takes names for what follows them, too.
func (f *FileNames) Add(names pcapng.Names) (fresh bool) {
	if f.last == nil {
		f.last = make(map[netip.Addr]string)
	}
	for _, n := range names {
		if n.Addr = n.Addr.Unmap(); n.Name != "" && len(n.Name) <= maxName && n.Name != f.last[n.Addr] && len(f.told) < maxFileNames {
			f.last[n.Addr], f.told = n.Name, append(f.told, n)
		}
	}
	return f.AddHosts(names)
}

func (f *FileNames) Container(string) string           { return "" }
func (f *FileNames) Network(id string) string          { return id }
func (f *FileNames) Born(string) (int64, bool)         { return 0, false }
func (f *FileNames) Version() uint64                   { return uint64(len(f.told)) }
func (f *FileNames) Since(version uint64) pcapng.Names { return f.told[version:] }

func (f *FileNames) Addr(a netip.Addr) string { return f.last[a.Unmap()] }

// Host gives the addresses of a name, for a filter.
func (f *FileNames) Host(name string) []netip.Addr { return slices.Clone(f.hosts[name]) }

func WholeID(s string) bool { return len(s) == 64 }

package tap

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
)

// ErrGone means that the container's link does not exist any more.
var ErrGone = errors.New("the container's link is gone")

// A Spec is the wanted state of one container's port.
type Spec struct {
	ID      string    // endpoint id; the links are named from it
	Tag     string    // alias of every link, by which ours are recognised
	Mode    Mode      // how the TAP is connected to the container
	MAC     ether.MAC // of the container's end
	MTU     int       // of every link, in bytes of IP packet
	Queues  int       // to open, one for each worker; 0: one
	GSOMax  int       // longest super-frame the container may make, in bytes; 0: the kernel's default
	Sandbox string    // path of the container's network namespace once Join has named it; for Direct

	Host []netip.Prefix // not nil: the host's own port, a TAP in the daemon's namespace with these addresses; for Direct
}

// Names of the links of an endpoint, at most 15 bytes (IFNAMSIZ in net_device(7) less the NUL): the
// TAP, the veth's host end and its container end.
func Names(id string) (tap, outer, inner string) {
	k := id
	if len(k) < 12 || strings.Trim(k[:12], "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
		h := sha256.Sum256([]byte(id))
		k = hex.EncodeToString(h[:])
	}
	return "tpt" + k[:12], "tpv" + k[:12], "tpc" + k[:12]
}

// Link is the name that Docker is told to move into the container.
func (s *Spec) Link() string {
	tap, _, inner := Names(s.ID)
	if s.Mode == Direct {
		return tap
	}
	return inner
}

// A linkSetup works on a port's links with one netlink socket: a socket for each request would cost more than most requests.
type linkSetup struct {
	Spec
	*netlink.Handle
}

// newSetup opens a netlink socket in the namespace of the calling thread.
func (s Spec) newSetup() (*linkSetup, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", explain(err, ""))
	}
	return &linkSetup{s, h}, nil
}

// Create makes the links, or completes those that exist, and opens the TAP.
func Create(s Spec) (*Device, error) {
	p, err := s.newSetup()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if s.Mode == Veth {
		if err := p.ensureVeth(); err != nil {
			return nil, err
		}
	}
	if err := p.ensureTAP(); err != nil {
		return nil, err
	}
	return s.open()
}

// Adopt opens the port of a container that may be running: it repairs the TAP and the redirects, but does not make a new
// link for the container. ErrGone if the container's link does not exist.
func Adopt(s Spec) (*Device, error) {
	p, err := s.newSetup()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	tap, outer, _ := Names(s.ID)
	if s.Mode == Veth {
		l, err := p.find(outer)
		if err == nil {
			err = p.completeVeth(l)
		}
		if gone(err) {
			return nil, ErrGone
		}
		if err != nil {
			return nil, err
		}
	} else if _, err := p.find(tap); gone(err) {
		return s.openInSandbox()
	} else if err != nil {
		return nil, err
	}
	if err := p.ensureTAP(); err != nil {
		return nil, err
	}
	return s.open()
}

// Remove removes the links that exist and have the tag. The Device must be closed.
func Remove(s Spec) error {
	p, err := s.newSetup()
	if err != nil {
		return err
	}
	defer p.Close()
	tap, outer, inner := Names(s.ID)
	hosts := s.Host
	var errs []error
	for _, name := range []string{outer, inner, tap} {
		l, err := p.find(name)
		if gone(err) {
			continue
		}
		if err == nil && !s.ours(l) {
			err = errors.New("its alias is not tapestry's any more (ip -d link show " + name + "), so it is left alone")
		}
		if err == nil && name == tap && hosts == nil {
			hosts = p.hostAddrs(l) // of a port that no record names
		}
		if err == nil {
			err = p.LinkDel(l)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove link %s: %w", name, explain(err, "")))
		}
	}
	if hosts != nil {
		errs = append(errs, p.removeHostRules(tap, hosts))
	}
	return errors.Join(errs...)
}

// Found is what exists of one endpoint in the daemon's namespace.
type Found struct {
	TAP, Outer, Inner bool   // which links exist: the TAP, the veth's host end, its other end (if no container has it)
	Overruns          uint64 // frames that were dropped since the TAP's queue was full
}

// List finds the links whose tag begins with prefix, by the rest of the tag.
func List(prefix string) (map[string]Found, error) {
	links, err := linkList()
	if err != nil {
		return nil, err
	}
	m := make(map[string]Found)
	for _, l := range links {
		a := l.Attrs()
		id, ok := strings.CutPrefix(a.Alias, prefix)
		if !ok {
			continue
		}
		f := m[id]
		switch tap, outer, inner := Names(id); a.Name {
		case tap:
			f.TAP = true
			if s := l.Attrs().Statistics; s != nil {
				f.Overruns = s.TxDropped
			}
		case outer:
			f.Outer = true
		case inner:
			f.Inner = true
		default:
			continue
		}
		m[id] = f
	}
	return m, nil
}

// linkList dumps the links; a dump that was interrupted by a change is repeated.
func linkList() (links []netlink.Link, err error) {
	for range 10 {
		links, err = netlink.LinkList()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list links: %w", explain(err, ""))
	}
	return links, nil
}

func (p *linkSetup) find(name string) (netlink.Link, error) {
	l, err := p.LinkByName(name)
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("look for link %s: %w", name, explain(err, ""))
	}
	return l, err
}

func gone(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, unix.ENODEV)
}

// ours tells whether we made l. A link with our name and without an alias is ours, too: a process has ended between making
// and tagging it.
func (s *Spec) ours(l netlink.Link) bool {
	a := l.Attrs().Alias
	return a == s.Tag || a == ""
}

func (s *Spec) open() (*Device, error) {
	tap, outer, _ := Names(s.ID)
	d, err := openQueues(tap, s.Queues)
	if err != nil || s.Mode != Veth {
		return d, err
	}
	if err := d.carrier.watchVeth(outer); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

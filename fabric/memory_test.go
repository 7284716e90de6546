package fabric

import (
	"bytes"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/links"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/poll"
	"github.com/tapestry-net/tapestry/tap"
)

// memory is links.Links without a kernel. It holds what outlives the daemon: the links.
type memory struct {
	mu        sync.Mutex
	links     map[string]link
	open      map[string]*device
	asked     []string // ids that were to be removed
	repaired  int      // how often a host port was repaired
	repairErr error    // what that says
	// hook is called at the beginning and the end of every change; an error ends it.
	hook func(op string, s tap.Spec) error
	// listed is called after each List.
	listed func()
	// routes are those of a sandbox that is there.
	routes map[string][]netip.Prefix
	// shut is why sandboxes cannot be entered.
	shut error
}

// A link is what the kernel has of one endpoint. It is plain, so that copies are snapshots.
type link struct {
	tag               string
	mode              tap.Mode
	tap, outer, inner bool   // in the daemon's namespace
	sandbox           string // where the TAP of a direct one has gone
}

var errBusy = errors.New("device or resource busy")

func newMemory() *memory {
	return &memory{links: map[string]link{}, open: map[string]*device{}}
}

func (m *memory) step(op string, s tap.Spec) error {
	if m.hook == nil {
		return nil
	}
	return m.hook(op, s)
}

func (m *memory) Create(s tap.Spec) (links.Device, error) { return m.change("create", s, true) }
func (m *memory) Adopt(s tap.Spec) (links.Device, error)  { return m.change("adopt", s, false) }

func (m *memory) change(op string, s tap.Spec, fresh bool) (links.Device, error) {
	if err := m.step(op, s); err != nil {
		return nil, err
	}
	m.mu.Lock()
	l, there := m.links[s.ID]
	switch {
	case !fresh && s.Mode == tap.Veth && !l.outer,
		!fresh && s.Mode == tap.Direct && !l.tap && (l.sandbox == "" || l.sandbox != s.Sandbox):
		m.mu.Unlock()
		return nil, tap.ErrGone
	case !there || s.Mode == tap.Veth && !l.outer:
		l = link{tag: s.Tag, mode: s.Mode, tap: true, outer: s.Mode == tap.Veth, inner: s.Mode == tap.Veth}
	case s.Mode == tap.Veth:
		l.tap = true
	}
	m.links[s.ID] = l
	m.mu.Unlock()
	if err := m.step(op+" ends", s); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[s.ID] != nil {
		return nil, errBusy
	}
	d, err := newDevice(m, s.ID)
	if err == nil {
		m.open[s.ID] = d
	}
	return d, err
}

// RepairHostPort may be called for an open host port only.
func (m *memory) RepairHostPort(s tap.Spec) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[s.ID] == nil || s.Host == nil {
		return errors.New("repaired, and is no host's port that is open")
	}
	m.repaired++
	return m.repairErr
}

func (m *memory) Remove(s tap.Spec) error {
	if err := m.step("remove", s); err != nil {
		return err
	}
	m.mu.Lock()
	m.asked = append(m.asked, s.ID)
	if m.open[s.ID] != nil {
		m.mu.Unlock()
		return errors.New("removed with its device open")
	}
	delete(m.links, s.ID)
	m.mu.Unlock()
	return m.step("remove ends", s)
}

func (m *memory) List(prefix string) (map[string]tap.Found, error) {
	if m.listed != nil {
		defer m.listed() // without the lock
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]tap.Found{}
	for _, l := range m.links {
		if id, ok := strings.CutPrefix(l.tag, prefix); ok && (l.tap || l.outer || l.inner) {
			found[id] = tap.Found{TAP: l.tap, Outer: l.outer, Inner: l.inner}
		}
	}
	return found, nil
}

func (m *memory) Routes(sandbox string) ([]netip.Prefix, error) { return m.routes[sandbox], nil }

func (m *memory) CheckEnter() error { return m.shut }

func (m *memory) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.links))
}

// enter moves the link into its container, as Docker does.
func (m *memory) enter(id, sandbox string) {
	m.edit(id, func(l *link) {
		l.inner = false
		if l.mode == tap.Direct {
			l.tap, l.sandbox = false, sandbox
		}
	})
}

// die ends the container's namespace with its links: a veth's other end disappears too, a TAP fails.
func (m *memory) die(id string) {
	m.mu.Lock()
	if d := m.open[id]; d != nil && m.links[id].mode == tap.Direct {
		d.snap(errors.New("file descriptor in bad state"))
	}
	m.mu.Unlock()
	m.edit(id, func(l *link) { l.outer, l.inner, l.sandbox = false, false, "" })
}

func (m *memory) edit(id string, fn func(*link)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.links[id]
	fn(&l)
	m.links[id] = l
}

// dev is the open device of an endpoint.
func (m *memory) dev(t *testing.T, id string) *device {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[id] == nil {
		t.Fatalf("endpoint %s has no open device", id)
	}
	return m.open[id]
}

// device is a links.Device whose container is the test: it feeds frames in and takes them out.
type device struct {
	m   *memory
	id  string
	fd  int // eventfd
	out chan []byte

	mu     sync.Mutex
	in     func([]ether.Frame)
	inbox  []ether.Frame
	broken error
	cut    error // what Carrier says
}

func newDevice(m *memory, id string) (*device, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return &device{m: m, id: id, fd: fd, out: make(chan []byte, 256)}, err
}

func (d *device) Fd() int { return d.fd }

func (d *device) Sources() []poll.Source { return []poll.Source{d} }

func (d *device) Offload(ether.Kind) offload.Status { return offload.Status{} }

func (d *device) Retry() {}

func (d *device) Carrier() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

func (d *device) setCarrier(cut error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = cut
}

func (d *device) Bind(in func([]ether.Frame)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in = in
}

func (d *device) Drain([]byte) error {
	var b [8]byte
	_, _ = unix.Read(d.fd, b[:])
	d.mu.Lock()
	frames, in, err := d.inbox, d.in, d.broken
	d.inbox = nil
	d.mu.Unlock()
	if len(frames) > 0 && in != nil {
		in(frames)
	}
	return err
}

func (d *device) Send(frames []*ether.Frame) (sent, n int) {
	for _, f := range frames {
		select {
		case d.out <- bytes.Clone(f.Bytes()):
			sent++
			n += f.Len()
		default:
		}
	}
	return sent, n
}

func (d *device) Close() error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.m.open[d.id] == d {
		delete(d.m.open, d.id)
	}
	return unix.Close(d.fd)
}

func (d *device) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(d.fd, one[:])
}

// feed sends a frame from the container.
func (d *device) feed(src, dst ether.MAC, payload string) {
	room := make([]byte, ether.Headroom, 100)
	room = append(append(append(room, dst[:]...), src[:]...), 0x88, 0xb5)
	d.feedFrame(ether.Lend(append(room, payload...), ether.Offload{}))
}

func (d *device) feedFrame(f ether.Frame) {
	d.mu.Lock()
	d.inbox = append(d.inbox, f)
	d.mu.Unlock()
	d.wake()
}

func (d *device) snap(err error) {
	d.mu.Lock()
	d.broken = err
	d.mu.Unlock()
	d.wake()
}

// expect waits for a frame with the payload to reach the container, whatever comes before it.
func (d *device) expect(t *testing.T, payload string) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case b := <-d.out:
			if strings.TrimRight(string(b[14:]), "\x00") == strings.TrimRight(payload, "\x00") { // padding aside
				return
			}
		case <-limit:
			t.Fatalf("%q has not come", payload)
		}
	}
}

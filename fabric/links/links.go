// Package links is the containers' links: those that package tap makes in the kernel, behind an interface, since tests without root
// have them in memory.
package links

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/poll"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tap"
)

// Links creates and removes containers' links. It has two implementations: the kernel's (package tap), and one in memory for
// tests without root.
type Links interface {
	Create(tap.Spec) (Device, error)
	Adopt(tap.Spec) (Device, error) // opens existing links; tap.ErrGone: the container's link does not exist any more
	RepairHostPort(tap.Spec) error  // see tap.RepairHostPort; the port is open
	Remove(tap.Spec) error
	List(prefix string) (map[string]tap.Found, error)
	Routes(sandbox string) ([]netip.Prefix, error) // see tap.Routes
	CheckEnter() error                             // see tap.CheckEnter
}

// A Device is a container's port.
type Device interface {
	vswitch.Sender
	Sources() []poll.Source // one for each worker, or fewer
	Bind(in func([]ether.Frame))
	Offload(ether.Kind) offload.Status // see tap.Device
	Carrier() error                    // see tap.Device
	Retry()
	Close() error
}

// Kernel is the kernel's links.
type Kernel struct{}

var _ Links = Kernel{}

// Create is tap.Create.
func (Kernel) Create(s tap.Spec) (Device, error) { return opened(tap.Create(s)) }

// Adopt is tap.Adopt.
func (Kernel) Adopt(s tap.Spec) (Device, error) { return opened(tap.Adopt(s)) }

// RepairHostPort is tap.RepairHostPort.
func (Kernel) RepairHostPort(s tap.Spec) error { return tap.RepairHostPort(s) }

// Remove is tap.Remove.
func (Kernel) Remove(s tap.Spec) error { return tap.Remove(s) }

// List is tap.List.
func (Kernel) List(prefix string) (map[string]tap.Found, error) { return tap.List(prefix) }

// Routes is tap.Routes.
func (Kernel) Routes(sandbox string) ([]netip.Prefix, error) { return tap.Routes(sandbox) }

// CheckEnter is tap.CheckEnter.
func (Kernel) CheckEnter() error { return tap.CheckEnter() }

type device struct{ *tap.Device }

func (d device) Sources() (all []poll.Source) {
	for _, q := range d.Queues() {
		all = append(all, q)
	}
	return all
}

func opened(d *tap.Device, err error) (Device, error) {
	if err != nil {
		return nil, err
	}
	return device{d}, nil
}

// Package doctor examines a host and its daemon, and says what to do.
package doctor

import (
	"context"
	"errors"
	"net/netip"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/docker"
)

// A Finding is one line of tapestry doctor.
type Finding struct {
	Check  string `json:"check"`
	State  string `json:"state"`  // OK, Warn or Fail
	Seen   string `json:"seen"`   // what the check found
	Remedy string `json:"remedy"` // what to do, a command where possible; "" if State is OK
}

// The states of a Finding. Warn: it works, but worse than it could, or not in every case. Fail: something does not work.
const OK, Warn, Fail = "ok", "warn", "fail"

// A Doctor has the settings of an examination. Its Machine does what touches the host. It is for one call of Examine.
type Doctor struct {
	*client.Client
	Machine
	Name, PluginDir, StateDir string // Name and StateDir: "" if not given; Examine fills them in
	VTEP                      netip.Addr
	Second                    netip.Addr // another one, of the other IP version; zero: there is none
	Version                   string     // of this binary
	// RunFlags parses the arguments of a managed plugin's daemon, and returns a function that gives the value of a flag by its
	// name. The error is the one that tapestry run would end with.
	RunFlags func(docker.Plugin) (value func(flag string) string, err error)
	Port     uint16 // of VXLAN; 0 if not given; Examine fills it in

	// What identify has found.
	info       docker.Info
	plugins    []docker.Plugin
	pluginsErr error             // why Docker's list of plugins is not known
	supervisor docker.Supervisor // what runs the daemon: a managed plugin, or a unit or a process
	scope      string            // of the daemon's networks, local or global; "": not known
}

// Examine runs all checks and calls report with each finding, in order: the machine's, Docker's, the daemon's. That no daemon
// or no Docker answers is a finding. An error is that of several daemons, or that ctx has ended.
func (d *Doctor) Examine(ctx context.Context, report func(Finding)) error {
	status, statusErr := d.Status(ctx)
	names, err := docker.Load(ctx, d.Client)
	if err != nil {
		return err
	}
	d.identify(ctx, names, status, statusErr)
	if statusErr == nil {
		if vtep, err := netip.ParseAddr(status.VTEP); err == nil {
			d.VTEP = vtep
			d.Second, _ = netip.ParseAddr(status.SecondVTEP)
		}
	}
	networks := 0
	for _, section := range []func(){
		func() { d.examineKernel(report) },
		func() { d.examineUnderlay(status, report) },
		func() { d.examineDocker(ctx, names, status, report) },
		func() { networks = d.examineState(report) },
		func() { report(checkDaemon(status, statusErr, d.Version, d.StateDir, networks, d.supervisor)) },
		func() {
			if statusErr == nil {
				d.examineDaemon(ctx, status, names, report)
				return
			}
			for _, f := range d.checkMissing(names.Networks, nil, nil) {
				report(f)
			}
		},
	} {
		if ctx.Err() == nil {
			section()
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return nil
}

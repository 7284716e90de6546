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
	State  string `json:"state"` // good, warn, bad
	Seen   string `json:"seen"`
	Remedy string `json:"remedy"` // a command where there is one; "" of a good one
}

const OK, Warn, Fail = "ok", "warn", "fail"

// Doctor is what the checks are told; what they look at is in the machine.
type Doctor struct {
	*client.Client
	Machine
	Name, PluginDir, StateDir string // name and stateDir: "" if not given, until meet
	VTEP                      netip.Addr
	Version                   string // of this binary
	// runFlags reads what a managed plugin's daemon starts with: the value of a flag by its name. The error is what
	// tapestry run would say.
	RunFlags func(docker.Plugin) (value func(flag string) string, err error)
	Port     uint16 // 0 if not given, until meet

	// What meet has found.
	info       docker.Info
	plugins    []docker.Plugin
	pluginsErr error             // why the list of plugins is not known
	supervisor docker.Supervisor // of the daemon that is examined
	scope      string            // of its networks; "": not known
}

// Examine gives the findings in order: the machine's, Docker's, the daemon's.
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

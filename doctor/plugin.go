package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/tunnel"
)

// identify asks Docker for its plugins, and finds out what runs the daemon, a managed plugin or not, and with which flags.
// statusErr is why the daemon does not answer.
func (d *Doctor) identify(ctx context.Context, names *docker.Engine, status api.Status, statusErr error) {
	if d.Name == "" {
		d.Name = "tapestry"
	}
	d.info = names.Info(ctx)
	d.plugins, d.pluginsErr = names.Plugins(ctx, d.PluginDir)
	d.supervisor = d.findSupervisor(statusErr)
	if flags, err := d.flagsOf(d.supervisor); err == nil {
		d.scope = flags("scope")
		if port, err := strconv.ParseUint(flags("vxlan-port"), 10, 16); err == nil && d.Port == 0 {
			d.Port = uint16(port)
		}
		if own, err := plugin.ParseVTEPs(flags("vtep")); err == nil && !d.VTEP.IsValid() {
			d.VTEP, d.Second = own.Main, own.Second
		}
	}
	if d.StateDir == "" {
		d.StateDir = "/var/lib/tapestry"
		if d.supervisor.Managed() {
			d.StateDir = d.pluginStateDir(d.supervisor.Plugin)
		}
	}
	if d.Port == 0 {
		d.Port = tunnel.DefaultPort
	}
	if statusErr == nil {
		d.Name, d.Port, d.scope = status.Name, status.VXLANPort, cmp.Or(status.Scope, d.scope)
	}
}

// findSupervisor returns what runs the daemon that answers, or the one whose socket was asked for. If there is neither, it is the
// only plugin that is installed, unless the socket of a daemon outside of Docker exists.
func (d *Doctor) findSupervisor(statusErr error) docker.Supervisor {
	id := client.PluginID(d.SocketPath())
	if statusErr != nil && d.SocketPath() == "" && len(d.plugins) == 1 {
		if _, err := os.Lstat(d.unitSocket()); err != nil {
			id = d.plugins[0].ID
		}
	}
	for _, p := range d.plugins {
		if p.ID == id {
			return docker.Supervisor{Plugin: p}
		}
	}
	return docker.Supervisor{Plugin: docker.Plugin{ID: id, Enabled: true}}
}

// errNotManaged is the error for a daemon that is no managed plugin: its flags are not known.
var errNotManaged = errors.New("no managed plugin")

// flagsOf returns a function that gives the value of a flag of the plugin's daemon, or errNotManaged, or RunFlags' error.
func (d *Doctor) flagsOf(by docker.Supervisor) (value func(flag string) string, err error) {
	if !by.Managed() {
		return nil, errNotManaged
	}
	return d.RunFlags(by.Plugin)
}

// unitSocket returns the path by which Docker finds the driver of a daemon that is no managed plugin.
func (d *Doctor) unitSocket() string { return filepath.Join(d.PluginDir, d.Name+".sock") }

// pluginStateDir returns where on this host Docker keeps the /var/lib/tapestry of a plugin.
func (d *Doctor) pluginStateDir(p docker.Plugin) string {
	root := d.info.DockerRootDir
	if root == "" {
		root = "/var/lib/docker"
	}
	return filepath.Join(root, "plugins", p.ID, "propagated-mount")
}

// examinePlugin checks the driver as Docker finds it: managed plugins, and the socket of a daemon that is none.
func (d *Doctor) examinePlugin(ctx context.Context, report func(Finding)) {
	running := ""
	for _, p := range d.plugins {
		m := pluginState{Supervisor: docker.Supervisor{Plugin: p}}
		m.networks, _ = fabric.CheckState(d.pluginStateDir(p)) // checkState reports damaged records
		m.startErr, m.startTime = readErrorFile(filepath.Join(d.pluginStateDir(p), "error"))
		if _, err := d.RunFlags(p); err != nil && m.startErr == "" {
			m.startErr = err.Error()
		}
		if p.Enabled {
			running = m.Name()
			_, m.activateErr = activate(ctx, filepath.Join(d.PluginDir, p.ID, p.Config.Interface.Socket))
		}
		report(m.check())
	}
	path := d.unitSocket()
	_, err := os.Lstat(path)
	if err != nil && len(d.plugins) > 0 {
		return
	}
	var implements []string
	if err == nil {
		implements, err = activate(ctx, path)
	}
	f := checkPlugin(path, implements, err)
	if errors.Is(err, unix.ECONNREFUSED) && len(d.plugins) > 0 {
		f.Remedy += fmt.Sprintf("; or rm %s, if the plugin has taken its place", path)
	}
	report(f)
	if f.State == OK && running != "" {
		report(Finding{"plugin", Warn, fmt.Sprintf("a daemon that is no plugin runs beside the plugin %s: neither has the other's networks", running),
			fmt.Sprintf("end one of them, once its networks are removed: docker plugin disable %s, or systemctl disable --now tapestry", running)})
	}
}

// pluginState is what was found out about a managed plugin.
type pluginState struct {
	docker.Supervisor
	activateErr         error  // why it does not answer though it is enabled
	startErr, startTime string // of the last start that failed; "": it did not
	networks            int    // on record
}

func (m pluginState) check() Finding {
	f := Finding{Check: "plugin", State: Fail, Seen: fmt.Sprintf("%s (id %s)", m.Name(), api.ShortID(m.Plugin.ID))}
	failed := ""
	if m.startErr != "" {
		failed = ": " + m.startErr
		if m.startTime != "" {
			failed = fmt.Sprintf(": its start failed at %s: %s", m.startTime, m.startErr)
		}
	}
	switch {
	case !m.Plugin.Enabled && failed != "":
		f.Seen += " is disabled" + failed
		f.Remedy = fmt.Sprintf("put that right, then %s; flags are set so: docker plugin set %s args=\"…\"", m.Start(), m.Name())
	case !m.Plugin.Enabled:
		f.Seen, f.Remedy = f.Seen+" is disabled: Docker finds no such driver", m.Start()
		if m.networks == 0 {
			f.State = Warn
		}
	case m.activateErr != nil && failed != "":
		f.Seen += " is enabled and does not answer" + failed
		f.Remedy = fmt.Sprintf("put that right, as by %s; its log: %s", m.Flags("…"), m.LogCommand())
	case m.activateErr != nil:
		f.Seen += fmt.Sprintf(" is enabled and does not answer: %v", m.activateErr)
		f.Remedy = fmt.Sprintf("see its log (%s), then %s", m.LogCommand(), m.Restart())
	default:
		f.State = OK
		f.Seen += " is enabled and answers"
		if args := strings.Join(slices.DeleteFunc(slices.Clone(m.Plugin.Settings.Args), func(s string) bool { return s == "" }), " "); args != "" {
			f.Seen += fmt.Sprintf(", args %q", args)
		}
	}
	return f
}

// checkMissing reports the networks that Docker has with tapestry as their driver, and that no daemon has. known are the ids of
// those that the examined daemon has, nil if it does not answer; used reports whether containers of this host are on a network.
func (d *Doctor) checkMissing(all []docker.Network, known map[string]bool, used func(id string) (bool, error)) (lost []Finding) {
	driver := d.supervisor.Driver(d.Name)
	_, noUnit := os.Lstat(d.unitSocket())
	for _, n := range all {
		has := slices.ContainsFunc(d.plugins, func(p docker.Plugin) bool { return p.Name == n.Driver })
		name, _, tagged := strings.Cut(n.Driver[strings.LastIndex(n.Driver, "/")+1:], ":")
		switch {
		case n.Driver == driver && known == nil, n.Driver == driver && known[n.ID]:
		case n.Driver == driver && n.Scope == "swarm":
			// A manager lists all of the Swarm's networks; this host makes one with its first container.
			if is, err := used(n.ID); err == nil && is {
				lost = append(lost, Finding{"networks", Fail, fmt.Sprintf("%s of the Swarm: the daemon does not have it, and containers here use it: they are cut off", n.Name),
					"docker node update --availability drain NODE, then active: with its next task Docker makes it anew"})
			}
		case n.Driver == driver:
			lost = append(lost, Finding{"networks", Fail, fmt.Sprintf("%s: Docker has it with driver %s, the daemon does not, as after docker plugin rm -f or a lost state directory: no container starts on it", n.Name, n.Driver),
				fmt.Sprintf("docker network inspect %s shows how it was made; disconnect its containers, docker network rm %s, and create it anew", n.Name, n.Name)})
		case tagged && name == "tapestry" && !has && d.pluginsErr == nil:
			lost = append(lost, Finding{"networks", Fail, fmt.Sprintf("%s: its driver is %s, and Docker has no such plugin, as after docker plugin rm -f", n.Name, n.Driver),
				fmt.Sprintf("install the plugin again under that name, then docker network rm %s, and create it anew: what the plugin knew of it is gone", n.Name)})
		case n.Driver == d.Name && d.supervisor.Managed() && noUnit != nil:
			lost = append(lost, Finding{"networks", Fail, fmt.Sprintf("%s: its driver is %s, which is a unit or a process, and none runs", n.Name, n.Driver),
				fmt.Sprintf("systemctl start tapestry; or docker network rm %s, and create it with -d %s", n.Name, driver)})
		}
	}
	return lost
}

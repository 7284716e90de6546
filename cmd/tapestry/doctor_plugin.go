package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/plugin"
)

// meet asks Docker what it has, and finds out who supervises the daemon that is examined, and with which flags.
func (d *doctor) meet(ctx context.Context, names *docker, status statusReply, away error) {
	if d.name == "" {
		d.name = "tapestry"
	}
	d.info = names.info(ctx)
	d.plugins, d.unlisted = names.plugins(ctx, d.pluginDir)
	d.by = d.supervisor(away)
	flags, err := d.by.plugin.runFlags()
	if d.by.managed() && err == nil {
		d.scope = flags("scope")
		if port, err := parsePort(flags("vxlan-port")); err == nil && d.port == 0 {
			d.port = port
		}
		if vtep, err := plugin.ParseVTEP(flags("vtep")); err == nil && !d.vtep.IsValid() {
			d.vtep = vtep
		}
	}
	if d.stateDir == "" {
		d.stateDir = "/var/lib/tapestry"
		if d.by.managed() {
			d.stateDir = d.stateOf(d.by.plugin)
		}
	}
	if d.port == 0 {
		d.port = 4789
	}
	if away == nil {
		d.name, d.port, d.scope = status.Name, status.VXLANPort, cmp.Or(status.Scope, d.scope)
	}
}

// supervisor is that of the daemon that answers, or that is where it would answer. Where none does, it is the only plugin
// there is, unless another daemon was asked for or has left its socket.
func (d *doctor) supervisor(away error) supervisor {
	id := pluginOf(d.at())
	if away != nil && d.at() == "" && len(d.plugins) == 1 {
		if _, err := os.Lstat(d.socketOfUnit()); err != nil {
			id = d.plugins[0].ID
		}
	}
	for _, p := range d.plugins {
		if p.ID == id {
			return supervisor{p}
		}
	}
	return supervisor{dockerPlugin{ID: id, Enabled: true}}
}

// socketOfUnit is where Docker finds the driver of a daemon that is no managed plugin.
func (d *doctor) socketOfUnit() string { return filepath.Join(d.pluginDir, d.name+".sock") }

// stateOf is where a plugin's files in /var/lib/tapestry are on this host.
func (d *doctor) stateOf(p dockerPlugin) string {
	root := d.info.DockerRootDir
	if root == "" {
		root = "/var/lib/docker"
	}
	return filepath.Join(root, "plugins", p.ID, "propagated-mount")
}

// runFlags reads what the plugin's daemon starts with: the value of a flag by its name. The error is what tapestry run
// would say.
func (p dockerPlugin) runFlags() (value func(flag string) string, err error) {
	run, words, err := newRoot().Find(slices.Concat(p.Config.Entrypoint[min(1, len(p.Config.Entrypoint)):], p.Settings.Args))
	if err != nil {
		return nil, err
	}
	if run.Name() != "run" {
		return nil, fmt.Errorf("its entrypoint is %q, want tapestry run", strings.Join(p.Config.Entrypoint, " "))
	}
	if err := run.ParseFlags(words); err != nil {
		return nil, flagError(run, err)
	}
	if err := cmp.Or(run.ValidateArgs(run.Flags().Args()), checkManaged(run.Flags())); err != nil {
		return nil, err
	}
	return func(flag string) string {
		if f := run.Flag(flag); f != nil {
			return f.Value.String()
		}
		return ""
	}, nil
}

// examinePlugin is of the driver as Docker finds it: managed plugins, and the socket of a daemon that is none.
func (d *doctor) examinePlugin(ctx context.Context, tell func(finding)) {
	running := ""
	for _, p := range d.plugins {
		m := managed{supervisor: supervisor{p}}
		m.networks, _ = fabric.CheckState(d.stateOf(p)) // the state line tells of torn ones
		m.reason, m.when = readErrorFile(filepath.Join(d.stateOf(p), "error"))
		if _, err := p.runFlags(); err != nil && m.reason == "" {
			m.reason = err.Error()
		}
		if p.Enabled {
			running = m.name()
			_, m.away = activate(ctx, filepath.Join(d.pluginDir, p.ID, p.Config.Interface.Socket))
		}
		tell(m.check())
	}
	path := d.socketOfUnit()
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
	tell(f)
	if f.State == good && running != "" {
		tell(finding{"plugin", warn, fmt.Sprintf("a daemon that is no plugin runs beside the plugin %s: neither has the other's networks", running),
			fmt.Sprintf("end one of them, once its networks are removed: docker plugin disable %s, or systemctl disable --now tapestry", running)})
	}
}

// managed is what is seen of a managed plugin.
type managed struct {
	supervisor
	away         error  // why it does not answer though it is enabled
	reason, when string // of the last start that failed; "": it did not
	networks     int    // on record
}

func (m managed) check() finding {
	f := finding{Check: "plugin", State: bad, Seen: fmt.Sprintf("%s (id %s)", m.name(), short(m.plugin.ID))}
	failed := ""
	if m.reason != "" {
		failed = ": " + m.reason
		if m.when != "" {
			failed = fmt.Sprintf(": its start failed at %s: %s", m.when, m.reason)
		}
	}
	switch {
	case !m.plugin.Enabled && failed != "":
		f.Seen += " is disabled" + failed
		f.Remedy = fmt.Sprintf("put that right, then %s; flags are set so: docker plugin set %s args=\"…\"", m.start(), m.name())
	case !m.plugin.Enabled:
		f.Seen, f.Remedy = f.Seen+" is disabled: Docker finds no such driver", m.start()
		if m.networks == 0 {
			f.State = warn
		}
	case m.away != nil && failed != "":
		f.Seen += " is enabled and does not answer" + failed
		f.Remedy = fmt.Sprintf("put that right, as by %s; its log: %s", m.flags("…"), m.log())
	case m.away != nil:
		f.Seen += fmt.Sprintf(" is enabled and does not answer: %v", m.away)
		f.Remedy = fmt.Sprintf("see its log (%s), then %s", m.log(), m.restart())
	default:
		f.State = good
		f.Seen += " is enabled and answers"
		if args := strings.Join(slices.DeleteFunc(slices.Clone(m.plugin.Settings.Args), func(s string) bool { return s == "" }), " "); args != "" {
			f.Seen += fmt.Sprintf(", args %q", args)
		}
	}
	return f
}

// checkLost is of the networks that Docker has with a driver that is tapestry, and no daemon has. known are the ids of
// those that the examined daemon has, nil if it does not answer; used tells whether containers of this host are on one.
func (d *doctor) checkLost(all []dockerNetwork, known map[string]bool, used func(id string) (bool, error)) (lost []finding) {
	driver := d.by.driver(d.name)
	_, noUnit := os.Lstat(d.socketOfUnit())
	for _, n := range all {
		has := slices.ContainsFunc(d.plugins, func(p dockerPlugin) bool { return p.Name == n.Driver })
		name, _, tagged := strings.Cut(n.Driver[strings.LastIndex(n.Driver, "/")+1:], ":")
		switch {
		case n.Driver == driver && known == nil, n.Driver == driver && known[n.ID]:
		case n.Driver == driver && n.Scope == "swarm":
			// A manager lists all of the Swarm's networks; this host makes one with its first container.
			if is, err := used(n.ID); err == nil && is {
				lost = append(lost, finding{"networks", bad, fmt.Sprintf("%s of the Swarm: the daemon does not have it, and containers here use it: they are cut off", n.Name),
					"docker node update --availability drain NODE, then active: with its next task Docker makes it anew"})
			}
		case n.Driver == driver:
			lost = append(lost, finding{"networks", bad, fmt.Sprintf("%s: Docker has it with driver %s, the daemon does not, as after docker plugin rm -f or a lost state directory: no container starts on it", n.Name, n.Driver),
				fmt.Sprintf("docker network inspect %s shows how it was made; disconnect its containers, docker network rm %s, and create it anew", n.Name, n.Name)})
		case tagged && name == "tapestry" && !has && d.unlisted == nil:
			lost = append(lost, finding{"networks", bad, fmt.Sprintf("%s: its driver is %s, and Docker has no such plugin, as after docker plugin rm -f", n.Name, n.Driver),
				fmt.Sprintf("install the plugin again under that name, then docker network rm %s, and create it anew: what the plugin knew of it is gone", n.Name)})
		case n.Driver == d.name && d.by.managed() && noUnit != nil:
			lost = append(lost, finding{"networks", bad, fmt.Sprintf("%s: its driver is %s, which is a unit or a process, and none runs", n.Name, n.Driver),
				fmt.Sprintf("systemctl start tapestry; or docker network rm %s, and create it with -d %s", n.Name, driver)})
		}
	}
	return lost
}

// used tells whether containers of this host are on a network.
func (d *docker) used(ctx context.Context, id string) (bool, error) {
	n, err := d.network(ctx, id)
	if err != nil {
		return false, err
	}
	return len(n.Containers) > 0, nil
}

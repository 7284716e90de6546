package docker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
)

// A Supervisor is what starts and stops a daemon: systemd, a person, or Docker if the daemon is a managed plugin. So it says
// which commands a user types to do so.
type Supervisor struct {
	Plugin Plugin // without an id: a unit, or a process that somebody started
}

// SupervisorAt returns the Supervisor of the daemon that listens at path. If that is a plugin's, it asks Docker for its name.
func SupervisorAt(ctx context.Context, d *Engine, path string) Supervisor {
	id := client.PluginID(path)
	if id == "" {
		return Supervisor{}
	}
	p, err := d.plugin(ctx, id)
	if err != nil {
		p = Plugin{ID: id, Enabled: true} // its daemon runs
	}
	return Supervisor{p}
}

// Managed tells whether it is Docker, and the daemon a managed plugin.
func (s Supervisor) Managed() bool { return s.Plugin.ID != "" }

// Name is what docker plugin's commands take: its name, or the beginning of its id where Docker has told none.
func (s Supervisor) Name() string {
	if s.Plugin.Name == "" {
		return api.ShortID(s.Plugin.ID)
	}
	return s.Plugin.Name
}

// Driver is what Docker calls the driver, in docker network create -d: of a unit it is the daemon's --name.
func (s Supervisor) Driver(name string) string {
	if s.Managed() {
		return s.Name()
	}
	return name
}

func (s Supervisor) who() string {
	if s.Managed() {
		return "the plugin " + s.Name()
	}
	return "the daemon that is no plugin"
}

// String is status' line.
func (s Supervisor) String() string {
	switch {
	case !s.Managed():
		return "a unit of systemd, or a process of its own"
	case s.Plugin.Name == "":
		return "a plugin of Docker, id " + api.ShortID(s.Plugin.ID)
	}
	return fmt.Sprintf("plugin %s of Docker, id %s", s.Plugin.Name, api.ShortID(s.Plugin.ID))
}

// LogCommand is where the daemon's log is.
func (s Supervisor) LogCommand() string { return client.LogCommand(s.Plugin.ID) }

// Start is the command that starts the daemon.
func (s Supervisor) Start() string {
	if s.Managed() {
		return "docker plugin enable " + s.Name()
	}
	return "systemctl start tapestry"
}

const restart = "systemctl restart tapestry: containers keep their connections"

// Restart is the command that ends the daemon and starts it again, and what becomes of the containers.
func (s Supervisor) Restart() string {
	if s.Managed() {
		return fmt.Sprintf("docker plugin disable -f %s && docker plugin enable %s: containers keep their connections", s.Name(), s.Name())
	}
	return restart
}

// Flags is how tapestry run gets other flags, each "--name value": a plugin is set while it is disabled, and to all of
// its args at once.
func (s Supervisor) Flags(change ...string) string {
	if !s.Managed() {
		return "tapestry run " + strings.Join(change, " ")
	}
	var keep []string
	for i := 0; i < len(s.Plugin.Settings.Args); i++ {
		word := s.Plugin.Settings.Args[i]
		name, _, whole := strings.Cut(word, "=")
		switch {
		case word == "":
		case !replaces(change, name):
			keep = append(keep, word)
		case !whole:
			i++ // its value
		}
	}
	disable := fmt.Sprintf("docker plugin disable -f %s && ", s.Name())
	if !s.Plugin.Enabled {
		disable = ""
	}
	return fmt.Sprintf(`%sdocker plugin set %s args="%s" && docker plugin enable %s`, disable, s.Name(),
		strings.Join(append(keep, change...), " "), s.Name())
}

// replaces tells whether one of changes sets this flag.
func replaces(changes []string, flag string) bool {
	for _, c := range changes {
		if name, _, _ := strings.Cut(c, " "); name == flag {
			return true
		}
	}
	return false
}

// A Plugin is what is needed of Docker's GET /plugins and /plugins/ID/json (Docker Engine API, Plugin).
type Plugin struct {
	ID       string `json:"Id"`
	Name     string // with its tag
	Enabled  bool
	Settings struct{ Args []string }
	Config   struct {
		Entrypoint []string
		Interface  struct {
			Types  []string // as docker.networkdriver/1.0
			Socket string   // a name in PluginDir/ID
		}
	}
}

// Plugins are those of Docker's managed plugins that are tapestry, in Docker's order: what they implement and how their
// socket is called says so, or that a tapestry's API is in their directory below dir.
func (d *Engine) Plugins(ctx context.Context, dir string) (ours []Plugin, err error) {
	if d.HTTP == nil {
		return nil, errNotInDocker
	}
	var all []Plugin
	err = d.Get(ctx, "/plugins", &all)
	for _, p := range all {
		driver := false
		for _, t := range p.Config.Interface.Types {
			driver = driver || strings.HasPrefix(t, "docker.networkdriver/")
		}
		_, missing := os.Lstat(filepath.Join(dir, p.ID, client.PluginSocketName))
		if driver && p.Config.Interface.Socket == "tapestry.sock" || missing == nil {
			ours = append(ours, p)
		}
	}
	return ours, err
}

// plugin reads one, by its id or its name.
func (d *Engine) plugin(ctx context.Context, id string) (p Plugin, err error) {
	if d.HTTP == nil || id == "" {
		return p, errNotInDocker
	}
	return p, d.Get(ctx, "/plugins/"+id+"/json", &p)
}

// daemonOf says which other daemon of this host has a network, as the end of a sentence; "" if none has.
func (d *Engine) daemonOf(ctx context.Context, c *client.Client, network string) string {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	for _, path := range c.OtherSockets() {
		all, err := (&client.Client{Socket: path}).Networks(ctx)
		if err != nil {
			continue
		}
		for _, n := range all {
			if n.ID != network {
				continue
			}
			return fmt.Sprintf(": %s has it, say --api-socket %s", SupervisorAt(ctx, d, path).who(), path)
		}
	}
	return ""
}

// PluginNames is client.PluginNames.
func PluginNames(ctx context.Context, c *client.Client, ids []string) ([]string, error) {
	d, err := New(c)
	if err != nil {
		return nil, err
	}
	return api.Map(ids, func(id string) string {
		p, _ := d.plugin(ctx, id) // without a name if Docker does not know it
		return p.Name
	}), nil
}

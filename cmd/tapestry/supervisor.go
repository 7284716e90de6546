package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A supervisor is who starts and ends a daemon, and so how its user does: by systemd or by hand, or by Docker, of which
// the daemon is a managed plugin.
type supervisor struct {
	plugin dockerPlugin // without an id: a unit, or a process that somebody started
}

// supervisorAt asks Docker what the plugin is called whose daemon listens at path, if it is a plugin's.
func supervisorAt(ctx context.Context, path string, d *docker) supervisor {
	id := pluginOf(path)
	if id == "" {
		return supervisor{}
	}
	p, err := d.plugin(ctx, id)
	if err != nil {
		p = dockerPlugin{ID: id, Enabled: true} // its daemon runs
	}
	return supervisor{p}
}

func (s supervisor) managed() bool { return s.plugin.ID != "" }

// name is what docker plugin's commands take: its name, or the beginning of its id where Docker has told none.
func (s supervisor) name() string {
	if s.plugin.Name == "" {
		return short(s.plugin.ID)
	}
	return s.plugin.Name
}

// driver is what Docker calls the driver, in docker network create -d: of a unit it is the daemon's --name.
func (s supervisor) driver(name string) string {
	if s.managed() {
		return s.name()
	}
	return name
}

func (s supervisor) who() string {
	if s.managed() {
		return "the plugin " + s.name()
	}
	return "the daemon that is no plugin"
}

// text is status' line.
func (s supervisor) text() string {
	switch {
	case !s.managed():
		return "a unit of systemd, or a process of its own"
	case s.plugin.Name == "":
		return "a plugin of Docker, id " + short(s.plugin.ID)
	}
	return fmt.Sprintf("plugin %s of Docker, id %s", s.plugin.Name, short(s.plugin.ID))
}

// log is where the daemon's log is.
func (s supervisor) log() string {
	if s.managed() {
		return "journalctl -u docker | grep plugin=" + short(s.plugin.ID)
	}
	return "journalctl -u tapestry"
}

func (s supervisor) start() string {
	if s.managed() {
		return "docker plugin enable " + s.name()
	}
	return "systemctl start tapestry"
}

const restart = "systemctl restart tapestry: containers keep their connections"

func (s supervisor) restart() string {
	if s.managed() {
		return fmt.Sprintf("docker plugin disable -f %s && docker plugin enable %s: containers keep their connections", s.name(), s.name())
	}
	return restart
}

// flags is how tapestry run gets other flags, each "--name value": a plugin is set while it is disabled, and to all of
// its args at once.
func (s supervisor) flags(change ...string) string {
	if !s.managed() {
		return "tapestry run " + strings.Join(change, " ")
	}
	var keep []string
	for i := 0; i < len(s.plugin.Settings.Args); i++ {
		word := s.plugin.Settings.Args[i]
		name, _, whole := strings.Cut(word, "=")
		switch {
		case word == "":
		case !replaces(change, name):
			keep = append(keep, word)
		case !whole:
			i++ // its value
		}
	}
	disable := fmt.Sprintf("docker plugin disable -f %s && ", s.name())
	if !s.plugin.Enabled {
		disable = ""
	}
	return fmt.Sprintf(`%sdocker plugin set %s args="%s" && docker plugin enable %s`, disable, s.name(),
		strings.Join(append(keep, change...), " "), s.name())
}

// replaces tells whether one of changes is of this flag.
func replaces(changes []string, flag string) bool {
	for _, c := range changes {
		if name, _, _ := strings.Cut(c, " "); name == flag {
			return true
		}
	}
	return false
}

// A dockerPlugin is what is needed of Docker's GET /plugins and /plugins/ID/json (Docker Engine API, Plugin).
type dockerPlugin struct {
	ID       string `json:"Id"`
	Name     string // with its tag
	Enabled  bool
	Settings struct{ Args []string }
	Config   struct {
		Entrypoint []string
		Interface  struct {
			Types  []string // as docker.networkdriver/1.0
			Socket string   // a name in pluginSockets/ID
		}
	}
}

// plugins are those of Docker's managed plugins that are tapestry, in Docker's order: what they implement and how their
// socket is called says so, or that a tapestry's API is in their directory below dir.
func (d *docker) plugins(ctx context.Context, dir string) (ours []dockerPlugin, err error) {
	if d.http == nil {
		return nil, errNotInDocker
	}
	var all []dockerPlugin
	err = d.get(ctx, "/plugins", &all)
	for _, p := range all {
		driver := false
		for _, t := range p.Config.Interface.Types {
			driver = driver || strings.HasPrefix(t, "docker.networkdriver/")
		}
		_, missing := os.Lstat(filepath.Join(dir, p.ID, pluginAPI))
		if driver && p.Config.Interface.Socket == "tapestry.sock" || missing == nil {
			ours = append(ours, p)
		}
	}
	return ours, err
}

// plugin reads one, by its id or its name.
func (d *docker) plugin(ctx context.Context, id string) (p dockerPlugin, err error) {
	if d.http == nil || id == "" {
		return p, errNotInDocker
	}
	return p, d.get(ctx, "/plugins/"+id+"/json", &p)
}

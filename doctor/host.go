package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/fabric"
)

// examineDocker checks dockerd, the driver's plugin, and the Swarm.
func (d *Doctor) examineDocker(ctx context.Context, names *docker.Engine, status api.Status, report func(Finding)) {
	var v struct{ Version, ApiVersion string }
	err := errors.New("no socket to ask")
	if names.HTTP != nil {
		err = exit.WithoutURL(names.Get(ctx, "/version", &v))
	}
	report(checkDocker(names.Address, v.Version, err))
	d.examinePlugin(ctx, report)
	for _, f := range d.checkSwarm(status.Tunnel) {
		report(f)
	}
}

// checkDocker checks dockerd's version: 20.10 is the oldest and 29 the newest that were tested.
func checkDocker(at, version string, err error) Finding {
	f := Finding{Check: "docker", State: Warn}
	part := regexp.MustCompile(`^(\d+)\.(\d+)`).FindStringSubmatch(version)
	switch {
	case err != nil:
		f.Seen, f.Remedy = fmt.Sprintf("does not answer at %s: %v", at, err), "systemctl start docker; or say where it is: --docker-host"
		return f
	case part == nil:
		f.Seen, f.Remedy = fmt.Sprintf("is of an unknown version %q", version), "docker version"
		return f
	}
	major, _ := strconv.Atoi(part[1]) // digits
	minor, _ := strconv.Atoi(part[2])
	switch {
	case major < 20 || major == 20 && minor < 10:
		f.Seen, f.Remedy = version+", older than any that was tested", "install Docker 20.10 or newer"
	case major > 29:
		return Finding{Check: "docker", State: OK, Seen: version + ", newer than those that were tested (20.10 to 29)"}
	default:
		return Finding{Check: "docker", State: OK, Seen: version}
	}
	return f
}

// activate sends Plugin.Activate to a plugin's socket, as Docker does first, and returns what the plugin implements.
func activate(ctx context.Context, path string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, docker.Timeout)
	defer cancel()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return client.DialUnix(ctx, path)
		}}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/Plugin.Activate", nil)
	if err != nil {
		return nil, err
	}
	resp, err := h.Do(r)
	if err != nil {
		return nil, exit.WithoutURL(err)
	}
	defer resp.Body.Close()
	var answer struct{ Implements []string }
	return answer.Implements, json.NewDecoder(resp.Body).Decode(&answer)
}

// checkPlugin checks the socket by which Docker finds the driver. implements and err are the results of activate.
func checkPlugin(path string, implements []string, err error) Finding {
	f := Finding{Check: "plugin", State: Fail}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.State, f.Seen, f.Remedy = Warn, path+" does not exist: Docker finds no such driver", "systemctl start tapestry; or install the managed plugin (docs/plugin.md); or say the --plugin-dir and --name that it was started with"
	case errors.Is(err, unix.ECONNREFUSED):
		f.Seen, f.Remedy = path+" is stale, nobody listens: each of Docker's calls waits 15 s and fails", "systemctl restart tapestry: it replaces the socket"
	case err != nil:
		f.Seen, f.Remedy = fmt.Sprintf("%s does not answer as a plugin does: %v", path, err), fmt.Sprintf("see who serves it: ss -xlp src %s", path)
	case !slices.Contains(implements, "NetworkDriver"):
		f.Seen, f.Remedy = fmt.Sprintf("%s is another plugin, of %s", path, strings.Join(implements, ", ")), "stop that one, or start tapestry with another --name"
	default:
		return Finding{Check: "plugin", State: OK, Seen: path + " answers"}
	}
	return f
}

// examineState checks the state directory and its file system, and returns the number of networks that have a record there.
func (d *Doctor) examineState(report func(Finding)) int {
	info, err := os.Stat(d.StateDir)
	if err == nil {
		err = unix.Access(d.StateDir, unix.W_OK)
	}
	networks, damaged := 0, error(nil)
	if err == nil {
		networks, damaged = fabric.CheckState(d.StateDir)
	}
	report(checkState(d.StateDir, info, err, networks, damaged))
	dir := d.StateDir // or its nearest parent that exists
	for dir != "/" && errors.Is(unix.Access(dir, unix.F_OK), unix.ENOENT) {
		dir = filepath.Dir(dir)
	}
	space, err := d.Statfs(dir)
	report(checkSpace(dir, space, err))
	return networks
}

// checkState checks the state directory. err is why it cannot be written, damaged is the error of a record in it.
func checkState(dir string, info fs.FileInfo, err error, networks int, damaged error) Finding {
	f := Finding{Check: "state", State: Fail}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Finding{Check: "state", State: OK, Seen: dir + " is not there yet: the daemon makes it"}
	case err != nil:
		f.Seen, f.Remedy = fmt.Sprintf("%s cannot be written: %v", dir, err), "make it writable: findmnt --target "+dir
	case !info.IsDir():
		f.Seen, f.Remedy = dir+" is no directory", "move it away, or use another --state-dir"
	case info.Mode().Perm()&0o022 != 0:
		f.Seen, f.Remedy = fmt.Sprintf("others than root can write into %s (mode %o)", dir, info.Mode().Perm()), "chmod 700 "+dir
	case damaged != nil && strings.Contains(damaged.Error(), filepath.Join(dir, "swarm.json")): // the nodes of the Swarm, as Docker reported them
		f.Seen, f.Remedy = damaged.Error(), "mv that file out of "+dir+", start the daemon, then tapestry peers learn"
	case errors.Is(damaged, fabric.ErrVersion):
		f.Seen, f.Remedy = damaged.Error(), "run the version of tapestry that wrote it, the network is intact; or docker network rm it with that version first"
	case damaged != nil:
		f.Seen, f.Remedy = damaged.Error(), "mv that file out of "+dir+", then docker network rm and create that network anew"
	default:
		return Finding{Check: "state", State: OK, Seen: fmt.Sprintf("%s, %s, all records whole", dir, human.Plural(networks, "network"))}
	}
	return f
}

// checkSpace checks the free space and inodes for the state directory.
func checkSpace(dir string, s unix.Statfs_t, err error) Finding {
	if err != nil {
		return Finding{"space", Warn, fmt.Sprintf("look at the file system of %s: %v", dir, err), "findmnt --target " + dir}
	}
	free := s.Bfree * uint64(s.Bsize) // with the part that is reserved for root: the daemon is root
	f := Finding{Check: "space", State: OK, Seen: human.Bytes(free) + " free for " + dir}
	switch {
	case s.Files > 0 && s.Ffree == 0:
		f.State, f.Seen, f.Remedy = Fail, "no inode left for "+dir+": networks cannot be recorded", "df -i "+dir
	case free < 1e6:
		f.State, f.Remedy = Fail, "df -h "+dir
		f.Seen += ": networks cannot be recorded"
	case free < 16e6:
		f.State, f.Remedy = Warn, "df -h "+dir
	}
	return f
}

// checkDaemon checks whether the daemon runs, and with this binary's version. statusErr is why it does not answer.
func checkDaemon(s api.Status, statusErr error, version string, stateDir string, networks int, by docker.Supervisor) Finding {
	f := Finding{Check: "daemon", State: Warn}
	fails, then := "does not run", "cannot be used"
	if !errors.Is(statusErr, client.ErrNoDaemon) { // something has its socket open
		fails, then = "does not answer", "cannot be examined"
	}
	remedy := ""
	if statusErr != nil {
		if remedy = statusErr.Error(); by.Managed() && errors.Is(statusErr, client.ErrNoDaemon) {
			remedy = by.Start() // the plugin line says more
		}
	}
	switch {
	case statusErr != nil && networks > 0:
		f.State, f.Seen = Fail, fmt.Sprintf("%s, and %s on record in %s %s", fails, human.Plural(networks, "network"), stateDir, then)
		f.Remedy = remedy
	case statusErr != nil:
		f.Seen, f.Remedy = fails, remedy
	case s.Version != version:
		f.Seen, f.Remedy = fmt.Sprintf("runs with version %s, this is %s", s.Version, version), by.Restart()
		if by.Managed() {
			f.Remedy = "docker plugin upgrade " + by.Name() + ", or take the commands of the plugin's version"
		}
	default:
		return Finding{Check: "daemon", State: OK, Seen: fmt.Sprintf("%s, version %s, running %s, pid %d", by.Driver(s.Name), s.Version, human.Age(s.UptimeSeconds), s.PID)}
	}
	return f
}

package test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// With TAPESTRY_AS=plugin every host runs tapestry as a managed plugin of its dockerd (docs/plugin.md), and the tests are the
// same. What differs for them is here.

// unmanaged are the parts of tests that are left out for a managed plugin, each with the reason.
var unmanaged = map[string]string{
	"attach=tap": "refused there: after a restart it takes CAP_SYS_ADMIN and the containers' namespaces to find the TAPs (TestManagedPlugin)",
	"row45":      "dockerd starts and ends the plugin, so the two never start in another order (TestManagedPlugin: dockerd starts with the plugin disabled)",
	"INT":        "Docker ends a plugin by TERM, or KILL",
}

// has tells whether a part of a test applies to this host.
func (h *Host) has(part string) bool {
	reason, left := unmanaged[part]
	if !left || reason == "" {
		panic(part + " is no part that a managed plugin leaves out")
	}
	return !h.managed
}

// driver is what Docker calls tapestry.
func (h *Host) driver() string {
	if h.managed {
		return "tapestry:latest"
	}
	return "tapestry"
}

// scope is what Docker calls the scope of tapestry's networks. Before 24.0 (API 1.43) one of global scope needs a Swarm.
func (h *Host) scope(t *testing.T) string {
	t.Helper()
	if h.managed && h.apiVersion(t) >= 43 {
		return "global"
	}
	return "local"
}

// verb is host.sh's for the daemon.
func (h *Host) verb() string {
	if h.managed {
		return "plugin"
	}
	return "tapestry"
}

// pluginFlags are flags that the tests need to differ from the plugin's config: the UDP port.
func (h *Host) pluginFlags(t *testing.T) []string {
	t.Helper()
	return []string{"--vxlan-port", "4789", "--scope", h.scope(t)}
}

// plugin is the managed plugin's "id" or "pid".
func (h *Host) plugin(t *testing.T, what string) string {
	t.Helper()
	out, err := exec.Command("./host.sh", "plugin", h.name, what).Output()
	if err != nil {
		t.Fatalf("the plugin's %s on host %s: %v", what, h.name, err)
	}
	return strings.TrimSpace(string(out))
}

// socket is the driver's, as a path on the host; "" while a managed plugin has none.
func (h *Host) socket() string {
	if !h.managed {
		return "/run/docker/plugins/tapestry.sock"
	}
	root := fmt.Sprintf("/proc/%d/root", h.pid)
	all, _ := filepath.Glob(root + "/run/docker/plugins/*/tapestry.sock")
	if len(all) != 1 {
		return ""
	}
	return strings.TrimPrefix(all[0], root)
}

// stateDir is the daemon's state directory; a managed plugin's is its propagated mount.
func (h *Host) stateDir(t *testing.T) string {
	t.Helper()
	if !h.managed {
		return filepath.Join(h.dir, "state")
	}
	return h.pluginDir(t) + "/propagated-mount"
}

// pluginDir is the directory in which Docker has the plugin.
func (h *Host) pluginDir(t *testing.T) string {
	t.Helper()
	all, err := filepath.Glob(h.dir + "/docker/plugins/*/config.json")
	if err != nil || len(all) != 1 {
		t.Fatalf("the directories of plugins on host %s: %q, %v", h.name, all, err)
	}
	return filepath.Dir(all[0])
}

// logMark begins the names of networks that no host has.
const logMark = "log-mark-"

// awaitPluginLog waits until dockerd has written all that a managed plugin has logged so far: it sends the plugin a request
// with a unique name, and waits for the line about it. A plugin that does not run logs nothing more, and without dockerd nobody writes its
// log.
func (h *Host) awaitPluginLog() error {
	socket := h.socket()
	if !h.managed || socket == "" {
		return nil
	}
	c, err := h.dial(context.Background(), "/run/docker.sock")
	if err != nil {
		return nil
	}
	c.Close()
	file, err := os.Open(filepath.Join(h.dir, "dockerd.log"))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	id := logMark + strconv.FormatInt(time.Now().UnixNano(), 36)
	if _, _, err := h.trySend(socket, "/NetworkDriver.EndpointOperInfo", "", fmt.Sprintf(`{"NetworkID":%q}`, id)); err != nil {
		return nil // it is going, or coming
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text, err := io.ReadAll(io.NewSectionReader(file, info.Size(), 1<<40))
		if err != nil || strings.Contains(string(text), id) {
			return err
		}
	}
	return fmt.Errorf("a line that the plugin on host %s logged is not in %s", h.name, file.Name())
}

// pluginLog are the whole lines that a managed plugin has logged, out of dockerd's log from an offset on.
func (h *Host) pluginLog(t *testing.T, offset int64) []string {
	t.Helper()
	if err := h.awaitPluginLog(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range h.since(t, "dockerd.log", offset) {
		if text, ok := pluginLine(line); ok {
			lines = append(lines, text)
		}
	}
	return lines
}

var ofPlugin = regexp.MustCompile(` msg=(.*) plugin=[0-9a-f]{64}$`)

// pluginLine is the plugin's own text in a line of dockerd's log; false: the line is not the plugin's.
func pluginLine(line string) (string, bool) {
	m := ofPlugin.FindStringSubmatch(line)
	if m == nil {
		return "", false
	}
	if said, err := strconv.Unquote(m[1]); err == nil {
		return said, true
	}
	return m[1], true
}

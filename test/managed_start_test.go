package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestManagedStart: a managed plugin that cannot start says why in a place where users find it, and leaves nothing behind.
func TestManagedStart(t *testing.T) {
	h := newManaged(t, "managedstart", "--vtep", "127.0.0.1")
	h.startDaemon(t)
	h.stopDaemon(t, "TERM")
	clean := h.remains(t)
	good := h.docker(t, "plugin", "inspect", "-f", `{{join .Settings.Args " "}}`, "tapestry")
	errorFile := h.stateDir(t) + "/error"

	// fails enables the plugin, which must fail, and returns the texts of docker, of dockerd's log and of the error file.
	fails := func(t *testing.T) (said, log, file string) {
		t.Helper()
		from := h.mark()
		said = h.dockerRefuses(t, "plugin", "enable", "tapestry")
		if strings.Contains(said, "dial unix") { // its process has run
			h.gaveUp(t)
		}
		testhost.Eventually(t, patience, func() error {
			if got := h.remains(t); !slices.Equal(got, clean) {
				return fmt.Errorf("left are %q, before there were %q", got, clean)
			}
			return nil
		})
		if got := h.docker(t, "plugin", "inspect", "-f", "{{.Enabled}}", "tapestry"); got != "false" {
			t.Errorf("the plugin is enabled: %s", got)
		}
		text, err := os.ReadFile(errorFile)
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		return said, strings.Join(h.since(t, "dockerd.log", from.dockerd), "\n"), string(text)
	}
	// works enables the plugin, and uses it.
	works := func(t *testing.T) {
		t.Helper()
		h.startDaemon(t)
		if _, err := os.Stat(errorFile); !os.IsNotExist(err) {
			t.Errorf("it runs, and the file of errors: %v", err)
		}
		h.docker(t, "network", "create", "-d", h.driver(), "again")
		h.docker(t, "network", "rm", "again")
		h.stopDaemon(t, "TERM")
	}

	t.Run("plugin.sh", func(t *testing.T) {
		root, _ := tree()
		create := []string{root + "/packaging/plugin.sh", "create", "tapestry"}
		text, err := os.ReadFile(create[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			command  []string
			sentence string
		}{
			{create, "this Docker has a plugin tapestry already"},
			{append([]string{"env", "DOCKER_HOST=unix:///run/none.sock"}, create...), "Docker does not answer: "},
			// The file's text is passed, not its path, which may lead through a directory that only root can read.
			{append([]string{"setpriv", "--reuid", "65534", "--clear-groups", "bash", "-c", string(text), "/plugin.sh"}, create[1:]...), "run this as root"},
		} {
			out, err := h.try(tt.command...)
			if err == nil || !strings.Contains(err.Error(), tt.sentence) {
				t.Errorf("%.100q: it said %v%s", tt.command, err, out)
			}
		}
		dir := h.dir + "/twice"
		h.in(t, create[0], "build", dir)
		if files := h.in(t, "find", dir, "-type", "f"); strings.TrimSpace(files) == "" || len(strings.Fields(files)) != 2 {
			t.Errorf("the plugin's files are %s", files)
		}
		h.docker(t, "plugin", "create", "one", dir)
		if said := h.dockerRefuses(t, "plugin", "create", "two", dir); !strings.Contains(said, "already exists") {
			t.Errorf("the same files under another name: %s", said) // plugin.sh looks for these words
		}
		h.docker(t, "plugin", "rm", "one")
	})

	for _, bad := range []struct{ args, sentence string }{
		{"--no-such-flag", "no flag --no-such-flag"},
		{"--name other", "--name"},
	} {
		t.Run(bad.args, func(t *testing.T) {
			h.docker(t, "plugin", "set", "tapestry", "args="+bad.args)
			said, log, file := fails(t)
			t.Log(said)
			if !strings.Contains(file, bad.sentence) || strings.Count(file, "\n") != 1 {
				t.Errorf("the file says: %s", file)
			}
			if _, sentence, _ := strings.Cut(strings.TrimSpace(file), " "); !strings.Contains(log, strings.ReplaceAll(sentence, `"`, `\"`)) {
				t.Errorf("dockerd's log does not say so: %s", log)
			}
			h.docker(t, "plugin", "set", "tapestry", "args="+good)
			works(t)
		})
	}

	t.Run("an empty argument is none", func(t *testing.T) {
		h.docker(t, "plugin", "set", "tapestry", "args=")
		h.docker(t, "plugin", "enable", "tapestry")
		testhost.Eventually(t, patience, func() error { _, err := h.try("tapestry", "status"); return err })
		h.docker(t, "plugin", "disable", "tapestry")
		works(t)
	})

	t.Run("a damaged record", func(t *testing.T) {
		h.startDaemon(t)
		h.docker(t, "network", "create", "-d", h.driver(), "kept")
		h.stopDaemon(t, "TERM")
		records, err := filepath.Glob(h.stateDir(t) + "/networks/*.json")
		if err != nil || len(records) != 1 {
			t.Fatalf("records %q, %v", records, err)
		}
		h.in(t, "sh", "-ec", `cp "$1" "$2"; head -c 30 "$2" >"$1"`, "sh", records[0], h.dir+"/whole")
		if _, _, file := fails(t); !strings.Contains(file, filepath.Base(records[0])) {
			t.Errorf("the file says: %s", file)
		}
		h.in(t, "cp", h.dir+"/whole", records[0])
		h.startDaemon(t)
		h.docker(t, "network", "rm", "kept")
		h.stopDaemon(t, "TERM")
	})

	t.Run("no /dev/net/tun", func(t *testing.T) {
		h.in(t, "mount", "-t", "tmpfs", "none", "/dev/net")
		said, _, _ := fails(t)
		h.in(t, "umount", "/dev/net")
		if !strings.Contains(said, "/dev/net/tun") {
			t.Errorf("the user reads: %s", said)
		}
		works(t)
	})

	t.Run("the UDP port is taken", func(t *testing.T) {
		h.startDaemon(t)
		h.quiet(t, "request refused", "returned error")
		h.in(t, "sh", "-ec", "ip link add vxlan9 type vxlan id 9 dstport 4789 local 127.0.0.1 dev lo; ip link set vxlan9 up")
		said := h.dockerRefuses(t, "network", "create", "-d", h.driver(), "-o", "tapestry.vni=80", "wide")
		if !strings.Contains(said, "4789") {
			t.Errorf("the user reads: %s", said)
		}
		h.in(t, "ip", "link", "del", "vxlan9")
		h.docker(t, "network", "create", "-d", h.driver(), "-o", "tapestry.vni=80", "wide")
		h.docker(t, "network", "rm", "wide")
		h.stopDaemon(t, "TERM")
	})

	const twice = "runs on this host already"
	t.Run("a tapestry of the host runs already", func(t *testing.T) {
		unit := *h
		unit.managed = false
		unit.startDaemon(t)
		alone := clean
		clean = h.remains(t) // the other's are left
		if _, _, file := fails(t); !strings.Contains(file, twice) {
			t.Errorf("the file says: %s", file)
		}
		clean = alone
		unit.stopDaemon(t, "TERM")
		works(t)
	})
	t.Run("the plugin runs already", func(t *testing.T) {
		h.startDaemon(t)
		out, err := h.try("timeout", "120", "tapestry", "run", "--state-dir", h.dir+"/state")
		if err == nil || !strings.Contains(err.Error(), twice) {
			t.Errorf("it said %v%s", err, out)
		}
		h.tapestry(t, "status")
		h.stopDaemon(t, "TERM")
	})

	t.Run("attach=tap is refused", func(t *testing.T) {
		h.startDaemon(t)
		h.quiet(t, "request refused", "returned error")
		said := h.dockerRefuses(t, "network", "create", "-d", h.driver(), "-o", "tapestry.attach=tap", "bad")
		if !strings.Contains(said, "CAP_SYS_ADMIN") {
			t.Errorf("the user reads: %s", said)
		}
		said = h.dockerRefuses(t, "network", "create", "-d", h.driver(), "--subnet", "10.77.0.0/24", "-o", "tapestry.host=on", "bad")
		if !strings.Contains(said, "managed plugin") {
			t.Errorf("the user reads: %s", said)
		}
		h.stopDaemon(t, "TERM")
	})
}

// gaveUp waits until Docker no longer tries to start a plugin that has failed. When its process ends Docker starts another one, and waits
// for that one's socket, longer than docker plugin enable takes. If there is none it ends what runs as this plugin by then, even if that
// was started since. Until then the directory for the socket exists.
func (h *Host) gaveUp(t *testing.T) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		if left := h.in(t, "find", "/run/docker/plugins", "-mindepth", "1", "-maxdepth", "1", "-type", "d"); left != "" {
			return fmt.Errorf("Docker still tries to start %s", left)
		}
		return nil
	})
}

var ofTapestry = regexp.MustCompile(`^(tpv|tpc|tpt)`)

// remains are what a plugin that does not run could have left: links, sockets, processes.
func (h *Host) remains(t *testing.T) (all []string) {
	t.Helper()
	for _, link := range strings.Fields(h.in(t, "ls", "/sys/class/net")) {
		if ofTapestry.MatchString(link) {
			all = append(all, "link "+link)
		}
	}
	for _, line := range strings.Fields(h.in(t, "sh", "-c", "find /run/docker/plugins /run/tapestry -type s 2>/dev/null; grep -o '@tapestry.*' /proc/net/unix; true")) {
		all = append(all, "socket "+line)
	}
	for _, line := range strings.Fields(h.in(t, "sh", "-c", "for p in /proc/[0-9]*; do readlink $p/exe; done | grep '/tapestry$'; true")) {
		all = append(all, "process "+line)
	}
	return all
}

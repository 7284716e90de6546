package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// text is the content of a file, by its path from the root.
func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section is the text below a headline of a Markdown file.
func section(t *testing.T, path, headline string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text(t, path), "\n## "+headline+"\n")
	if !ok {
		t.Fatalf("%s has no section %s", path, headline)
	}
	before, _, _ := strings.Cut(rest, "\n## ")
	return before
}

// TestDocsVerdicts: docs/design.md has the number of drop verdicts; the references have the name and the meaning of each, and
// docs/drops.md what it comes from and what to do, and nothing that is not there.
func TestDocsVerdicts(t *testing.T) {
	drops := (&vswitch.Tally{}).Drops()
	words := []string{5: "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "twenty-one", "twenty-two", "twenty-three", "twenty-four"}
	if want := words[len(drops)] + " others drop"; !strings.Contains(text(t, "docs/design.md"), want) {
		t.Errorf("docs/design.md does not say %q: there are %d reasons", want, len(drops))
	}
	for name := range drops {
		v, _ := vswitch.ParseVerdict(name)
		for file, row := range map[string]string{"docs/json.md": "| " + name + " | " + v.Meaning() + " |",
			"docs/drops.md": "| `" + name + "` | " + v.Meaning() + " | " + v.Cause() + " | " + v.Advice() + " |\n"} {
			if !strings.Contains(text(t, file), "\n"+row) {
				t.Errorf("%s does not have the row %q", file, row)
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(text(t, "docs/drops.md"), -1) {
		if _, ok := drops[m[1]]; !ok {
			t.Errorf("docs/drops.md explains %s, which is no reason", m[1])
		}
	}
}

// TestDocsTree: CONTRIBUTING shows every room, and nothing that is not there.
func TestDocsTree(t *testing.T) {
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^    ([a-z/-]+)/ +\S`).FindAllStringSubmatch(section(t, "CONTRIBUTING.md", "The tree"), -1) {
		shown[m[1]] = true
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("CONTRIBUTING.md shows %s/: %v", m[1], err)
		}
	}
	for room := range rooms {
		if !shown[room] {
			t.Errorf("CONTRIBUTING.md does not show %s/", room)
		}
	}
}

// TestDocsRooms: docs/design.md says of every room what it is.
func TestDocsRooms(t *testing.T) {
	design := text(t, "docs/design.md")
	for room := range rooms {
		if !regexp.MustCompile("(?m)^\\| (`[a-z/-]+`, )*`" + room + "`(, `[a-z/-]+`)* \\|").MatchString(design) {
			t.Errorf("no table of docs/design.md has a row for %s", room)
		}
	}
}

// TestDocsNotYet: no option that the commands have is said to be missing.
func TestDocsNotYet(t *testing.T) {
	for _, m := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(section(t, "docs/design.md", "Not yet"), -1) {
		files, err := filepath.Glob("../cmd/tapestry*/*.go")
		if err != nil || len(files) < 10 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for _, file := range files {
			if strings.Contains(text(t, strings.TrimPrefix(file, "../")), fmt.Sprintf("%q", m[1])) {
				t.Errorf("docs/design.md says that --%s is not there yet, but %s has it", m[1], file)
			}
		}
	}
}

// TestDocsRows: each row that a test names is in the checklist, and each row there is named by a test.
func TestDocsRows(t *testing.T) {
	listed, cited := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(text(t, "docs/driver.md"), -1) {
		listed[fmt.Sprintf("row%02s", m[1])] = true
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file == "docs_test.go" {
			continue
		}
		for _, row := range regexp.MustCompile(`\brow\d\d\b`).FindAllString(text(t, "test/"+file), -1) {
			cited[row] = true
		}
	}
	if len(cited) < 40 {
		t.Fatalf("%d rows are cited", len(cited))
	}
	for _, row := range slices.Sorted(maps.Keys(cited)) {
		if !listed[row] {
			t.Errorf("a test proves %s, which docs/driver.md does not list", row)
		}
	}
	for _, row := range slices.Sorted(maps.Keys(listed)) {
		if !cited[row] {
			t.Errorf("docs/driver.md lists %s, which no test proves", row)
		}
	}
}

// TestDocsDissector: SECURITY says which rooms of the daemon use gopacket, an unmaintained library, on untrusted bytes.
func TestDocsDissector(t *testing.T) {
	_, about, ok := strings.Cut(text(t, "SECURITY.md"), "**Hostile bytes**")
	if !ok {
		t.Fatal("SECURITY.md says nothing of hostile bytes")
	}
	about, _, _ = strings.Cut(about, "\n- ")
	for room, r := range rooms {
		if room == "capture/dissect" || strings.HasPrefix(room, "test/") || !slices.Contains(r.foreign, "github.com/google/gopacket") {
			continue
		}
		if !strings.Contains(about, "gopacket") || !strings.Contains(about, "`"+room+"`") {
			t.Errorf("SECURITY.md does not say that %s, which is in the daemon, uses gopacket: %s", room, about)
		}
	}
}

// TestDocsTargets: CONTRIBUTING lists each make target that tests something, and which of them need root, as the Makefile does.
func TestDocsTargets(t *testing.T) {
	told := map[string]string{} // what it needs
	for _, m := range regexp.MustCompile("(?m)^\\| `make ([a-z0-9-]+)[^|]*\\|[^|]*\\|([^|]*)\\|").FindAllStringSubmatch(section(t, "CONTRIBUTING.md", "Build and test"), -1) {
		told[m[1]] = m[2]
	}
	makefile := text(t, "Makefile")
	_, phony, _ := strings.Cut(makefile, ".PHONY: ")
	phony, _, _ = strings.Cut(strings.ReplaceAll(phony, "\\\n", ""), "\n")
	other := []string{"install", "uninstall", "clean", "release", "demo", "deps", "cross", "plugin", "plugin-push"}
	for _, target := range strings.Fields(phony) {
		needs, ok := told[target]
		if !ok {
			if !slices.Contains(other, target) {
				t.Errorf("CONTRIBUTING.md does not tell of make %s", target)
			}
			continue
		}
		line := regexp.MustCompile(`(?m)^` + target + `:.*$`).FindString(makefile)
		if root := strings.Contains(line, "as root"); root != strings.Contains(needs, "root") {
			t.Errorf("make %s needs %q in CONTRIBUTING.md, the Makefile says %q", target, strings.TrimSpace(needs), line)
		}
	}
}

// TestDocsPlugin: docs/plugin.md explains each right that the managed plugin's config.json requests, and no other.
func TestDocsPlugin(t *testing.T) {
	var config struct {
		Entrypoint []string
		Args       struct {
			Name     string
			Settable []string
		}
		Env     []struct{ Name, Value string }
		Network struct{ Type string }
		Linux   struct {
			Capabilities    []string
			AllowAllDevices bool
			Devices         []struct{ Path string }
		}
		Mounts           []any
		PropagatedMount  string
		IpcHost, PidHost bool
	}
	d := json.NewDecoder(strings.NewReader(text(t, "packaging/plugin/config.json")))
	if err := d.Decode(&config); err != nil {
		t.Fatal(err)
	}
	if len(config.Mounts) != 0 || config.Linux.AllowAllDevices || config.IpcHost || config.PidHost || len(config.Linux.Capabilities) != 1 || len(config.Linux.Devices) != 1 {
		t.Errorf("it asks for more than docs/plugin.md argues for: %+v", config)
	}
	if len(config.Entrypoint) < 2 || !slices.Equal(config.Entrypoint[:2], []string{"/tapestry", "run"}) || !slices.Equal(config.Args.Settable, []string{"value"}) {
		t.Errorf("entrypoint %q, args %+v", config.Entrypoint, config.Args)
	}
	about := section(t, "docs/plugin.md", "What it may do, and why")
	for _, want := range []string{"network `" + config.Network.Type + "`", "`" + config.Linux.Capabilities[0] + "`", "`" + config.Linux.Devices[0].Path + "`",
		"`" + config.PropagatedMount + "`", "`" + config.Args.Name + "`", "`" + config.Env[0].Name + "`"} {
		if !strings.Contains(about, want) {
			t.Errorf("docs/plugin.md does not argue for %s", want)
		}
	}
	settings := section(t, "docs/plugin.md", "Settings")
	for i := 2; i+1 < len(config.Entrypoint); i += 2 {
		if want := "`" + config.Entrypoint[i] + " " + config.Entrypoint[i+1] + "`"; config.Entrypoint[i] != "--api-socket" && !strings.Contains(settings, want) {
			t.Errorf("docs/plugin.md does not tell of %s", want)
		}
	}
	if !strings.HasPrefix(config.Env[0].Value, config.PropagatedMount+"/") {
		t.Errorf("the reason of a failed start goes to %s, which does not last", config.Env[0].Value)
	}
}

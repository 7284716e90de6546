package test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Who may import whom, and which foreign packages belong to which room. docs/design.md
// draws it. A new room needs a line here.
var rooms = map[string]struct{ ours, foreign []string }{
	"ether":               {},
	"offload":             {},
	"poll":                {foreign: []string{"golang.org/x/sys"}},
	"switch":              {ours: []string{"ether"}},
	"tap":                 {ours: []string{"ether", "offload"}, foreign: []string{"github.com/songgao/water", "github.com/vishvananda", "golang.org/x/sys"}},
	"tunnel":              {ours: []string{"ether", "offload"}, foreign: []string{"github.com/google/gopacket", "github.com/vishvananda/netlink", "golang.org/x/sys"}},
	"fault":               {ours: []string{"ether", "switch"}},
	"vlan":                {ours: []string{"ether", "switch"}},
	"capture":             {ours: []string{"capture/pcapng", "ether", "switch"}, foreign: []string{"golang.org/x/sys"}},
	"capture/dissect":     {ours: []string{"capture/pcapng", "ether"}, foreign: []string{"github.com/google/gopacket"}},
	"capture/file":        {ours: []string{"capture/pcapng"}, foreign: []string{"github.com/klauspost/compress/zstd", "golang.org/x/sys"}},
	"capture/filter":      {ours: []string{"capture/pcapng", "ether", "spell"}},
	"capture/flow":        {ours: []string{"ether", "switch"}},
	"capture/pcapng":      {ours: []string{"ether"}},
	"cluster":             {ours: []string{"ether"}},
	"cluster/conformance": {ours: []string{"cluster", "ether", "test/testhost"}},
	"cluster/etcd":        {ours: []string{"cluster"}, foreign: []string{"go.etcd.io/etcd", "go.uber.org/zap", "google.golang.org/grpc"}},
	"cluster/gossip":      {ours: []string{"cluster"}, foreign: []string{"github.com/hashicorp/memberlist"}},
	"cluster/static":      {ours: []string{"cluster"}},
	"cluster/member":      {ours: []string{"cluster", "fabric", "fabric/state", "fabric/vtep", "tunnel"}},
	"cluster/swarm":       {ours: []string{"cluster"}},
	"ipam":                {ours: []string{"cluster", "fabric/state"}},
	"fabric":              {ours: []string{"cluster", "ether", "events", "fabric/guard", "fabric/links", "fabric/lookup", "fabric/neighbour", "fabric/paths", "fabric/state", "fabric/swarm", "fabric/view", "fabric/vtep", "fault", "offload", "poll", "switch", "tap", "tunnel", "vlan"}, foreign: []string{"golang.org/x/sys"}},
	"fabric/links":        {ours: []string{"ether", "offload", "poll", "switch", "tap"}},
	"fabric/guard":        {ours: []string{"fabric/neighbour", "fabric/state", "fabric/view", "switch"}},
	"fabric/lookup":       {},
	"fabric/neighbour":    {ours: []string{"cluster", "ether", "fabric/state", "switch"}},
	"fabric/paths":        {ours: []string{"ether", "tunnel"}},
	"fabric/view":         {ours: []string{"ether", "fabric/state", "offload", "switch", "tunnel"}, foreign: []string{"golang.org/x/sys"}},
	"fabric/swarm":        {ours: []string{"ether", "fabric/state"}},
	"fabric/vtep":         {ours: []string{"fabric/view", "poll", "tunnel"}, foreign: []string{"golang.org/x/sys"}},
	"fabric/state":        {ours: []string{"cluster", "ether", "tap", "tunnel"}, foreign: []string{"github.com/google/renameio/v2"}},
	"plugin":              {ours: []string{"cluster", "ether", "fabric", "fabric/guard", "fabric/lookup", "fault", "ipam", "spell", "tap", "tunnel", "vlan"}, foreign: []string{"github.com/docker/go-plugins-helpers/ipam", "github.com/docker/go-plugins-helpers/network"}},
	"spell":               {},
	"api":                 {ours: []string{"ether"}, foreign: []string{"golang.org/x/sys"}},
	"daemon":              {ours: []string{"api", "capture", "capture/filter", "capture/pcapng", "cluster", "cluster/etcd", "cluster/gossip", "cluster/member", "cluster/static", "cluster/swarm", "ether", "events", "fabric", "fabric/view", "fault", "ipam", "metrics", "plugin", "poll", "switch", "tap", "tunnel"}, foreign: []string{"golang.org/x/sync", "golang.org/x/sys"}},
	"events":              {},
	"metrics":             {foreign: []string{"github.com/prometheus/client_golang"}},
	"cmd/exit":            {},
	"cmd/human":           {foreign: []string{"golang.org/x/sys"}},
	"cmd/usage":           {ours: []string{"cmd/exit", "spell"}, foreign: []string{"github.com/spf13"}},
	"client":              {ours: []string{"api", "capture/pcapng", "cmd/exit"}, foreign: []string{"golang.org/x/sys"}},
	"docker":              {ours: []string{"api", "capture", "capture/filter", "capture/pcapng", "client", "cmd/exit", "cmd/human", "spell", "switch"}},
	"resolver":            {ours: []string{"api", "client", "docker"}, foreign: []string{"github.com/miekg/dns", "golang.org/x/net/netutil"}},
	"doctor":              {ours: []string{"api", "client", "cmd/exit", "cmd/human", "docker", "ether", "fabric", "plugin", "tap", "tunnel"}, foreign: []string{"golang.org/x/sys"}},
	"capture/show":        {ours: []string{"api", "capture", "capture/dissect", "capture/file", "capture/flow", "capture/pcapng", "cmd/exit", "cmd/human", "ether", "switch"}},
	"capture/extcap":      {ours: []string{"api", "client", "cmd/exit", "docker"}},
	"capture/session":     {ours: []string{"api", "capture", "capture/file", "capture/filter", "capture/pcapng", "capture/show", "client", "cmd/exit", "cmd/human", "docker"}},
	"trace":               {ours: []string{"api", "capture", "capture/pcapng", "capture/show", "client", "cmd/exit", "cmd/human", "docker", "ether", "switch"}},
	"cmd/tapestry":        {ours: []string{"api", "capture/extcap", "capture/pcapng", "capture/session", "capture/show", "client", "cmd/exit", "cmd/human", "cmd/usage", "daemon", "docker", "doctor", "fabric", "fault", "plugin", "resolver", "spell", "trace", "tunnel"}, foreign: []string{"github.com/spf13"}},
	"cmd/tapestry-bench":  {ours: []string{"bench", "bench/report", "bench/results", "bench/scale", "bench/traffic", "cmd/exit", "cmd/human", "cmd/usage"}, foreign: []string{"github.com/spf13"}},
	"test/fake":           {ours: []string{"api", "capture", "capture/pcapng", "client", "daemon", "ether", "fabric", "fault", "plugin", "switch", "tap", "test/packets", "test/testhost"}},
	"test/packets":        {foreign: []string{"github.com/google/gopacket"}},
	"test/testhost":       {foreign: []string{"github.com/vishvananda/netns", "go.uber.org/goleak", "golang.org/x/sys"}},
	"bench/traffic":       {ours: []string{"ether"}, foreign: []string{"github.com/vishvananda/netlink", "golang.org/x/sys"}},
	"bench/results":       {},
	"bench/report":        {ours: []string{"bench/results"}, foreign: []string{"codeberg.org/go-fonts/liberation", "github.com/google/renameio/v2", "golang.org/x/image/font", "gonum.org/v1/plot"}},
	"bench/bed":           {ours: []string{"bench/results", "bench/traffic", "ether", "poll", "switch", "tap", "tunnel"}, foreign: []string{"github.com/prometheus/client_golang", "github.com/vishvananda/netlink", "golang.org/x/sys"}},
	"bench/scale":         {ours: []string{"bench/results", "bench/traffic", "cluster", "cluster/etcd", "cluster/gossip", "ether", "switch", "tunnel"}, foreign: []string{"github.com/hashicorp/go-msgpack/v2", "golang.org/x/sys"}},
	"bench":               {ours: []string{"bench/bed", "bench/results", "bench/traffic"}},
	"test":                {},
}

const module = "github.com/tapestry-net/tapestry/"

func TestArrows(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		room, ok := rooms[name]
		if !ok {
			t.Errorf("package %s is not in the table of rooms: a new room needs a line in this test and in docs/design.md", name)
			continue
		}
		seen++
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, module); ok {
				if !slices.Contains(room.ours, ours) {
					t.Errorf("%s imports %s: the arrows go downward only", name, ours)
				}
			} else if strings.Contains(imp, ".") && !slices.ContainsFunc(room.foreign, func(f string) bool { return imp == f || strings.HasPrefix(imp, f+"/") }) {
				t.Errorf("%s imports %s, which belongs to another room", name, imp)
			}
		}
	}
	if seen != len(rooms) {
		t.Errorf("go list showed %d rooms of %d", seen, len(rooms))
	}
	for room := range rooms {
		if _, err := os.Stat("../" + room); err != nil {
			t.Errorf("room %s: %v", room, err)
		}
	}
}

// The daemon imports neither the Docker client nor what commands are made of, not even indirectly.
func TestDaemonAlone(t *testing.T) {
	all := deps(t, "./daemon")
	if !slices.Contains(all, module+"fabric") {
		t.Fatalf("go list shows no fabric among %d packages", len(all))
	}
	for _, dep := range all {
		room, ours := strings.CutPrefix(dep, module)
		if ours && (slices.Contains([]string{"docker", "client", "doctor", "resolver", "trace", "capture/show", "capture/session", "capture/dissect", "capture/flow"}, room) ||
			strings.HasPrefix(room, "cmd/")) || strings.Contains(dep, "spf13/") {
			t.Errorf("the daemon imports %s", dep)
		}
	}
}

// TestSizes: a file has at most 400 lines, and a room at most 3,500 without its tests.
func TestSizes(t *testing.T) {
	const file, maxRoom = 400, 3500
	for room := range rooms {
		paths, err := filepath.Glob("../" + room + "/*.go")
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s has %d files, %v", room, len(paths), err)
		}
		sum := 0
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			n := bytes.Count(b, []byte("\n"))
			if n > file {
				t.Errorf("%s has %d lines", path, n)
			}
			if !strings.HasSuffix(path, "_test.go") {
				sum += n
			}
		}
		if sum > maxRoom {
			t.Errorf("%s has %d lines without its tests", room, sum)
		}
	}
}

// The binary that a daemon runs from, often as root, links no plots, no fonts and no LaTeX: they are in tapestry-bench only.
func TestNoPlotsInTapestry(t *testing.T) {
	plots := func(dep string) bool {
		return slices.ContainsFunc([]string{"gonum.org/", "codeberg.org/", "golang.org/x/image/", "git.sr.ht/", "github.com/ajstarks/", "github.com/golang/freetype"},
			func(from string) bool { return strings.HasPrefix(dep, from) })
	}
	if !slices.ContainsFunc(deps(t, "./cmd/tapestry-bench"), plots) {
		t.Error("tapestry-bench has no plots either: this test looks for the wrong packages")
	}
	for _, dep := range deps(t, "./cmd/tapestry") {
		if plots(dep) || strings.HasPrefix(dep, module+"bench") {
			t.Errorf("tapestry links %s", dep)
		}
	}
}

// deps are the packages that a package imports, directly or not.
func deps(t *testing.T, of string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", of)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

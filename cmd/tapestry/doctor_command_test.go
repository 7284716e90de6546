package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/doctor"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"
)

var all = tap.TUN{Header: true, Csum: true, TSO: true, USO: true, Tunnels: true}

// healthyMachine is a machine on which everything works, with no file but those that a test puts below root.
func healthyMachine(t *testing.T) doctor.Machine {
	vtep := netip.MustParseAddr("192.0.2.1")
	return doctor.Machine{Root: t.TempDir(), TUN: func() (tap.TUN, error) { return all, nil },
		Veth: func() error { return nil }, Redirect: func() error { return nil },
		Sockets: func() (tunnel.Sockets, error) { return tunnel.Sockets{}, nil },
		Bind:    func(netip.AddrPort) error { return nil }, PortUser: func(uint16) string { return "" },
		DefaultAddr:  func() (netip.Addr, error) { return vtep, nil },
		LinkWithAddr: func(netip.Addr) (net.Interface, error) { return net.Interface{Name: "eth0", MTU: 1500}, nil },
		Underlay:     func(netip.Addr) (tunnel.Path, error) { return tunnel.Path{Link: "eth0", MTU: 1500}, nil },
		Path:         func(_, _ netip.Addr) (tunnel.Path, error) { return tunnel.Path{Link: "eth0", MTU: 1500}, nil },
		Link:         func(name string) (*net.Interface, error) { return &net.Interface{Name: name, MTU: 1500}, nil },
		Statfs:       func(string) (unix.Statfs_t, error) { return unix.Statfs_t{Bsize: 1, Bfree: 1e9}, nil }}
}

// Docker with the nftables backend makes no docker_gwbridge while nothing forwards.
func TestDoctorFirewall(t *testing.T) {
	for backend, want := range map[string]string{`{}`: doctor.OK, `{"FirewallBackend":{"Driver":"iptables"}}`: doctor.OK, `{"FirewallBackend":{"Driver":"nftables"}}`: doctor.Fail} {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) })
		mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(backend)) })
		t.Setenv("DOCKER_HOST", "unix://"+fake.ServeUnix(t, "docker.sock", mux))
		m := healthyMachine(t)
		writeSysctl(t, m, "net/ipv4/ip_forward", "0")
		m.Link = func(name string) (*net.Interface, error) { return nil, errors.New("no such link") }
		_, found, _ := runDoctor(t, m)
		got := ""
		for _, f := range found {
			if f.Check == "ip_forward" {
				got = f.State
			}
		}
		if got != want {
			t.Errorf("%s: ip_forward is %q, want %q", backend, got, want)
		}
	}
}

// writeSysctl writes a kernel setting of m.
func writeSysctl(t *testing.T, m doctor.Machine, name, text string) {
	t.Helper()
	path := filepath.Join(m.Root, "proc/sys", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runDoctor runs doctor on a machine and gives its exit code, its findings, and what it says without --json.
func runDoctor(t *testing.T, m doctor.Machine, args ...string) (int, []doctor.Finding, string) {
	t.Helper()
	plugins := t.TempDir()
	if i := slices.Index(args, "--plugin-dir"); i >= 0 {
		plugins = args[i+1]
	} else {
		args = append(args, "--plugin-dir", plugins, "--state-dir", t.TempDir())
	}
	run := func(args ...string) (int, string) {
		c := &cli{Client: &client.Client{SearchPaths: client.SearchPaths{PluginDir: plugins}}}
		cmd := newDoctor(c, m)
		cmd.Flags().StringVar(&c.Socket, "api-socket", "", "")
		var out strings.Builder
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		return exit.Code(cmd.ExecuteContext(t.Context())), out.String()
	}
	var found []doctor.Finding
	code, text := run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	again, text := run(args...)
	if again != code {
		t.Errorf("exit %d with --json and %d without", code, again)
	}
	return code, found, text
}

// states returns the worst state of each check.
func states(found []doctor.Finding) map[string]string {
	worst, m := []string{doctor.OK, doctor.Warn, doctor.Fail}, map[string]string{}
	for _, f := range found {
		if slices.Index(worst, f.State) >= slices.Index(worst, m[f.Check]) {
			m[f.Check] = f.State
		}
	}
	return m
}

func TestDoctorWithoutDaemon(t *testing.T) {
	m := healthyMachine(t)
	writeSysctl(t, m, "net/bridge/bridge-nf-call-iptables", "1")
	dead := filepath.Join(t.TempDir(), "dead.sock")
	code, found, text := runDoctor(t, m, "--api-socket", dead, "--docker-host", fake.Docker(t))
	if s := states(found); code != exit.OK || s["tun"] != doctor.OK || s["tc"] != doctor.OK || s["daemon"] != doctor.Warn || s["networks"] != "" {
		t.Errorf("exit %d, %v", code, s)
	}
	for _, want := range []string{"ok    tun          /dev/net/tun makes TAPs", "warn  daemon       does not run\n                   → no daemon answers at " + dead, " warn, 0 fail\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}

	m.TUN = func() (tap.TUN, error) { return tap.TUN{}, unix.ENOENT }
	_, found, _ = runDoctor(t, m, "--api-socket", dead, "--docker-host", fake.Docker(t))
	if s := states(found); s["tun"] != doctor.Fail || s["veth"] != doctor.OK || s["tc"] != "" {
		t.Errorf("without tun: %v", s)
	}
	m.TUN = healthyMachine(t).TUN
	m.Veth = func() error { return unix.EOPNOTSUPP }
	code, found, text = runDoctor(t, m, "--api-socket", dead, "--docker-host", fake.Docker(t))
	if s := states(found); code != exit.Failure || s["veth"] != doctor.Fail || s["tc"] != "" || !strings.Contains(text, " 1 fail\n") {
		t.Errorf("without veth: exit %d, %v\n%s", code, s, text)
	}
	if code, _, _ := runDoctor(t, healthyMachine(t), "--api-socket", dead, "--docker-host", "unix:///nonexistent"); code != exit.OK {
		t.Errorf("without Docker: exit %d, want %d: it is a warning", code, exit.OK)
	}
}

func TestDoctorWithDaemon(t *testing.T) {
	m := healthyMachine(t)
	code, found, _ := runDoctor(t, m, "--api-socket", fake.Daemon(t, fake.NewFabric()), "--docker-host", fake.Docker(t))
	s := states(found)
	// The fake host has a network whose port is taken, a rival, a peer that was never heard and one that mangles.
	if code != exit.Failure || s["daemon"] != doctor.OK || s["networks"] != doctor.Fail || s["port"] != doctor.OK || s["mtu"] != doctor.OK || s["peers"] != doctor.Warn || s["selftest"] != doctor.Warn || s["offloads"] != doctor.Warn || s["received"] != doctor.Warn || s["rp_filter"] != doctor.OK {
		t.Errorf("exit %d, %v", code, s)
	}
	h := fake.NewFabric()
	h.Empty = true
	code, found, _ = runDoctor(t, m, "--api-socket", fake.Daemon(t, h), "--docker-host", fake.Docker(t, fake.DockerNetwork{Driver: "bridge"}))
	if s := states(found); code != exit.OK || s["networks"] != doctor.OK || s["peers"] != doctor.OK || s["offloads"] != doctor.OK || s["received"] != doctor.OK {
		t.Errorf("an idle daemon: exit %d, %v", code, s)
	}
	if keys := keysOfFindings(t, found); !slices.Equal(keys, slices.Sorted(slices.Values(fake.DocumentedKeys(t)["doctor"]))) {
		t.Errorf("doctor --json has %v, docs/json.md says otherwise", keys)
	}
}

// If the daemon does not answer one request, that is a finding, and the others are printed.
func TestDoctorWithMuteDaemon(t *testing.T) {
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, tt := range map[string]struct {
		path   string
		Answer http.HandlerFunc
		check  string
		state  string
		said   string
		code   int
	}{
		"of a version without tests":  {"/v1/peers/test", http.NotFound, "selftest", doctor.Warn, "not tested: the daemon does not understand this command (HTTP 404)", exit.OK},
		"dies over the tests":         {"/v1/peers/test", hangUp, "selftest", doctor.Warn, "not tested: what answers at", exit.OK},
		"dies over the networks":      {"/v1/networks", hangUp, "daemon", doctor.Fail, "does not answer any more: what answers at", exit.Failure},
		"dies over the ports":         {"/v1/ports", hangUp, "daemon", doctor.Fail, "does not answer any more", exit.Failure},
		"dies over the peers":         {"/v1/peers", hangUp, "daemon", doctor.Fail, "does not answer any more", exit.Failure},
		"dies over the second status": {"/v1/status", hangUp, "daemon", doctor.Fail, "does not answer any more", exit.Failure},
	} {
		t.Run(name, func(t *testing.T) {
			h := fake.NewFabric()
			h.Empty = true
			whole := (&daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel"}).Handler()
			var asked atomic.Int64 // the command asks many things at a time
			socket := fake.ServeUnix(t, "tapestry.sock", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				first := r.URL.Path == "/v1/status" && asked.Add(1)%2 == 1
				if r.URL.Path == tt.path && !first {
					tt.Answer(w, r)
					return
				}
				whole.ServeHTTP(w, r)
			}))
			code, found, _ := runDoctor(t, healthyMachine(t), "--api-socket", socket, "--docker-host", fake.Docker(t, fake.DockerNetwork{Driver: "bridge"}))
			told := slices.ContainsFunc(found, func(f doctor.Finding) bool {
				return f.Check == tt.check && f.State == tt.state && strings.Contains(f.Seen, tt.said) && f.Remedy == (docker.Supervisor{}).Restart()
			})
			if code != tt.code || !told {
				t.Errorf("exit %d, %+v", code, found)
			}
		})
	}
}

// When it is interrupted it prints the findings up to then, and says that it is not complete.
func TestDoctorInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := healthyMachine(t)
	m.Veth = func() error { cancel(); return nil }
	d := &doctor.Doctor{Client: &client.Client{Socket: filepath.Join(t.TempDir(), "dead.sock"), DockerHost: fake.Docker(t)}, Machine: m, Name: "tapestry", PluginDir: t.TempDir(), StateDir: t.TempDir()}
	var out strings.Builder
	err := diagnose(ctx, d, &out, true)
	var found []doctor.Finding
	if bad := json.Unmarshal([]byte(out.String()), &found); bad != nil || len(found) == 0 || err == nil || err.Error() != "interrupted" {
		t.Errorf("%v, %v, %s", err, bad, out.String())
	}
	if s := states(found); s["tun"] != doctor.OK || s["docker"] != "" {
		t.Errorf("%v", s)
	}
}

func keysOfFindings(t *testing.T, found []doctor.Finding) []string {
	t.Helper()
	text, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return fake.JSONKeys(v, "")
}

// The real machine: what tapestry needs is here, or there is a good reason.
func TestThisMachine(t *testing.T) {
	testhost.Root(t, "to try what the daemon does")
	dead := filepath.Join(t.TempDir(), "dead.sock")
	port := strconv.Itoa(int(testhost.UDPPort(t)))
	m := doctor.ThisMachine()
	redirect, sockets := m.Redirect, m.Sockets
	m.Redirect = func() (err error) { // on a busy machine a frame takes longer than it may
		for range 10 {
			if err = redirect(); err == nil {
				break
			}
		}
		return err
	}
	m.Sockets = func() (s tunnel.Sockets, err error) { // likewise
		for range 10 {
			if s, err = sockets(); err == nil && s.GSO == nil && s.GRO == nil {
				break
			}
		}
		return s, err
	}
	code, found, text := runDoctor(t, m, "--api-socket", dead, "--docker-host", "unix:///nonexistent", "--vtep", "127.0.0.1", "--vxlan-port", port)
	if code != exit.OK {
		t.Errorf("exit %d:\n%s", code, text)
	}
	justified := []string{"docker", "plugin", "daemon", "br_netfilter", "ip_forward", "buffers"} // not there in a test, or the machine's affair
	for _, f := range found {
		if f.State != doctor.OK && !slices.Contains(justified, f.Check) {
			t.Errorf("%+v", f)
		}
	}
	for _, name := range []string{"outer", "inner", "tapestry0"} { // other links come and go while this runs
		if _, err := net.InterfaceByName(name); err == nil {
			t.Errorf("it has left link %s", name)
		}
	}
}

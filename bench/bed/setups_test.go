package bed

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// setupCase is a setup and where it is tested.
type setupCase struct {
	name     string
	setup    Setup
	twoHosts bool
	optional bool // may be missing even with TAPESTRY_MUST=1: CI does not install it
}

func setupCases(binary string) []setupCase {
	agent := filepath.Join(filepath.Dir(binary), "tapestry-bench")
	wg, _ := filepath.Abs("../../bin/wireguard-go") // cannot fail: this is where tests run
	if _, err := os.Stat(wg); err != nil {
		wg, _ = exec.LookPath("wireguard-go")
	}
	return []setupCase{
		{"tapestry", Tapestry{binary}, false, false},
		{"tapestry, two hosts", Tapestry{binary}, true, false},
		{"kernel bridge", Kernel{}, false, false},
		{"kernel VXLAN", Kernel{true}, true, false},
		{"VDE", VDE{}, false, true},
		{"Open vSwitch", OpenVSwitch{}, true, true},
		{"wireguard-go", WireGuard{wg}, true, true},
		{"Docker bridge", &Docker{Driver: "bridge", Binary: binary, Agent: agent}, false, false},
		{"tapestry on Docker", &Docker{Driver: "tapestry", Binary: binary, Agent: agent}, false, false},
		{"Docker overlay", &Docker{Driver: "overlay", Binary: binary, Agent: agent}, true, false},
		{"tapestry on Docker, two hosts", &Docker{Driver: "tapestry", Binary: binary, Agent: agent}, true, false},
	}
}

// needBeds skips the test where no bed can be made, and returns the path of a tapestry, with a tapestry-bench in the same directory.
func needBeds(t *testing.T) (binary string) {
	t.Helper()
	if testing.Short() {
		t.Skip("beds take seconds each")
	}
	needRoot(t)
	binary = filepath.Join(t.TempDir(), "tapestry")
	build := exec.Command("go", "build", "-o", filepath.Dir(binary), "../../cmd/tapestry", "../../cmd/tapestry-bench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build tapestry: %v\n%s", err, out)
	}
	runtime.LockOSThread() // what a bed starts ends with the thread that started it
	t.Cleanup(runtime.UnlockOSThread)
	return binary
}

// needRoot skips the test where no node can be made.
func needRoot(t *testing.T) {
	t.Helper()
	if err := Ready(); err != nil {
		testhost.Cannot(t, err)
	}
}

// eachSetup runs a subtest for each setup. An optional one is left out where it is missing.
func eachSetup(t *testing.T, binary string, try func(t *testing.T, c setupCase)) {
	for _, c := range setupCases(binary) {
		why := c.setup.Missing()
		if why != "" && c.optional {
			t.Logf("%s is not tried: %s", c.name, why)
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if why != "" {
				testhost.Cannot(t, why)
			}
			try(t, c)
		})
	}
}

func TestSetups(t *testing.T) {
	binary := needBeds(t)
	eachSetup(t, binary, func(t *testing.T, c setupCase) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ctx := t.Context()
		began := time.Now()
		b := build(t, c.setup, c.twoHosts) // this pings over IPv4 and IPv6
		t.Logf("built in %.1f s", time.Since(began).Seconds())
		left := watch(t, b.traces())
		defer func() {
			b.Close()
			if left := left(); left != nil {
				t.Errorf("after close there are still %q", left)
			}
		}()
		for _, v6 := range []bool{false, true} {
			measured(t, func() error {
				r, err := b.Stream(ctx, 1, traffic.Forward, v6, 300*time.Millisecond)
				t.Logf("one TCP flow, IPv6 %v: %.2f Gb/s", v6, r.Value)
				return err
			})
		}
		measured(t, func() error {
			l, err := b.Echo(ctx, "tcp", 300*time.Millisecond)
			t.Logf("echo: %+v", l.P50)
			return err
		})
		if c.setup.Name() == results.Tapestry {
			if mb, err := b.hosts[0].rss(); err != nil || mb < 5 || mb > 500 {
				t.Errorf("RSS %v MB, %v", mb, err)
			} else {
				t.Logf("RSS %.1f MB", mb)
			}
		}
		if _, ok := c.setup.(*Docker); !ok || c.twoHosts {
			return
		}
		for _, external := range []bool{true, false, true, false} {
			measured(t, func() error {
				took, err := b.FirstPing(ctx, external)
				t.Logf("docker run to first ping, external %v: %v", external, took)
				if err == nil && took <= 0 {
					err = fmt.Errorf("the first ping took %v", took)
				}
				return err
			})
		}
	})
}

// build makes a bed, and as the bench does it tries again where a busy machine needs longer than Build waits.
func build(t *testing.T, s Setup, twoHosts bool) *Bed {
	t.Helper()
	for try := 1; ; try++ {
		b, err := Build(t.Context(), s, twoHosts)
		if err == nil {
			return b
		}
		if try == 4 {
			t.Fatal(err)
		}
		t.Log("tried again: ", err)
	}
}

// measured tries a measure as often as the bench does: on a busy machine nothing may have arrived in its time.
func measured(t *testing.T, measure func() error) {
	t.Helper()
	for try := 1; ; try++ {
		err := measure()
		if err == nil {
			return
		}
		if try == 4 {
			t.Error(err)
			return
		}
		t.Log("tried again: ", err)
	}
}

// A bench that is killed leaves nothing.
func TestKilledBenchLeavesNothing(t *testing.T) {
	binary := needBeds(t)
	eachSetup(t, binary, func(t *testing.T, c setupCase) {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "BED="+c.name, "TAPESTRY="+binary)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("no bed was built: %v", err)
		}
		left := watch(t, strings.Fields(line))
		cmd.Process.Kill()
		testhost.Eventually(t, testhost.Patience, func() error {
			if still := left(); still != nil {
				return fmt.Errorf("there are still %q", still)
			}
			return nil
		})
	})
}

// holdBed is the bench that TestKilledBenchLeavesNothing kills: it builds a bed, prints its traces, and waits.
func holdBed(binary, name string) {
	all := setupCases(binary)
	i := slices.IndexFunc(all, func(c setupCase) bool { return c.name == name })
	runtime.LockOSThread() // what a bed starts ends with the thread that started it
	b, err := Build(context.Background(), all[i].setup, all[i].twoHosts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(strings.Join(b.traces(), " "))
	select {}
}

// traces of a bed: paths of its network namespaces, and names of its cgroups.
func (b *Bed) traces() (all []string) {
	nodes := slices.Clone(b.containers)
	for _, h := range b.hosts {
		nodes = append(nodes, h.Node)
		if h.cleanUp != nil {
			all = append(all, "tapestry-bench-"+h.pid())
		}
	}
	for _, node := range nodes {
		path, ok := strings.CutPrefix(node.nsenter[0], "--net=")
		if !ok {
			path = "/proc/" + node.pid() + "/ns/net"
		}
		all = append(all, path)
	}
	return all
}

// watch returns a function that lists what is left of traces: processes in the namespaces, and cgroups. It keeps the
// namespaces open, so that no new one gets the same number.
func watch(t *testing.T, traces []string) (left func() []string) {
	t.Helper()
	var all []string // as readlink shows them
	for _, trace := range traces {
		if !strings.HasPrefix(trace, "/") {
			all = append(all, trace)
			continue
		}
		ns, err := os.Open(trace)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		info, err := ns.Stat()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("net:[%d]", info.Sys().(*syscall.Stat_t).Ino))
	}
	return func() (left []string) {
		t.Helper()
		processes, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range processes {
			if net, err := os.Readlink(p + "/ns/net"); err == nil && slices.Contains(all, net) {
				command, _ := os.ReadFile(p + "/cmdline") // empty if it ends now
				left = append(left, fmt.Sprintf("process %s in %s: %s", filepath.Base(p), net, command))
			}
		}
		err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && slices.Contains(all, d.Name()) {
				left = append(left, path)
			}
			return nil // other programs make and remove cgroups meanwhile
		})
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
}

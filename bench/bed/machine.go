package bed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// Describe describes this machine and the tapestry at path binary. wireguard is the path of wireguard-go, "" if there is none.
func Describe(ctx context.Context, binary, wireguard string) (results.Machine, error) {
	var m results.Machine
	out, err := exec.CommandContext(ctx, binary, "version", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil {
		return m, fmt.Errorf("ask %s for its version (`make build` makes it): %w", binary, err)
	}
	m.Cores = runtime.NumCPU()
	for path, to := range map[string]*string{"/proc/sys/kernel/osrelease": &m.Kernel, "/proc/loadavg": &m.Load} {
		text, err := os.ReadFile(path)
		if err != nil {
			return m, err
		}
		*to = strings.Fields(string(text))[0]
	}
	if name, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control"); err == nil { // otherwise it is unknown
		m.TCP = strings.TrimSpace(string(name))
	}
	m.Costs, _ = measureCosts() // what could not be measured is 0: unknown
	m.CPU = fieldOf("/proc/cpuinfo", "model name")
	if family, model := fieldOf("/proc/cpuinfo", "cpu family"), fieldOf("/proc/cpuinfo", "model"); m.CPU != "" && model != "" {
		m.CPU += ", family " + family + " model " + model // "AMD EPYC" alone is six generations
	}
	kib, _ := strconv.ParseFloat(strings.TrimSuffix(fieldOf("/proc/meminfo", "MemTotal"), " kB"), 64) // 0: unknown
	m.MemoryMB = kib * 1024 / 1e6
	for program, to := range map[string]*string{"dockerd": &m.Docker, "ovs-vswitchd": &m.OVS, "vde_switch": &m.VDE, wireguard: &m.Wireguard} {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		if out, err := exec.CommandContext(ctx, program, "--version").Output(); err == nil { // else there is none
			*to = versionIn(string(out))
		}
		cancel()
	}
	return m, nil
}

// fieldOf is the first value of a key in a file of lines "key : value", "" if there is none.
func fieldOf(path, key string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// versionIn finds the version in "Docker version 20.10.24+dfsg1, build 297e128", "ovs-vswitchd (Open vSwitch) 3.1.0", …:
// the first word on the first line that contains a digit and a full stop.
func versionIn(text string) string {
	for _, word := range strings.Fields(results.FirstLine(strings.TrimSpace(text))) {
		if strings.ContainsAny(word, "0123456789") && strings.Contains(word, ".") {
			return strings.TrimSuffix(word, ",")
		}
	}
	return ""
}

package bench

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
)

// A Machine is where and what was measured. Version, Commit, Modified, Go and Arch are those of the binary.
type Machine struct {
	Cores     int     `json:"cores"`
	CPU       string  `json:"cpu"`       // model, proc_cpuinfo(5); "" where the kernel does not tell
	MemoryMB  float64 `json:"memory_mb"` // 10⁶ bytes, MemTotal of proc_meminfo(5)
	Load      string  `json:"load"`      // of the minute before, proc_loadavg(5): what else ran
	Steal     float64 `json:"steal"`     // share of the processors' time, while the bench ran, that the machine below gave to others: 0 to 1
	Kernel    string  `json:"kernel"`
	TCP       string  `json:"tcp"`    // congestion control that containers have by default: one that paces, as bbr, bounds a single flow
	Docker    string  `json:"docker"` // version of dockerd; "" where there is none
	OVS       string  `json:"ovs"`    // versions of these likewise
	VDE       string  `json:"vde"`
	Wireguard string  `json:"wireguard"`
	Version   string  `json:"version"`
	Commit    string  `json:"commit"`
	Modified  bool    `json:"modified"` // the tree had changes that were not committed
	Go        string  `json:"go"`
	Arch      string  `json:"arch"`
	Costs
}

// describe asks the machine and the binary.
func describe(ctx context.Context, binary, wireguard string) (Machine, error) {
	var m Machine
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
	if name, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control"); err == nil { // else it is not known
		m.TCP = strings.TrimSpace(string(name))
	}
	m.Costs, _ = costs() // what could not be measured is 0: not known
	m.CPU = field("/proc/cpuinfo", "model name")
	if family, model := field("/proc/cpuinfo", "cpu family"), field("/proc/cpuinfo", "model"); m.CPU != "" && model != "" {
		m.CPU += ", family " + family + " model " + model // "AMD EPYC" alone is six generations
	}
	kib, _ := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64) // 0: not known
	m.MemoryMB = kib * 1024 / 1e6
	for program, to := range map[string]*string{"dockerd": &m.Docker, "ovs-vswitchd": &m.OVS, "vde_switch": &m.VDE, wireguard: &m.Wireguard} {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		if out, err := exec.CommandContext(ctx, program, "--version").Output(); err == nil { // else there is none
			*to = version(string(out))
		}
		cancel()
	}
	return m, nil
}

// busy says whether others had more than half of a core before the bench began: tapestry needs a processor where the
// kernel works on that of the sender, so what others take falls on it first.
func (m Machine) busy() bool {
	load, err := strconv.ParseFloat(m.Load, 64)
	return err == nil && load > 0.5
}

// field is the first value of a key in a file of "key : value" lines, "" if there is none.
func field(path, key string) string {
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

// version takes it out of "Docker version 20.10.24+dfsg1, build 297e128", "ovs-vswitchd (Open vSwitch) 3.1.0", …: the
// first word with a figure and a full stop in it, on the first line.
func version(said string) string {
	for _, word := range strings.Fields(firstLine(strings.TrimSpace(said))) {
		if strings.ContainsAny(word, "0123456789") && strings.Contains(word, ".") {
			return strings.TrimSuffix(word, ",")
		}
	}
	return ""
}

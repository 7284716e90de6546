package results

import (
	"fmt"
	"strconv"
)

// A Machine is where and what was measured. Version, Commit, Modified, Go and Arch are those of the tapestry.
type Machine struct {
	Cores     int     `json:"cores"`
	CPU       string  `json:"cpu"`       // model, proc_cpuinfo(5); "" where the kernel does not say
	MemoryMB  float64 `json:"memory_mb"` // 10⁶ bytes, MemTotal of proc_meminfo(5)
	Load      string  `json:"load"`      // of the minute before, proc_loadavg(5): what else ran
	Steal     float64 `json:"steal"`     // share of the processors' time, while the bench ran, that the hypervisor gave to others: 0 to 1
	Kernel    string  `json:"kernel"`
	TCP       string  `json:"tcp"`    // congestion control that containers have by default: one that paces, like bbr, limits a single flow
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

// Busy says whether other programs used more than half of a core before the bench began. That affects tapestry most: it needs a
// processor of its own, where the kernel forwards on the sender's.
func (m Machine) Busy() bool {
	load, err := strconv.ParseFloat(m.Load, 64)
	return err == nil && load > 0.5
}

// Costs are the costs of what a switch in user space does for every frame, and one in the kernel does not. Nothing else that
// is measured here differs as much between machines: a system call differs by a factor of ten.
type Costs struct {
	SyscallNS float64 `json:"syscall_ns"` // a system call that does nothing
	WakeUS    float64 `json:"wake_us"`    // to wake a thread that sleeps on another core, and be woken by it; 0: there is one core
	CopyGBs   float64 `json:"copy_gb_s"`  // 10⁹ bytes a second, of 64 KiB that are in the cache
}

// SlowSyscallNS is the limit in ns beyond which system calls are slow. Processors of the last ten years take 60 to 250, with
// page-table isolation 200 to 500; a virtual machine without hardware support takes 1,000.
const SlowSyscallNS = 600

// SlowSyscalls says whether the machine makes tapestry slower than elsewhere.
func (c Costs) SlowSyscalls() bool { return c.SyscallNS > SlowSyscallNS }

// String describes them in words, "" if they are unknown.
func (c Costs) String() string {
	if c.SyscallNS == 0 {
		return ""
	}
	text := fmt.Sprintf("a system call takes %.0f ns, copying 64 KiB %.1f µs", c.SyscallNS, 65.536/c.CopyGBs)
	if c.WakeUS > 0 {
		text += fmt.Sprintf(", to wake a thread on another core and be woken by it %.1f µs", c.WakeUS)
	}
	return text
}

package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// cpuSeconds is the processor time that the whole machine has spent since it was started.
func cpuSeconds() (float64, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseCPU(stat)
}

// parseCPU adds up the first line of proc_stat(5): user, nice, system, irq and softirq. Not idle and iowait, nor steal,
// when this machine did not run; guest is in user already. The unit, USER_HZ, is 1/100 s wherever Go runs.
func parseCPU(stat []byte) (float64, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 8 || string(fields[0]) != "cpu" {
		return 0, fmt.Errorf("/proc/stat starts with %q, which has no processor times", line)
	}
	var ticks uint64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseUint(string(fields[i]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		ticks += n
	}
	return float64(ticks) / 100, nil
}

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

// stolen are the ticks of all processors so far, and those that the machine below had given to others (steal).
func stolen() (all, steal float64, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseStolen(stat)
}

// parseStolen reads the first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guest is in user already.
func parseStolen(stat []byte) (all, steal float64, err error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat starts with %q, which has no processor times", line)
	}
	for _, f := range fields[1:9] {
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		steal = float64(n) // the last
		all += steal
	}
	return all, steal, nil
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

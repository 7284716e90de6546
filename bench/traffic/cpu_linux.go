package traffic

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// CPUSeconds is the processor time of the whole machine since it was started, in seconds.
func CPUSeconds() (float64, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseCPU(stat)
}

// Stolen returns the ticks of all processors since the machine was started, and those of them that the hypervisor gave to
// others (steal).
func Stolen() (all, steal float64, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseStolen(stat)
}

// parseStolen sums up all ticks; user includes guest.
func parseStolen(stat []byte) (all, steal float64, err error) {
	t, err := parseTicks(stat)
	for _, n := range t {
		all += float64(n)
	}
	return all, float64(t[7]), err
}

// parseCPU sums up user, nice, system, irq and softirq, in seconds, but not idle, iowait and steal, in which this machine did
// not run; user includes guest. The unit, USER_HZ, is 1/100 s wherever Go runs.
func parseCPU(stat []byte) (float64, error) {
	t, err := parseTicks(stat)
	return float64(t[0]+t[1]+t[2]+t[5]+t[6]) / 100, err
}

// parseTicks reads the first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq and steal, of all processors.
func parseTicks(stat []byte) (t [8]uint64, err error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) <= len(t) || string(fields[0]) != "cpu" {
		return t, fmt.Errorf("/proc/stat starts with %q, which has no processor times", line)
	}
	for i := range t {
		if t[i], err = strconv.ParseUint(string(fields[1+i]), 10, 64); err != nil {
			return [8]uint64{}, fmt.Errorf("read /proc/stat: %w", err)
		}
	}
	return t, nil
}

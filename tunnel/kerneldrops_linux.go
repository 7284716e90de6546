package tunnel

import (
	"bytes"
	"os"
	"strconv"
)

// kernelUDP is the kernel's UDP counters of a network namespace, for all sockets together, in datagrams.
type kernelUDP struct{ badChecksum, noMemory, full uint64 }

// KernelDropped counts the datagrams that the kernel has dropped since the VTEP was opened, and that no other counter here
// has: bad_checksum, for a wrong UDP checksum, and no_memory, for want of memory in the host's UDP (sysctl net.ipv4.udp_mem, one
// limit for all namespaces) or in the cgroup. They are of the whole namespace and the VTEP's IP version: not all need be VXLAN.
func (v *VTEP) KernelDropped() map[string]uint64 {
	_, noMemory, badChecksum := v.kernelDrops()
	return map[string]uint64{"bad_checksum": badChecksum, "no_memory": noMemory}
}

// kernelDrops are what the kernel has dropped since the VTEP was opened: datagrams that came to our sockets faster than they
// were read, those that it had no memory for, and those with a wrong checksum.
func (v *VTEP) kernelDrops() (overflow, noMemory, badChecksum uint64) {
	drops := v.drops.Load()
	for _, r := range v.Receivers() {
		drops += socketDrops(r.fd)
	}
	now, err := readKernelUDP(v.Local.Addr().Is6()) // read after the drops, so that it includes all of them
	if err != nil {
		return drops, 0, 0
	}
	before := v.atOpen
	return sortDrops(drops, kernelUDP{now.badChecksum - before.badChecksum, now.noMemory - before.noMemory, now.full - before.full})
}

// sortDrops divides the drops of our sockets (SK_MEMINFO_DROPS), which one counter has for all reasons, by the reasons of the
// namespace's counters, which other programs may have caused, too. The rest is for want of memory: Linux 6.18 counts that
// at the socket only (__udp_enqueue_schedule_skb in net/ipv4/udp.c leaves out the namespace's counter).
func sortDrops(drops uint64, k kernelUDP) (overflow, noMemory, badChecksum uint64) {
	noMemory = k.noMemory
	if explained := k.full + k.badChecksum + k.noMemory; drops > explained {
		noMemory += drops - explained
	}
	return min(drops, k.full), noMemory, k.badChecksum
}

// readKernelUDP reads proc(5), /proc/net/snmp or snmp6. What a kernel does not count is 0.
func readKernelUDP(v6 bool) (kernelUDP, error) {
	if v6 {
		b, err := os.ReadFile("/proc/thread-self/net/snmp6")
		return parseSNMP6(b), err
	}
	b, err := os.ReadFile("/proc/thread-self/net/snmp")
	return parseSNMP(b), err
}

// parseSNMP reads a protocol's two lines: names, and numbers in the same order.
func parseSNMP(b []byte) (k kernelUDP) {
	var names [][]byte
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 || string(f[0]) != "Udp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i := 1; i < min(len(f), len(names)); i++ {
			k.set(string(names[i]), f[i])
		}
	}
	return k
}

// parseSNMP6 reads lines of a name and a number.
func parseSNMP6(b []byte) (k kernelUDP) {
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 2 {
			if name, udp := bytes.CutPrefix(f[0], []byte("Udp6")); udp {
				k.set(string(name), f[1])
			}
		}
	}
	return k
}

func (k *kernelUDP) set(name string, number []byte) {
	n, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		return
	}
	switch name {
	case "InCsumErrors":
		k.badChecksum = n
	case "MemErrors":
		k.noMemory = n
	case "RcvbufErrors":
		k.full = n
	}
}

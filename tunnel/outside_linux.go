package tunnel

import (
	"bytes"
	"os"
	"strconv"
)

// kernelUDP is what the kernel's own UDP statistics of a network namespace say, of all sockets together, in datagrams.
type kernelUDP struct{ badChecksum, noMemory, full uint64 }

// Outside counts the datagrams that the kernel dropped since the VTEP was opened without giving them to any socket, so that no other
// count here has them: bad_checksum, whose UDP checksum is wrong, and no_memory, for which the host's UDP
// had too little (sysctl net.ipv4.udp_mem, which is one for all namespaces) or the cgroup had. They are of the whole namespace, of the VTEP's IP version: not all of them need be VXLAN.
func (v *VTEP) Outside() map[string]uint64 {
	now := readKernelUDP(v.Local.Addr().Is6())
	return map[string]uint64{"bad_checksum": now.badChecksum - v.before.badChecksum, "no_memory": now.noMemory - v.before.noMemory}
}

// overflowed gives how many of our sockets' drops came faster than they were read. A socket counts a wrong checksum as well
// (SK_MEMINFO_DROPS), the namespace tells both apart; it may count other programs' too, and there may be none to be read.
func (v *VTEP) overflowed(drops uint64) uint64 {
	if now := readKernelUDP(v.Local.Addr().Is6()); now != (kernelUDP{}) {
		return min(drops, now.full-v.before.full)
	}
	return drops
}

// readKernelUDP reads proc(5), /proc/net/snmp or snmp6. What a kernel does not count is 0.
func readKernelUDP(v6 bool) kernelUDP {
	if v6 {
		b, _ := os.ReadFile("/proc/thread-self/net/snmp6")
		return parseSNMP6(b)
	}
	b, _ := os.ReadFile("/proc/thread-self/net/snmp")
	return parseSNMP(b)
}

// parseSNMP reads two lines of a protocol: names, and numbers in the same order.
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

// parseSNMP6 reads a name and a number in each line.
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

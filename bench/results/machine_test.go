package results

import (
	"testing"
)

func TestBusy(t *testing.T) {
	for load, want := range map[string]bool{"0.00": false, "0.50": false, "0.51": true, "10.74": true, "": false} {
		if got := (Machine{Load: load}).Busy(); got != want {
			t.Errorf("load %q: %v", load, got)
		}
	}
}

// Costs describe themselves in words.
func TestCostsInWords(t *testing.T) {
	if text := (Costs{SyscallNS: 992, WakeUS: 22, CopyGBs: 65.536}).String(); text !=
		"a system call takes 992 ns, copying 64 KiB 1.0 µs, to wake a thread on another core and be woken by it 22.0 µs" {
		t.Error(text)
	}
	if !(Costs{SyscallNS: 992}).SlowSyscalls() || (Costs{SyscallNS: 250}).SlowSyscalls() || (Costs{}).String() != "" {
		t.Error("what is slow, or unknown")
	}
}

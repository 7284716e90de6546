package ether

import "strings"

// Fault is what injected faults (package fault) have done to a frame, so that captures do not show it as a failure of the
// network. It is a set of bits.
type Fault uint8

const (
	FaultLost      Fault = 1 << iota // to be dropped
	FaultDelayed                     // held back
	FaultDuplicate                   // the second of two
	FaultReordered                   // other frames have overtaken it
	FaultCorrupt                     // bytes were changed
	FaultRate                        // held back, or lost, by a limit of the rate
)

var faultNames = [...]string{"loss", "delay", "duplicate", "reorder", "corrupt", "rate"}

// String names the bits, with "+" between them; "" without any.
func (f Fault) String() string {
	var names []string
	for i, name := range faultNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

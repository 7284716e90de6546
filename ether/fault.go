package ether

import "strings"

// Fault is what somebody asked to be done to a frame on its way, so that nobody takes it for the network's own fault: a
// set of bits.
type Fault uint8

const (
	FaultLost      Fault = 1 << iota // to be dropped
	FaultDelayed                     // held back
	FaultDuplicate                   // the second of two
	FaultReordered                   // let others pass
	FaultCorrupt                     // bytes were changed
	FaultRate                        // held back, or lost, for the rate
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

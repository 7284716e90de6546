package plugin

import (
	"fmt"

	"github.com/tapestry-net/tapestry/fabric"
)

// Options that are on or off.

func setExternal(n *fabric.Network, value string) error {
	return setOnOff(&n.External, value, " (containers reach the outside over docker_gwbridge)", "")
}

func setSnooping(n *fabric.Network, value string) error {
	return setOnOff(&n.Snooping, value, " (multicast goes where it is wanted, by IGMP and MLD)", " (to all)")
}

// setOnOff reads on or off. What each means, in parentheses, is for the error.
func setOnOff(to *bool, value, on, off string) error {
	switch value {
	case "on", "off":
		*to = value == "on"
		return nil
	}
	return fmt.Errorf("want on%s or off%s", on, off)
}

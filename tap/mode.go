package tap

import "fmt"

// Mode says how a container's link reaches its TAP.
type Mode string

const (
	Veth   Mode = "veth" // a veth pair, its host end tied to the TAP by tc redirects
	Direct Mode = "tap"  // the TAP itself moves into the container
)

// ParseMode reads a tapestry.attach option.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Veth, Direct:
		return m, nil
	}
	return "", fmt.Errorf("%q is no way to attach, want veth or tap", s)
}

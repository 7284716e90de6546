package tap

import "fmt"

// Mode is how a container is connected to its TAP.
type Mode string

const (
	Veth   Mode = "veth" // a veth pair; tc redirects connect its host end with the TAP
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

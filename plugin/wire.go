package plugin

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/tunnel"
)

// How a network's datagrams look on the underlay, and which are accepted: see tunnel.Wire.
const (
	optReserved = "tapestry.reserved"
	optTagged   = "tapestry.tagged"
	optDSCP     = "tapestry.dscp"
	optTTL      = "tapestry.ttl"
)

func setReserved(n *fabric.Network, value string) (err error) {
	n.Wire.DropReserved, err = oneOf(value, "ignore", "drop", "(reserved bits of the VXLAN header mean nothing, as RFC 7348 says)", "(a datagram that has one is dropped, as Linux does)")
	return err
}

func setTagged(n *fabric.Network, value string) (err error) {
	n.Wire.DropTagged, err = oneOf(value, "pass", "drop", "(VLAN tags cross to other hosts)", "(frames with a VLAN tag neither go to other hosts nor come from there)")
	return err
}

// oneOf tells whether value is the second of two words.
func oneOf(value, first, second, whatFirst, whatSecond string) (isSecond bool, err error) {
	if value != first && value != second {
		return false, fmt.Errorf("want %s %s or %s %s", first, whatFirst, second, whatSecond)
	}
	return value == second, nil
}

func setDSCP(n *fabric.Network, value string) (err error) {
	if n.Wire.DSCP, err = field(value, 0, 63); err != nil {
		return errors.New("want a number from 0 to 63 (46 is expedited forwarding), or inherit for that of the inner header")
	}
	return nil
}

func setTTL(n *fabric.Network, value string) (err error) {
	if n.Wire.TTL, err = field(value, 1, 255); err != nil {
		return errors.New("want a number from 1 to 255, or inherit for that of the inner header; leave the option away for this host's own (sysctl net.ipv4.ip_default_ttl), and 1 to a multicast group")
	}
	return nil
}

// field is a number in a range, or tunnel.Inherit.
func field(value string, least, most uint64) (int, error) {
	if value == "inherit" {
		return tunnel.Inherit, nil
	}
	v, err := strconv.ParseUint(value, 10, 8)
	if err != nil || v < least || v > most {
		return 0, strconv.ErrRange
	}
	return int(v), nil
}

// checkWire refuses options for datagrams of a network that never sends any.
func checkWire(n *fabric.Network) error {
	if n.Wire == (tunnel.Wire{}) || n.VNI != 0 || n.Key != "" {
		return nil
	}
	key := optTTL
	switch {
	case n.Wire.DropReserved:
		key = optReserved
	case n.Wire.DropTagged:
		key = optTagged
	case n.Wire.DSCP != 0:
		key = optDSCP
	}
	return fmt.Errorf("%s without %s: a network without a VNI stays on this host and sends no datagrams; add -o %s=NUMBER, the same on every host", key, optVNI, optVNI)
}

package vlan

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A Spec says of which VLANs a port is.
type Spec struct {
	Access uint16         // its only VLAN, of which its station knows nothing; 0: the station tags its frames
	VLANs  *vswitch.VLANs // that pass; 0 is frames without a tag; nil: all
}

var errSpec = fmt.Errorf("want a VLAN of 1 to %d, as in 10, or trunk: and VLANs, as in trunk:10+20-30, where 0 is frames without a tag", ether.MaxVLAN)

// Parse reads ID, or trunk: and a list of ID and ID-ID, between which are + or commas: in docker's --network name=…,driver-opt=… a comma ends the option. An
// error says what would be right.
func Parse(text string) (s Spec, err error) {
	s.VLANs = new(vswitch.VLANs)
	list, trunk := strings.CutPrefix(text, "trunk:")
	if !trunk {
		if s.Access, err = parseID(text); err != nil || s.Access == 0 {
			return Spec{}, errSpec
		}
		s.VLANs.Add(s.Access)
		return s, nil
	}
	for item := range strings.SplitSeq(strings.ReplaceAll(list, "+", ","), ",") {
		from, to, isRange := strings.Cut(item, "-")
		first, err := parseID(from)
		last := first
		if isRange && err == nil {
			last, err = parseID(to)
		}
		if err != nil || last < first {
			return Spec{}, errSpec
		}
		for id := first; id <= last; id++ {
			s.VLANs.Add(id)
		}
	}
	return s, nil
}

func parseID(text string) (uint16, error) {
	id, err := strconv.ParseUint(text, 10, 16)
	if err != nil || id > ether.MaxVLAN {
		return 0, errors.New("no VLAN")
	}
	return uint16(id), nil
}

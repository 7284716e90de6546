package static

import (
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, func(*testing.T) conformance.Bed {
		return conformance.Bed{New: func() cluster.Engine { return New("lab") }}
	})
}

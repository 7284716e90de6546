package conformance

import (
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
)

func TestHub(t *testing.T) {
	Run(t, func(*testing.T) Bed {
		h := NewHub()
		return Bed{
			New:  h.Engine,
			Kill: func(e cluster.Engine) { h.Kill(e.(*engine).self.ID) },
			Cut:  func(e cluster.Engine, away bool) { h.Cut(e.(*engine).self.ID, away) },
		}
	})
}

package daemon

import (
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/fabric"
)

// The API calls the host's own ports as fabric does.
func TestHostPortName(t *testing.T) {
	if got, want := api.HostPortName("x"), fabric.HostPortID("x"); got != want {
		t.Errorf("the API calls it %q, the fabric %q", got, want)
	}
}

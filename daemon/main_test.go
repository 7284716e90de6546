package daemon

import (
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) {
	endWait, shutdownWait, readWait = testhost.Patience, testhost.Patience, testhost.Patience
	testhost.Main(m)
}

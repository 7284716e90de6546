package doctor

import (
	"testing"

	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) {
	docker.Timeout = testhost.Patience
	testhost.Main(m)
}

package docker

import (
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) {
	Timeout = time.Minute // on a busy machine a fake Docker is slow too
	testhost.Main(m)
}

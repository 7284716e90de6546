package docker

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Timeout = time.Minute // on a busy machine a fake Docker is slow too
	goleak.VerifyTestMain(m)
}

package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tapestry-net/tapestry/docker"
)

// runAsTapestry in the environment makes this test's binary tapestry itself.
const runAsTapestry = "TAPESTRY_TEST_RUNS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runAsTapestry) != "" {
		main()
	}
	docker.Timeout = time.Minute
	goleak.VerifyTestMain(m)
}

type result struct {
	code        int
	out, stderr string
}

func tapestry(t *testing.T, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := execute(t.Context(), args, &out, &stderr)
	return result{code, out.String(), stderr.String()}
}

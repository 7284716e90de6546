package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/tapestry-net/tapestry/capture/session"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// runAsTapestry in the environment makes this test's binary tapestry itself.
const runAsTapestry = "TAPESTRY_TEST_RUNS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runAsTapestry) != "" {
		main()
	}
	docker.Timeout, completeWait = testhost.Patience, testhost.Patience
	show.StopTimeout, session.HangTimeout = testhost.Patience, testhost.Patience
	testhost.Main(m)
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

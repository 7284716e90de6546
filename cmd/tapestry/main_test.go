package main

import (
	"bytes"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tapestry-net/tapestry/docker"
)

func TestMain(m *testing.M) {
	docker.Wait = time.Minute
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

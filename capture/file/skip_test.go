package file

import (
	"os"
	"testing"
)

// cannot skips a test that needs something which this machine does not have; with TAPESTRY_MUST=1 the test fails instead. Tests
// of this package skip only by it (test/skips_test.go).
func cannot(t testing.TB, what ...any) {
	t.Helper()
	if os.Getenv("TAPESTRY_MUST") == "1" {
		t.Fatal(what...)
	}
	t.Skip(what...)
}

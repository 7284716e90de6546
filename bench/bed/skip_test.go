package bed

import (
	"os"
	"testing"
)

// cannot gives a test up for want of something that the machine has not got; with TAPESTRY_MUST=1 it fails instead. It is this
// room's only way to skip (test/skips_test.go).
func cannot(t testing.TB, what ...any) {
	t.Helper()
	if os.Getenv("TAPESTRY_MUST") == "1" {
		t.Fatal(what...)
	}
	t.Skip(what...)
}

package tap

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// No thread stays in a namespace that one has entered: it would hold the namespace of a container that has ended, and with it
// the container's addresses, until the daemon ends.
func TestNamespacesAreLeft(t *testing.T) {
	testhost.Namespace(t)
	_, path := testhost.OtherNamespace(t)
	failed := errors.New("failed")
	for name, in := range map[string]func(func() error) error{
		"another one": func(fn func() error) error { return inNamespace(path, fn) },
		"a new one":   inNewNamespace,
	} {
		for range 100 {
			var entered string
			err := in(func() (err error) {
				entered, err = os.Readlink("/proc/thread-self/ns/net")
				return errors.Join(failed, err)
			})
			if !errors.Is(err, failed) || entered == "" {
				t.Fatalf("%s: got %v", name, err)
			}
			testhost.Until(t, name+" is left", func() bool { return !holds(t, entered) })
		}
	}
}

// holds tells whether a thread of this process is in a network namespace.
func holds(t *testing.T, ns string) bool {
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	testhost.Must(t, err)
	for _, thread := range threads {
		if in, err := os.Readlink(thread); err == nil && in == ns {
			return true
		}
	}
	return false
}

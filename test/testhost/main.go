package testhost

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main is a package's TestMain: it runs the tests, and fails if they leave a goroutine. One that is about to end gets the time that a
// busy machine takes for that; goleak alone gives it half a second.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := left(goleak.Find, Patience); err != nil {
			fmt.Fprintln(os.Stderr, "the tests passed, and left goroutines:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// left looks for goroutines until there are none, or the time is over.
func left(find func(...goleak.Option) error, within time.Duration) (err error) {
	for end := time.Now().Add(within); ; {
		if err = find(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

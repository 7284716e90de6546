// Package testhost is what tests ask of the machine they run on: root, tools, network namespaces, and time. It imports nothing of ours, so
// that the tests inside each room can use it.
package testhost

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Cannot skips a test that needs something which this machine does not have; with TAPESTRY_MUST=1 the test fails instead. Tests skip only
// by it (test/skips_test.go).
func Cannot(t testing.TB, what ...any) {
	t.Helper()
	if os.Getenv("TAPESTRY_MUST") == "1" {
		t.Fatal(what...)
	}
	t.Skip(what...)
}

// Root skips a test that does not run as root. why ends the sentence "needs root …".
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Cannot(t, "needs root ", why)
	}
}

// Tools skips a test if one of these programs is not in PATH.
func Tools(t testing.TB, names ...string) {
	t.Helper()
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		Cannot(t, "needs ", strings.Join(missing, ", "))
	}
}

// Output runs a program, which must succeed, and returns its standard output. It skips the test if the program is not in PATH.
func Output(t testing.TB, args ...string) string {
	t.Helper()
	Tools(t, args[0])
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// Must ends the test if err is not nil. Only the goroutine of the test may call it: others call t.Error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Patience is the limit of waits: only what hangs reaches it.
const Patience = 2 * time.Minute

// Eventually waits until f returns nil, and fails the test if that takes longer than within.
func Eventually(t testing.TB, within time.Duration, f func() error) {
	t.Helper()
	end, pause := time.Now().Add(within), time.Millisecond
	for {
		began := time.Now()
		err := f()
		if err == nil {
			return
		}
		took := time.Since(began)
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", within, err)
		}
		time.Sleep(min(max(pause, 2*took), time.Second)) // a try that runs programs takes processor time from others
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// Until waits until a condition is true. what names it: if it stays false for longer than Patience, the test fails with "not …".
func Until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: not %s", Patience, what)
		}
	}
}

// A Log keeps what is written to it, and can be read at the same time.
type Log struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

// Write appends b and never fails.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns what was written until now.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Count returns how often what was written until now contains text.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

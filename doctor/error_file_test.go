package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func FuzzErrorFile(f *testing.F) {
	for _, seed := range []string{"", "torn", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z tapestry: a\x1b[2Jb\nc", "2026-01-02T03:04:05Z é\xff", "tapestry: tapestry: x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sentence, when := parseErrorFile(text)
		if len(sentence)+len(when) > 3*len(text) || !utf8.ValidString(sentence) || strings.ContainsFunc(sentence+when, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is read as %q, %q", text, sentence, when)
		}
		if _, err := time.Parse(time.RFC3339, when); when != "" && err != nil {
			t.Errorf("%q has the time %q", text, when)
		}
	})
}

// What a plugin has left is read as text of one line, and never as another file.
func TestReadErrorFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "error")
	for text, want := range map[string]string{
		"":     "",
		"torn": "torn",
		"2026-01-02T03:04:05Z tapestry: a\x1b[2Jb\nc": "a [2Jb c",
		strings.Repeat("é", maxErrorFile):             strings.Repeat("é", maxErrorFile/2),
	} {
		testhost.Must(t, os.WriteFile(path, []byte(text), 0o600))
		if got, _ := readErrorFile(path); got != want {
			t.Errorf("%.40q is read as %.40q (%d)", text, got, len(got))
		}
	}
	testhost.Must(t, os.Symlink("/etc/passwd", path+"-link"))
	testhost.Must(t, unix.Mkfifo(path+"-fifo", 0o600))
	for _, other := range []string{path + "-none", path + "-link", path + "-fifo", dir} {
		if got, when := readErrorFile(other); got != "" || when != "" {
			t.Errorf("%s is read as %q, %q", other, got, when)
		}
	}
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errorFileEnv names the file that tells why the daemon did not start, or has ended: of a plugin that exits when it
// starts, Docker shows its user only that nobody listens.
const errorFileEnv = "TAPESTRY_ERROR_FILE"

// mostErrorFile is how much of an error file is read, in bytes.
const mostErrorFile = 4 << 10

// writeErrorFile leaves the daemon's last words, with the time. That it cannot is no error: they are in the log too.
func writeErrorFile(last error) {
	path := os.Getenv(errorFileEnv)
	if path == "" {
		return
	}
	_ = os.MkdirAll(filepath.Dir(path), 0o700)
	_ = os.Remove(path) // it may be open to others, or lead elsewhere
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(f, "%s tapestry: %v\n", time.Now().UTC().Format(time.RFC3339), last)
	_ = f.Close()
}

// removeErrorFile is of a daemon that is ready.
func removeErrorFile() {
	if path := os.Getenv(errorFileEnv); path != "" {
		_ = os.Remove(path)
	}
}

// readErrorFile gives the sentence in such a file and when it was written, "" if there is none. The file is a plugin's: it
// may hold anything, and lead anywhere.
func readErrorFile(path string) (sentence, when string) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", ""
	}
	text := make([]byte, mostErrorFile)
	n, _ := f.Read(text)
	return parseErrorFile(text[:n])
}

// parseErrorFile gives one line of what is seen, whatever the text is.
func parseErrorFile(text []byte) (sentence, when string) {
	sentence = oneLine(strings.TrimSpace(strings.ToValidUTF8(string(text), "")))
	if first, rest, ok := strings.Cut(sentence, " "); ok {
		if _, err := time.Parse(time.RFC3339, first); err == nil {
			sentence, when = rest, first
		}
	}
	return strings.TrimPrefix(sentence, "tapestry: "), when
}

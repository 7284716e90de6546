package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ErrorFileEnv names the file that tells why the daemon did not start, or has ended: of a plugin that exits when it
// starts, Docker shows its user only that nobody listens.
const ErrorFileEnv = "TAPESTRY_ERROR_FILE"

// WriteErrorFile writes the error that ended the daemon, with the time. A failure to write is ignored: the log has the error.
func WriteErrorFile(last error) {
	path := os.Getenv(ErrorFileEnv)
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

// removeErrorFile removes the file; a daemon that is ready calls it.
func removeErrorFile() {
	if path := os.Getenv(ErrorFileEnv); path != "" {
		_ = os.Remove(path)
	}
}

// InPlugin tells whether this is the first process of a managed plugin, as packaging/plugin/config.json has it.
func InPlugin() bool { return os.Getpid() == 1 && os.Getenv(ErrorFileEnv) != "" }

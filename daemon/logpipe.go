package daemon

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A LogPipe writes a log into a pipe and never waits for its reader: dockerd reads a managed plugin's log, and with
// live-restore the plugin goes on while dockerd is away. Lines that have no room are lost, and counted in a line of their own
// when there is room again.
type LogPipe struct {
	fd     int
	notice func(lines int) []byte // the line that says how many were lost

	mu   sync.Mutex
	rest []byte // of the line that the pipe has taken a part of; guarded by mu
	lost int    // lines; guarded by mu
}

// NewLogPipe takes the log of w, if that is a pipe; else it is nil. Writes of w itself do not wait either, from now on.
func NewLogPipe(w io.Writer, level, format string) *LogPipe {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	fd := int(f.Fd())
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO || unix.SetNonblock(fd, true) != nil {
		return nil
	}
	return &LogPipe{fd: fd, notice: func(lines int) []byte {
		var b bytes.Buffer
		newLogger(&b, level, format).Warn("lines of this log are lost: nobody read it", "lines", lines)
		return b.Bytes()
	}}
}

// Write takes one line; it cannot fail.
func (p *LogPipe) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := p.flush()
	if room && p.lost > 0 {
		p.rest, p.lost = append(p.rest[:0], p.notice(p.lost)...), 0
		room = p.flush()
	}
	if !room {
		p.lost++
		return len(line), nil
	}
	p.rest = append(p.rest[:0], line...)
	p.flush()
	return len(line), nil
}

// flush writes what the pipe has room for, and tells whether that was all.
func (p *LogPipe) flush() bool {
	for len(p.rest) > 0 {
		n, err := unix.Write(p.fd, p.rest)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil { // no room, or no reader
			return false
		}
		p.rest = p.rest[n:]
	}
	return true
}

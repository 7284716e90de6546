package show

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/tapestry-net/tapestry/capture/file"
)

// readerGone reports whether to is an *os.File of a pipe or a socket whose other end is closed.
func readerGone(to any) bool {
	f, ok := to.(*os.File)
	return ok && file.ReaderGone(f)
}

// errReaderGone is the error of a write to a pipe whose reader has closed it.
var errReaderGone error = syscall.EPIPE

// IsReaderGone reports whether err, of a write, means that the reader has closed the pipe or the connection. It is no failure:
// the reader has what it wanted.
func IsReaderGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// IgnoreBrokenPipes ignores SIGPIPE until restore is called: a write to a stdout that nobody reads then returns EPIPE, and the
// process can still close its files.
func IgnoreBrokenPipes() (restore func()) {
	signal.Ignore(syscall.SIGPIPE)
	return func() { signal.Reset(syscall.SIGPIPE) }
}

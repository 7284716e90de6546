package show

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/tapestry-net/tapestry/capture/file"
)

// ReaderGone tells whether what is written to is a pipe or a connection that nobody reads any more.
func ReaderGone(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && file.ReaderGone(f)
}

// ErrReaderGone is that of a write to such a one.
var ErrReaderGone error = syscall.EPIPE

// IsGone tells whether an error of a write says the same. It is no failure: the reader has what it wanted.
func IsGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// IgnoreBrokenPipes lets a write to stdout that nobody reads fail, instead of ending the process before it closed its
// files.
func IgnoreBrokenPipes() (restore func()) {
	signal.Ignore(syscall.SIGPIPE)
	return func() { signal.Reset(syscall.SIGPIPE) }
}

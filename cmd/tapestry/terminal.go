package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/capture/file"
)

// isTerminal tells whether what is written to, or read from, is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// readerGone tells whether what is written to is a pipe or a connection that nobody reads any more.
func readerGone(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && file.ReaderGone(f)
}

// errReaderGone is that of a write to such a one.
var errReaderGone error = syscall.EPIPE

// isGone tells whether an error of a write says the same. It is no failure: the reader has what it wanted.
func isGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// ignoreBrokenPipes lets a write to stdout that nobody reads fail, instead of ending the process before it closed its
// files.
func ignoreBrokenPipes() (restore func()) {
	signal.Ignore(syscall.SIGPIPE)
	return func() { signal.Reset(syscall.SIGPIPE) }
}

// Colours of a terminal (ECMA-48 §8.3.117).
const (
	plain   = ""
	faint   = "\x1b[2m"
	red     = "\x1b[1;31m"
	green   = "\x1b[32m"
	yellow  = "\x1b[33m"
	magenta = "\x1b[35m"
	cyan    = "\x1b[36m"
	reset   = "\x1b[0m"
)

// colours tells whether to use them: always, never, or with auto on a terminal that can and whose user wants it
// (https://no-color.org).
func colours(when string, stream any) bool {
	if when == "auto" {
		return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(stream)
	}
	return when == "always"
}

func paint(colour, text string) string {
	if colour == plain {
		return text
	}
	return colour + text + reset
}

// thousands writes a number with commas, for people.
func thousands(n uint64) string {
	s := number(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count writes how many of something there are.
func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// quoted is a command's words as they would be typed again.
func quoted(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$&|;<>()*?[]{}!#~`") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		b.WriteString(w)
	}
	return b.String()
}

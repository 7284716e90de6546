package main

import (
	"errors"
	"fmt"
)

// Exit codes of every command.
const (
	exitFine     = 0
	exitNo       = 1 // the answer is no, or it could not be done
	exitUsage    = 2 // a wrong command, flag or argument
	exitLost     = 3 // frames were lost, and --strict was asked for
	exitNoTarget = 4 // no such network
	exitNoDaemon = 5 // nothing answers at the API socket
)

const exitHelp = `Exit codes of every command:
  0  fine
  1  the answer is no, or it could not be done
  2  wrong usage
  3  frames were lost (capture --strict)
  4  no such target
  5  no daemon`

// failure is an error with the exit code that belongs to it.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func failf(code int, format string, args ...any) error {
	return &failure{code, fmt.Errorf(format, args...)}
}

// exitCode of an error without one of its own is exitNo.
func exitCode(err error) int {
	if err == nil {
		return exitFine
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return f.code
	}
	return exitNo
}

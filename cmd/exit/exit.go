// Package exit is how commands end: exit codes, and errors that carry one.
package exit

import (
	"errors"
	"fmt"
	"net/url"
)

// Exit codes of every command.
const (
	OK       = 0
	No       = 1 // the answer is no, or it could not be done
	Usage    = 2 // a wrong command, flag or argument
	Lost     = 3 // frames were lost, and --strict was asked for
	NoTarget = 4 // no such network
	NoDaemon = 5 // nothing answers at the API socket
)

const Help = `Exit codes of every command:
  0  fine
  1  the answer is no, or it could not be done
  2  wrong usage
  3  frames were lost (capture --strict)
  4  no such target
  5  no daemon`

// Error is an error with the exit code that belongs to it.
type Error struct {
	code int
	err  error
}

func (f *Error) Error() string { return f.err.Error() }
func (f *Error) Unwrap() error { return f.err }

func Errorf(code int, format string, args ...any) error {
	return &Error{code, fmt.Errorf(format, args...)}
}

// With gives an error an exit code.
func With(code int, err error) error { return &Error{code, err} }

// Code of an error without one of its own is No.
func Code(err error) int {
	if err == nil {
		return OK
	}
	if f := (*Error)(nil); errors.As(err, &f) {
		return f.code
	}
	return No
}

// WithoutURL is an error of http without the URL, which means nothing on a Unix socket.
func WithoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

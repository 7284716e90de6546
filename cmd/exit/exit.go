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
	Failure  = 1 // the answer is no, or it could not be done
	Usage    = 2 // a wrong command, flag or argument
	Lost     = 3 // frames were lost, and --strict was asked for
	NoTarget = 4 // no such target
	NoDaemon = 5 // nothing answers at the API socket
)

// Help is what the commands' help texts say of exit codes.
const Help = `Exit codes of every command:
  0  fine
  1  the answer is no, or it could not be done
  2  wrong usage
  3  frames were lost (capture --strict)
  4  no such target
  5  no daemon`

// Error is an error with the exit code that the command ends with.
type Error struct {
	code int
	err  error
}

// Error is the text of the error inside; it does not name the code.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap gives the error inside.
func (e *Error) Unwrap() error { return e.err }

// Errorf is fmt.Errorf with an exit code.
func Errorf(code int, format string, args ...any) error {
	return &Error{code, fmt.Errorf(format, args...)}
}

// WithCode gives an error an exit code.
func WithCode(code int, err error) error { return &Error{code, err} }

// Code gives the exit code of an error, also of one that is wrapped: OK of nil, Failure of an error that has none.
func Code(err error) int {
	if err == nil {
		return OK
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.code
	}
	return Failure
}

// WithoutURL takes the URL off an error of net/http: on a Unix socket it tells the user nothing.
func WithoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

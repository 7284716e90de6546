package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A target is a file that is written to. The file that was at its path before stays until the first write has succeeded.
type target struct {
	*os.File
	path string
	temp string   // path of the new file until then; "": it is at path
	old  *os.File // the regular file at path until then; nil: none
}

// open opens the only file of a capture. It does not change a file that exists.
func open(path string, force bool) (*target, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	t := &target{path: path}
	i, err := os.Stat(path)
	switch {
	case err == nil && i.IsDir():
		return nil, fmt.Errorf("%s is a directory: want the path of a file", path)
	case err == nil && !i.Mode().IsRegular():
		t.File, err = os.OpenFile(path, os.O_WRONLY, 0)
		return t, err
	case err == nil:
		if t.old, err = replaceable(path, force); err != nil {
			return nil, err
		}
	}
	t.File, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	switch {
	case err == nil:
		t.temp = t.Name()
	case t.old != nil: // nothing can be created in the directory: the old file is overwritten
		t.File, err = t.old, nil
	default:
		err = &os.PathError{Op: "create", Path: path, Err: errors.Unwrap(err)}
	}
	return t, err
}

// replaceable opens an existing file, if it may be replaced.
func replaceable(path string, force bool) (f *os.File, err error) {
	if f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	i, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !i.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %s: want a file", path, kind(i.Mode()))
	}
	var magic [4]byte
	if n, _ := f.ReadAt(magic[:], 0); n > 0 && !force && !isCapture(magic) {
		return nil, fmt.Errorf("%s is there and is no capture: want another path, or --force to replace it", path)
	}
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if me := os.Geteuid(); me != 0 && int(s.Uid) != me && !force {
		return nil, fmt.Errorf("%s belongs to somebody else, who could read the capture: want another path, or --force", path)
	}
	return f, nil
}

// Write is os.File.Write. The first one that succeeds moves the file to its path.
func (t *target) Write(b []byte) (n int, err error) {
	if t.old == t.File && t.old != nil {
		if err := t.overwrite(); err != nil {
			return 0, err
		}
	}
	n, err = t.File.Write(b)
	if err != nil {
		return n, t.withPath(err)
	}
	if t.temp == "" {
		return n, nil
	}
	if err = t.rename(); err == nil || t.old == nil {
		return n, err
	}
	// The path cannot be renamed to; it may be a mount point. So the old file is overwritten.
	t.discard()
	t.File = t.old
	if err = t.overwrite(); err != nil {
		return 0, err
	}
	return t.File.Write(b)
}

// withPath replaces the temporary path in an error by the file's own.
func (t *target) withPath(err error) error {
	if bad := (*os.PathError)(nil); errors.As(err, &bad) {
		return &os.PathError{Op: bad.Op, Path: t.path, Err: bad.Err}
	}
	return err
}

// rename moves the temporary file to its path.
func (t *target) rename() error {
	if err := os.Rename(t.temp, t.path); err != nil {
		return err
	}
	t.temp = ""
	if t.old != nil {
		t.old.Close()
		t.old = nil
	}
	return nil
}

// overwrite truncates the old file, and makes it as private as a new one.
func (t *target) overwrite() error {
	t.old = nil
	_ = t.Chmod(0o600) // with --force it may belong to somebody else
	_ = t.Chown(os.Geteuid(), os.Getegid())
	return t.Truncate(0)
}

// discard removes the temporary file.
func (t *target) discard() {
	if t.temp != "" {
		t.File.Close()
		_ = os.Remove(t.temp)
		t.temp = ""
	}
}

// closeAt truncates the file to size bytes, closes it, and tells whether the file exists. If nothing was written, no file is
// left, and an old file is still there.
func (t *target) closeAt(size int64) (there bool, err error) {
	defer func() { err = errors.Join(err, ignoreClosed(t.Close())) }()
	if t.old != nil { // nothing was written to path
		if t.old != t.File {
			t.old.Close()
		}
		t.discard()
		return false, nil
	}
	i, err := t.Stat()
	if err != nil || !i.Mode().IsRegular() {
		return err == nil, err
	}
	if size == 0 {
		if t.temp != "" {
			t.discard()
			return false, nil
		}
		return false, os.Remove(t.path)
	}
	if err := t.Truncate(size); err != nil {
		return true, fmt.Errorf("it ends within a block, and cannot be cut: %w", err)
	}
	if t.temp != "" { // the first write succeeded in part
		err = t.rename()
	}
	return true, err
}

// ignoreClosed drops the error that a file was closed before.
func ignoreClosed(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

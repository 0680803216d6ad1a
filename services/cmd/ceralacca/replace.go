package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// replace writes a file beside its place and then puts it there: after a failure or a power cut the one of before is
// there, or the new one, whole. Nobody may
// read it who might not read the one of before, or whom the umask keeps out.
func replace(path string, mode os.FileMode, fill func(*os.File) error) error {
	if info, err := os.Stat(path); err == nil {
		switch {
		case info.IsDir():
			return &fs.PathError{Op: "write", Path: path, Err: syscall.EISDIR}
		case !info.Mode().IsRegular() || strings.HasPrefix(path, "/dev/"): // a device or a pipe: nothing was there before
			return through(path, fill)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil { // a link stays one
			return err
		}
		if info.Mode().Perm()&0o200 == 0 { // the folder would let it be put aside all the same
			return &fs.PathError{Op: "write", Path: path, Err: fs.ErrPermission}
		}
		mode &= info.Mode().Perm()
	}
	dir := filepath.Dir(path)
	beside := filepath.Join(dir, ".new-"+rand.Text())
	f, err := os.OpenFile(beside, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return inPlaceOf(beside, path, err)
	}
	defer os.Remove(beside) // it is gone when all went well
	if err = fill(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return inPlaceOf(beside, path, err)
	}
	if err = os.Rename(beside, path); err != nil {
		return err
	}
	return syncFolder(dir)
}

func through(path string, fill func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// inPlaceOf names the file that the user named instead of the one beside it.
func inPlaceOf(beside, path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && p.Path == beside {
		p.Path = path
	}
	return err
}

// syncFolder has a new name in a folder outlast a power cut.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" { // folders cannot be opened there
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func replaceWith(path string, mode os.FileMode, content []byte) error {
	return replace(path, mode, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
}

// shared is the mode of what is meant to be passed on, private of what is its owner's alone.
const (
	shared  os.FileMode = 0o644
	private os.FileMode = 0o600
)

// put writes the file of --output.
func put(output string, mode os.FileMode, content []byte) error {
	if err := replaceWith(output, mode, content); err != nil {
		return usage("--output: %v", err)
	}
	return nil
}

// keep writes a file when there is a name for it.
func keep(output string, content []byte) error {
	if output == "" {
		return nil
	}
	return put(output, shared, content)
}

// download writes a stream to a file, or to standard output when there is no name for it. The first part comes
// before anything is written, so that a refusal touches no file; one that breaks leaves what was there before.
func (c *cli) download(output string, next func() ([]byte, error)) error {
	part, err := next()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	pour := func(out io.Writer) error {
		for err == nil {
			if _, err := out.Write(part); err != nil {
				return err
			}
			part, err = next()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return brokenOff{err}
	}
	if output == "" {
		return pour(c.out)
	}
	err = replace(output, shared, func(f *os.File) error { return pour(f) })
	var broken brokenOff
	if err == nil || errors.As(err, &broken) || errors.Is(err, context.Canceled) {
		return err
	}
	return usage("--output: %v", err)
}

// brokenOff is the error of a stream that ended before all was there.
type brokenOff struct{ error }

func (b brokenOff) Error() string {
	return "the file was not written, since it did not come whole: " + b.error.Error()
}

func (b brokenOff) Unwrap() error { return b.error }

// sink is standard output. Printing does not look at its errors; the end of the command does.
type sink struct {
	io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if s.err == nil {
		s.err = err
	}
	return n, err
}

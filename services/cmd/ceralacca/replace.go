package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// replace writes a file beside its place and then puts it there: after a failure or a power cut the one of before is
// there, or the new one, whole.
func replace(path string, mode os.FileMode, fill func(*os.File) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is gone when all went well
	if err = fill(f); err == nil {
		err = errors.Join(f.Chmod(mode), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
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

//go:build unix

package witness

import (
	"errors"
	"os"
	"syscall"
)

// lock holds a file for this process until the function that it gives is called, or the process ends.
func lock(path string) (func() error, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

package vault

import (
	"errors"
	"io"
	"os"
)

// disk is what a folder does to its file system that a power cut can undo. Reading is not: it goes to the system itself.
type disk interface {
	create(dir, pattern string) (written, error)
	mkdir(path string) error
	link(from, to string) error // never replaces
	rename(from, to string) error
	remove(path string) error
	syncDir(path string) error
}

// written is a file that is being written.
type written interface {
	io.Writer
	Name() string
	Chmod(os.FileMode) error
	Sync() error
	Close() error
}

// system is the disk of this machine.
type system struct{}

func (system) create(dir, pattern string) (written, error) { return os.CreateTemp(dir, pattern) }
func (system) mkdir(path string) error                     { return os.Mkdir(path, 0o750) }
func (system) link(from, to string) error                  { return os.Link(from, to) }
func (system) rename(from, to string) error                { return os.Rename(from, to) }
func (system) remove(path string) error                    { return os.Remove(path) }

func (system) syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec // below the vault's folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

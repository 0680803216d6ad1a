// Package spool holds bytes that arrive once and are read several times: a little in memory, the rest in
// a file that has no name any more, so that nothing stays behind whatever happens to the process.
//
// It owns that file and the SHA-256 of what arrived. It refuses to keep anything: what is to last
// belongs into the blob store.
package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"os"
)

// inMemory is how much is held before there is a file.
const inMemory = 1 << 20

// ErrTooLarge: more arrives than the limit.
var ErrTooLarge = errors.New("spool: more bytes than are allowed")

// File takes bytes, then gives them. It is for one goroutine while it is written; once written it may
// be read by many.
type File struct {
	dir  string
	max  int64
	held []byte
	file *os.File
	size int64
	sum  hash.Hash
}

// New makes an empty one; dir is for what does not fit into memory ("" is the system's folder for
// temporary files), max the most that it takes.
func New(dir string, max int64) *File { return &File{dir: dir, max: max, sum: sha256.New()} }

// Write takes more. Errors: ErrTooLarge, and those of the disk.
func (f *File) Write(p []byte) (int, error) {
	if f.size+int64(len(p)) > f.max {
		return 0, ErrTooLarge
	}
	if f.file == nil && len(f.held)+len(p) > inMemory {
		if err := f.toDisk(); err != nil {
			return 0, err
		}
	}
	if f.file == nil {
		f.held = append(f.held, p...)
	} else if _, err := f.file.Write(p); err != nil {
		return 0, fmt.Errorf("spool: %w", err)
	}
	f.sum.Write(p)
	f.size += int64(len(p))
	return len(p), nil
}

// toDisk makes the file and takes its name away.
func (f *File) toDisk() error {
	file, err := os.CreateTemp(f.dir, "ceralacca-spool-")
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	f.file = file
	if err := os.Remove(file.Name()); err != nil {
		return errors.Join(fmt.Errorf("spool: %w", err), f.Close())
	}
	if _, err := file.Write(f.held); err != nil {
		return errors.Join(fmt.Errorf("spool: %w", err), f.Close())
	}
	f.held = nil
	return nil
}

// Size is how many bytes arrived.
func (f *File) Size() int64 { return f.size }

// SHA256 is that of all bytes.
func (f *File) SHA256() [sha256.Size]byte { return [sha256.Size]byte(f.sum.Sum(nil)) }

// Bytes gives what is held in memory; false when it is on disk.
func (f *File) Bytes() ([]byte, bool) { return f.held, f.file == nil }

// ReadAt is that of io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.file != nil {
		return f.file.ReadAt(p, off)
	}
	return bytes.NewReader(f.held).ReadAt(p, off)
}

// Close gives the memory and the disk back.
func (f *File) Close() error {
	f.held = nil
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file, f.size = nil, 0
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

package main

import (
	"crypto/sha256"
	"io"
	"os"

	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/spool"
)

// opened is a file of which parts are read where they are.
type opened struct {
	validation.Source
	io.Closer
}

// openSource opens a file, or keeps standard input and pipes aside to be read more than once.
func (c *cli) openSource(name string) (*opened, error) {
	from := c.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usage("%v", err)
		}
		info, err := f.Stat()
		if err == nil && info.Mode().IsRegular() {
			return &opened{io.NewSectionReader(f, 0, info.Size()), f}, nil
		}
		if err == nil && info.IsDir() {
			err = usage("%s is a folder", name)
		}
		defer f.Close()
		if err != nil {
			return nil, err
		}
		from = f
	}
	s := spool.New("", largestPackage)
	if _, err := io.Copy(s, from); err != nil {
		_ = s.Close() // the first error counts
		return nil, usage("%s: %v", name, err)
	}
	return &opened{s, s}, nil
}

func whole(src validation.Source) io.Reader { return io.NewSectionReader(src, 0, src.Size()) }

func sha256Of(src validation.Source) ([]byte, error) {
	h := sha256.New()
	_, err := io.Copy(h, whole(src))
	return h.Sum(nil), err
}

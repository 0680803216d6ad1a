//go:build !linux

package blob

import (
	"errors"
	"os"
)

// nameless is of Linux only: see tmpfile_linux.go.
func nameless(string) (*os.File, error) { return nil, nil }

func linkNameless(*os.File, string) error { return errors.ErrUnsupported }

//go:build !linux

package main

import (
	"context"
	"io"
	"os"
)

// isTerminal says whether a person sits at in.
func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// readHidden refuses: hiding what is typed is made for Linux only.
func readHidden(context.Context, io.Reader) (string, error) {
	return "", usage("on this system secrets are not asked for on the terminal, which would show them: use --pin-file and --otp-file, or standard input")
}

package main

import (
	"bufio"
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal says whether a person sits at in.
func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) //nolint:gosec // a descriptor is small
	return err == nil
}

// readHidden reads a line from a terminal that does not show it. The terminal is as it was afterwards,
// also when ctx ends first.
func readHidden(ctx context.Context, in io.Reader) (string, error) {
	f, _ := in.(*os.File)
	fd := int(f.Fd()) //nolint:gosec // a descriptor is small
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", usage("the terminal: %v", err)
	}
	hidden := *before
	hidden.Lflag = hidden.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	err = unix.IoctlSetTermios(fd, unix.TCSETS, &hidden)
	if err != nil {
		return "", usage("the terminal: %v", err)
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }()
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1) // the reader stays behind when ctx ends: the process does too
	go func() {
		line, err := bufio.NewReader(f).ReadString('\n')
		got <- answer{line, err}
	}()
	select {
	case a := <-got:
		if a.err != nil {
			return "", usage("the terminal was closed before the answer: %v", a.err)
		}
		return a.line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

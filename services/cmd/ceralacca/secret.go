package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// secrets gets PINs and one-time passwords: from files, from the terminal without echo, or from the
// lines of standard input. Never from the command line, which other users of the machine can read.
type secrets struct {
	c                *cli
	pinFile, otpFile string
	lines            *bufio.Reader // of standard input
}

const secretHelp = `

PIN and one-time password are asked for on the terminal. Without one they are the lines of standard
input, in the order in which they would be asked; or they come from files.`

func (s *secrets) pin(ctx context.Context, prompt string) (string, error) {
	return s.read(ctx, prompt, "--pin-file", s.pinFile)
}

func (s *secrets) otp(ctx context.Context, prompt string) (string, error) {
	return s.read(ctx, prompt, "--otp-file", s.otpFile)
}

// newPIN asks for a PIN that is new; on a terminal twice, for it is not seen.
func (s *secrets) newPIN(ctx context.Context, file string) (string, error) {
	first, err := s.read(ctx, "New PIN (8 digits)", "--new-pin-file", file)
	if err != nil || file != "" || !isTerminal(s.c.in) {
		return first, err
	}
	second, err := s.read(ctx, "New PIN again", "", "")
	if err == nil && first != second {
		return "", usage("the two are not the same: nothing was changed")
	}
	return first, err
}

// ready finds a --pin-file that cannot be read before a password is sent for it. That of the password may come later.
func (s *secrets) ready() error {
	if s.pinFile == "" {
		return nil
	}
	f, err := os.Open(s.pinFile)
	if err != nil {
		return usage("--pin-file: %v", err)
	}
	return f.Close()
}

// longestSecret is beyond every PIN and password.
const longestSecret = 128

func (s *secrets) read(ctx context.Context, prompt, flag, file string) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", usage("%s: %v", flag, err)
		}
		defer f.Close()
		raw, err := readAll(file, f, longestSecret)
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(raw)), nil
	}
	if isTerminal(s.c.in) {
		fmt.Fprintf(s.c.errOut, "%s: ", prompt)
		text, err := readHidden(ctx, s.c.in)
		fmt.Fprintln(s.c.errOut)
		return strings.TrimSpace(text), err
	}
	if s.lines == nil {
		s.lines = bufio.NewReaderSize(s.c.in, longestSecret)
	}
	line, err := s.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", usage("a line of standard input is no PIN or password: it is longer than %d characters", longestSecret)
	}
	text := strings.TrimSpace(string(line))
	if text == "" && err != nil {
		if !errors.Is(err, io.EOF) {
			return "", usage("standard input: %v", err)
		}
		return "", usage("standard input ended before the line with: %s", prompt)
	}
	return text, nil
}

package vault

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// aheadBytes is how far in front of its reader a file is fetched from the disk.
const aheadBytes = 4 << 20

// ahead reads a file from its beginning to its end, and has the system fetch what comes next while what came is hashed.
type ahead struct {
	*os.File

	at, asked int64
}

func readingAhead(file *os.File) io.ReadCloser {
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_SEQUENTIAL) // advice: a system that does not take it reads all the same
	return &ahead{File: file}
}

func (a *ahead) Read(p []byte) (int, error) {
	if a.at+aheadBytes/2 >= a.asked {
		_ = unix.Fadvise(int(a.Fd()), a.asked, aheadBytes, unix.FADV_WILLNEED)
		a.asked += aheadBytes
	}
	n, err := a.File.Read(p)
	a.at += int64(n)
	return n, err
}

package conservation

import (
	"os"

	"golang.org/x/sys/unix"
)

// forgetPages drops what the system has in memory of a file that is synced.
func forgetPages(f *os.File) bool { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) == nil }

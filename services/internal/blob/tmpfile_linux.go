package blob

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// nameless opens a file in folder that has no name until link gives it one: nothing to remove after a
// crash, and writers at the same time do not queue for the folder. nil when the file system has none.
func nameless(folder string) (*os.File, error) {
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o440)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		return nil, nil
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: folder, Err: err}
	}
	return os.NewFile(uintptr(fd), folder+"/nameless"), nil //nolint:gosec // a file descriptor
}

// linkNameless gives a file of nameless its name. It never replaces a file.
func linkNameless(f *os.File, path string) error {
	err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW) //nolint:gosec // a file descriptor
	if err != nil {
		return &os.LinkError{Op: "link", Old: f.Name(), New: path, Err: err}
	}
	return nil
}

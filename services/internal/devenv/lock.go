package devenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// lockPoll is how often a waiting process asks again for a lock. flock(2) has no
// deadline of its own, and a blocked call could not be cancelled.
const lockPoll = 25 * time.Millisecond

// FileLock is an advisory lock between processes. The kernel drops it when the
// holder dies, however it dies, so a lock is never stale.
//
// It holds a bare descriptor: an os.File that nobody refers to any more is closed by
// the garbage collector, and the lock would be gone while its holder believes in it.
type FileLock struct {
	once sync.Once
	fd   int
}

// Lock waits until path is locked for this process, or ctx ends. Many holders may
// share a lock that none holds exclusively. The file is created if missing.
func Lock(ctx context.Context, path string, exclusive bool) (*FileLock, error) {
	for {
		l, err := TryLock(path, exclusive)
		if err != nil || l != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("devenv: waiting for lock %s: %w", path, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

// TryLock returns the lock, or nil without an error when another process holds it.
func TryLock(path string, exclusive bool) (*FileLock, error) {
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err != nil {
		return nil, fmt.Errorf("devenv: lock folder: %w", err)
	}
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("devenv: lock file %s: %w", path, err)
	}
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	err = syscall.Flock(fd, how|syscall.LOCK_NB)
	if err == nil {
		return &FileLock{fd: fd}, nil
	}
	_ = syscall.Close(fd)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil, nil
	}
	return nil, fmt.Errorf("devenv: lock %s: %w", path, err)
}

// Unlock gives the lock back. Calling it twice, or on nil, does nothing more.
func (l *FileLock) Unlock() {
	if l != nil {
		l.once.Do(func() { _ = syscall.Close(l.fd) })
	}
}

package devenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Memory is a folder on a file system in memory, for what tests write and throw away: a disk that took and lost
// thousands of small files a moment ago spends more time on looking for free inodes than the tests on their work.
type Memory struct {
	Dir  string
	lock *FileLock
}

const (
	memoryPrefix = "ceralacca-" // short: names of sockets are
	// memoryRoom is what must be free, on the file system and of the machine's memory, in bytes: several times what a run
	// of the tests holds at a time (600 MB were seen).
	memoryRoom = 6 << 30
)

// InMemory makes such a folder, or gives nil where none is to be had: no file system in memory, too little room, or
// programs may not be run from there. What killed processes have left in others is deleted. Remove must be called.
func InMemory() (*Memory, error) { return inMemory("/dev/shm", memoryRoom) }

func inMemory(base string, room uint64) (*Memory, error) {
	sweepMemory(base)
	if !roomy(base, room) {
		return nil, nil
	}
	dir, err := os.MkdirTemp(base, memoryPrefix)
	if err != nil {
		return nil, nil //nolint:nilerr // not ours to write in: the disk will do
	}
	m := &Memory{Dir: dir}
	m.lock, err = TryLock(filepath.Join(dir, "lock"), true)
	if err == nil && m.lock == nil {
		err = errors.New("somebody has locked it")
	}
	if err == nil {
		err = os.Chmod(dir, 0o711) // PostgreSQL runs as another account than root and must get to its own folder
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("devenv: folder in memory %s: %w", dir, err), m.Remove())
	}
	return m, nil
}

// Remove deletes the folder with all that is in it. On nil it does nothing.
func (m *Memory) Remove() error {
	if m == nil {
		return nil
	}
	err := os.RemoveAll(m.Dir)
	m.lock.Unlock()
	return err
}

// sweepMemory deletes folders whose makers are gone. It is a courtesy: what it cannot lock it leaves alone.
func sweepMemory(base string) {
	left, err := filepath.Glob(filepath.Join(base, memoryPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		// A folder without its lock file is being made at this moment, or deleted.
		_, err = os.Stat(filepath.Join(dir, "lock"))
		if err != nil {
			continue
		}
		lock, err := TryLock(filepath.Join(dir, "lock"), true)
		if err == nil && lock != nil {
			_ = os.RemoveAll(dir)
			lock.Unlock()
		}
	}
}

package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ceralacca.dev/services/internal/devenv/child"
)

// stopLeftovers ends whatever an earlier, killed run left on the data folder: a
// postmaster on its way down, or backends that lost theirs. The caller holds the
// cluster's lock, so nothing that is in rightful use is ended.
func stopLeftovers(data string) error {
	pids, err := leftovers(data)
	if err != nil {
		return nil // no /proc on this system: PostgreSQL's own pid file check has to do
	}
	for _, pid := range pids {
		// SIGINT asks a postmaster for a fast shutdown, and cancels a backend, which
		// then notices by itself that its postmaster is gone.
		err := child.End(pid, syscall.SIGINT, 10*time.Second, func() bool { return worksIn(pid, data) })
		if err != nil {
			return fmt.Errorf("devenv/postgres: server of an earlier run on %s: %w", data, err)
		}
	}
	// Nothing lives here any more: a pid file can only mislead, since its number may
	// by now be another process of the same user, at which PostgreSQL refuses to start.
	err = os.Remove(filepath.Join(data, "postmaster.pid"))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	return nil
}

// leftovers returns the server processes on the data folder, the postmaster first.
// Each PostgreSQL process has its data folder as working folder.
func leftovers(data string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	postmaster := postmasterPID(data)
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || !worksIn(pid, data) {
			continue
		}
		if pid == postmaster {
			pids = append([]int{pid}, pids...)
		} else {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func worksIn(pid int, data string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
	if err != nil || cwd != data {
		return false
	}
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	return err == nil && strings.TrimSuffix(filepath.Base(exe), " (deleted)") == "postgres"
}

func postmasterPID(data string) int {
	raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	var pid int
	_, err = fmt.Sscan(string(raw), &pid)
	if err != nil {
		return 0
	}
	return pid
}

package child

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

func attributes(death syscall.Signal, user *User) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}
	if user != nil {
		attr.Credential = &syscall.Credential{Uid: user.UID, Gid: user.GID}
	}
	return attr
}

// Runs says whether pid is alive (a zombie is not) and runs the given program.
func Runs(pid int, program string) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		real = program
	}
	// A rebuilt program leaves the old image running under this name.
	return strings.TrimSuffix(exe, " (deleted)") == real
}

// stopped says whether every thread of pid is stopped. spec: proc(5), state T
func stopped(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		// The name stands in parentheses and may hold anything.
		_, rest, _ := strings.Cut(string(raw[strings.LastIndexByte(string(raw), ')')+1:]), " ")
		if !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

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

//go:build !linux

package child

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Other systems have no parent-death signal: there a child that outlives a killed
// parent is found through its pid file at the next start.
func attributes(_ syscall.Signal, user *User) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if user != nil {
		attr.Credential = &syscall.Credential{Uid: user.UID, Gid: user.GID}
	}
	return attr
}

// Runs says whether pid is alive and runs the given program.
func Runs(pid int, program string) bool {
	out, err := exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.TrimSpace(string(out)) == program
}

// stopped cannot be asked here.
func stopped(int) bool { return true }

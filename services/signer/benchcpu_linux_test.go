package signer_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"ceralacca.dev/services/internal/pg/pgtest"
)

// tick is the unit of times in /proc. spec: proc(5), sysconf(_SC_CLK_TCK)
const tick = 10 * time.Millisecond

// usage reads how much processor was used so far, by whom.
func (h *house) usage(b *testing.B) usage {
	b.Helper()
	var self syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &self))
	u := usage{service: time.Duration(self.Utime.Nano() + self.Stime.Nano()), vault: used(h.vault.PID())}
	for _, pid := range h.postgres(b) {
		u.postgres += used(pid)
	}
	raw, err := os.ReadFile("/proc/stat")
	require.NoError(b, err)
	line, _, _ := strings.Cut(string(raw), "\n")
	for i, field := range strings.Fields(line)[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseInt(field, 10, 64)
		require.NoError(b, err)
		u.possible += time.Duration(n) * tick
		if i != 3 && i != 4 {
			u.machine += time.Duration(n) * tick
		}
	}
	return u
}

// stat are the fields of a process after its name; none when it is gone.
func stat(pid int) []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(raw)[strings.LastIndexByte(string(raw), ')')+1:])
}

// used is the time of a process and of its children that have ended.
func used(pid int) time.Duration {
	fields := stat(pid)
	if len(fields) < 15 {
		return 0
	}
	var sum int64
	for _, f := range fields[11:15] { // utime stime cutime cstime
		n, _ := strconv.ParseInt(f, 10, 64)
		sum += n
	}
	return time.Duration(sum) * tick
}

// postgres are the server's processes.
func (h *house) postgres(b *testing.B) []int {
	b.Helper()
	if h.postmaster == 0 {
		var dir string
		require.NoError(b, pgtest.Admin(b, h.DB("signer")).QueryRow(context.Background(), "SHOW data_directory").Scan(&dir))
		raw, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
		if err != nil {
			return nil // on another machine, or another user's
		}
		h.postmaster, err = strconv.Atoi(strings.Fields(string(raw))[0])
		require.NoError(b, err)
	}
	pids := []int{h.postmaster}
	entries, err := os.ReadDir("/proc")
	require.NoError(b, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields := stat(pid); len(fields) > 1 && fields[1] == strconv.Itoa(h.postmaster) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// apart gives Vault the first processor, and this process and PostgreSQL the second. false: there is one only.
func apart(b *testing.B, h *house) bool {
	b.Helper()
	if runtime.NumCPU() < 2 {
		return false
	}
	pin(b, h.vault.PID(), 0)
	for _, pid := range append(h.postgres(b), os.Getpid()) {
		pin(b, pid, 1)
	}
	return true
}

// shared gives all processors to all again.
func shared(b *testing.B, h *house) {
	b.Helper()
	all := make([]int, runtime.NumCPU())
	for i := range all {
		all[i] = i
	}
	for _, pid := range append(h.postgres(b), os.Getpid(), h.vault.PID()) {
		pin(b, pid, all...)
	}
}

// pin keeps all threads of a process on some processors; those that it makes later too.
func pin(b *testing.B, pid int, processors ...int) {
	b.Helper()
	var set unix.CPUSet
	for _, n := range processors {
		set.Set(n)
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return // gone
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		require.NoError(b, err)
		if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH {
			require.NoError(b, err)
		}
	}
}

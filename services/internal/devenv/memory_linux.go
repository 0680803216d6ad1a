package devenv

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	tmpfsMagic = 0x01021994 // spec: statfs(2), TMPFS_MAGIC
	noExec     = 0x8        // spec: statfs(2), ST_NOEXEC
)

// roomy says whether base is a file system in memory that may hold programs and room more bytes, and whether the
// machine and the group of processes that this one belongs to have as much memory to spare.
func roomy(base string, room uint64) bool {
	var fs syscall.Statfs_t
	err := syscall.Statfs(base, &fs)
	if err != nil || fs.Type != tmpfsMagic || fs.Flags&noExec != 0 || fs.Bavail*uint64(fs.Bsize) < room { //nolint:gosec // a block has a positive size
		return false
	}
	return available("/proc/meminfo") >= room && spare("/sys/fs/cgroup") >= room
}

// available is the machine's memory that could be had without swapping, in bytes. spec: proc_meminfo(5), MemAvailable
func available(file string) uint64 {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) == 3 && words[0] == "MemAvailable:" {
			kilobytes, err := strconv.ParseUint(words[1], 10, 64)
			if err == nil {
				return kilobytes << 10
			}
		}
	}
	return 0
}

// spare is what the control group may still take, in bytes; all there is when it has no limit, or none that a
// container could see. spec: kernel, cgroup-v2, memory.max and memory.current
func spare(group string) uint64 {
	most, limited := number(group + "/memory.max")
	used, known := number(group + "/memory.current")
	switch {
	case !limited:
		return ^uint64(0)
	case !known || used > most:
		return 0
	}
	return most - used
}

// number reads a file that holds one; false when there is none, or the word max.
func number(file string) (uint64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil
}

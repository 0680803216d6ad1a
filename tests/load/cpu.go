package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/tests/harness"
)

// clockTick is what /proc counts CPU time in; USER_HZ is 100 on every Linux architecture Go runs on.
const clockTick = 10 * time.Millisecond

// stat is what /proc/PID/stat says that matters here.
type stat struct {
	pid, parent int
	name        string
	cpu         time.Duration // its own, and that of children it has waited for
}

// cpuByName sums up the CPU time of every process of the platform, of its servers, and of this program.
func cpuByName(p *harness.Platform) (map[string]time.Duration, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	sums := map[string]time.Duration{}
	for _, target := range harness.Targets {
		name := p.ProcessOf(target)
		sums[name] = all[p.PID(name)].cpu
	}
	sums["load"] = all[os.Getpid()].cpu
	backing := p.BackingPID()
	for pid, s := range all {
		switch {
		case pid == backing:
			sums["sandbox"] = s.cpu
		case descends(all, pid, backing):
			sums[serverName(s.name)] += s.cpu
		}
	}
	return sums, nil
}

func serverName(command string) string {
	switch {
	case strings.HasPrefix(command, "postgres"):
		return "postgres"
	case strings.HasPrefix(command, "vaultdev"):
		return "vault"
	case strings.HasPrefix(command, "nats-server"):
		return "nats"
	}
	return command
}

func descends(all map[int]stat, pid, ancestor int) bool {
	for range 32 {
		pid = all[pid].parent
		if pid == ancestor {
			return true
		}
		if pid <= 1 {
			return false
		}
	}
	return false
}

func processes() (map[int]stat, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := map[int]stat{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended since
		}
		s, err := parseStat(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all[s.pid] = s
	}
	return all, nil
}

// parseStat reads a line of proc(5); the name stands in parentheses and may hold anything.
func parseStat(raw []byte) (stat, error) {
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("no name in %q", raw)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw[:open])))
	if err != nil {
		return stat{}, err
	}
	fields := strings.Fields(string(raw[end+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("%d fields", len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, err
	}
	var ticks int64
	for _, i := range []int{11, 12, 13, 14} { // utime stime cutime cstime
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return stat{}, err
		}
		ticks += n
	}
	return stat{pid: pid, parent: parent, name: string(raw[open+1 : end]), cpu: time.Duration(ticks) * clockTick}, nil
}

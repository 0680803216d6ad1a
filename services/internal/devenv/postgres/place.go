package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/child"
)

// account returns the user to drop to. PostgreSQL refuses to run as root, so root
// runs it as the distribution's postgres user, or else as nobody; everyone else
// runs it as themselves (nil).
func account() (*child.User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("devenv/postgres: user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("devenv/postgres: user %s: %w", name, err)
		}
		return &child.User{Name: name, UID: uint32(uid), GID: uint32(gid)}, nil
	}
	return nil, errors.New("devenv/postgres: running as root, PostgreSQL refuses root, and there is no user postgres or nobody to run it as: create one with useradd --system postgres")
}

// place returns the folder that will really hold the cluster, created with mode
// 0700 for the account. It is dir itself unless the account cannot walk there (a
// checkout below /root, say): then a folder under base, with dir as a link to it.
func place(dir string, who *child.User, base string) (string, error) {
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err != nil {
		return "", fmt.Errorf("devenv/postgres: %w", err)
	}
	real := dir
	if who != nil && !reachable(filepath.Dir(dir), who) {
		sum := sha256.Sum256([]byte(dir))
		real = filepath.Join(base, "ceralacca-"+hex.EncodeToString(sum[:6]))
		sweep(base, who)
		err = relink(real, dir)
		if err != nil {
			return "", err
		}
	}
	err = os.Mkdir(real, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("devenv/postgres: %w", err)
	}
	err = own(real, who)
	if err != nil || real == dir {
		return real, err
	}
	err = os.WriteFile(filepath.Join(real, originFile), []byte(dir), 0o600)
	if err != nil {
		return "", fmt.Errorf("devenv/postgres: %w", err)
	}
	return real, nil
}

// standIns is where a folder for dir is made that the account can reach: beside it when it is a temporary one, else
// where a restart of the machine deletes nothing.
func standIns(dir string, who *child.User) string {
	temporary := filepath.Clean(os.TempDir())
	if strings.HasPrefix(dir, temporary+string(filepath.Separator)) && (who == nil || reachable(temporary, who)) {
		return temporary
	}
	return "/var/tmp"
}

// originFile in a stand-in folder says which folder it stands in for.
const originFile = "origin"

// sweep deletes stand-ins that no folder leads to any more, because a checkout or a
// test's temporary folder was deleted. It is a courtesy: what it cannot read or lock
// it leaves alone.
func sweep(base string, who *child.User) {
	stands, err := filepath.Glob(filepath.Join(base, "ceralacca-*"))
	if err != nil {
		return
	}
	for _, stand := range stands {
		info, err := os.Lstat(stand)
		if err != nil || !info.IsDir() || !ours(info, who) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(stand, originFile))
		if err != nil {
			continue
		}
		_, err = os.Lstat(string(raw))
		if !errors.Is(err, os.ErrNotExist) {
			continue
		}
		lock, err := devenv.TryLock(filepath.Join(stand, "lock"), true)
		if err != nil || lock == nil {
			continue
		}
		err = stopLeftovers(filepath.Join(stand, "data"))
		if err == nil {
			_ = os.RemoveAll(stand)
		}
		lock.Unlock()
	}
}

// relink makes link point at target, replacing an older link but nothing else.
func relink(target, link string) error {
	have, err := os.Readlink(link)
	if err == nil && have == target {
		return nil
	}
	if err == nil {
		err = os.Remove(link)
		if err != nil {
			return fmt.Errorf("devenv/postgres: %w", err)
		}
	}
	// A real folder may stand here from the days when the account could reach it.
	err = os.RemoveAll(link)
	if err != nil {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	err = os.Symlink(target, link)
	if err != nil {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	return nil
}

// own refuses a folder that someone else prepared (the base may be world-writable)
// and gives it to the account.
func own(dir string, who *child.User) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	if !info.IsDir() || !ours(info, who) {
		return fmt.Errorf("devenv/postgres: %s is not a folder of ours: delete it and start again", dir)
	}
	if who == nil {
		return nil
	}
	err = os.Chown(dir, int(who.UID), int(who.GID))
	if err != nil {
		return fmt.Errorf("devenv/postgres: give %s to %s: %w", dir, who.Name, err)
	}
	return nil
}

func ours(info os.FileInfo, who *child.User) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == uint32(os.Geteuid()) || who != nil && stat.Uid == who.UID)
}

// reachable says whether the account may enter every folder on the way to dir.
func reachable(dir string, who *child.User) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || !mayEnter(info, who) {
			return false
		}
		up := filepath.Dir(dir)
		if up == dir {
			return true
		}
		dir = up
	}
}

func mayEnter(info os.FileInfo, who *child.User) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	switch {
	case stat.Uid == who.UID:
		return mode&0o100 != 0
	case stat.Gid == who.GID:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

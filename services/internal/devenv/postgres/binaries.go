package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ceralacca.dev/services/internal/devenv"
)

// oldest is the first major version that the platform's SQL is written for.
const oldest = 15

// errNoServer says that no usable PostgreSQL server is installed.
var errNoServer = fmt.Errorf("devenv/postgres: no PostgreSQL server %d or newer found in PATH, /usr/lib/postgresql or /usr/local/pgsql", oldest)

// binaries is one installed server.
type binaries struct {
	dir   string // holds postgres and initdb
	major int
}

// findOrInstall returns a server of the given major version (zero: the newest
// found), installing the distribution's with apt-get if there is none at all.
func findOrInstall(ctx context.Context, w io.Writer, major int) (binaries, error) {
	found := installed()
	if len(found) == 0 {
		err := install(ctx, w)
		if err != nil {
			return binaries{}, err
		}
		found = installed()
	}
	if len(found) == 0 {
		return binaries{}, errNoServer
	}
	if major == 0 {
		return found[0], nil
	}
	for _, b := range found {
		if b.major == major {
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("devenv/postgres: the data folder was made by PostgreSQL %d, but only %d is installed: install postgresql-%d, or delete the folder to start afresh", major, found[0].major, major)
}

// installed lists the usable servers, newest first.
func installed() []binaries {
	var dirs []string
	path, err := exec.LookPath("postgres")
	if err == nil {
		// Distributions link only postgres into PATH; initdb is beside the real file.
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/local/pgsql*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		match, err := filepath.Glob(pattern)
		if err == nil {
			dirs = append(dirs, match...)
		}
	}
	var found []binaries
	for _, dir := range dirs {
		b, err := inspect(dir)
		if err == nil && b.major >= oldest {
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b binaries) int { return cmp.Compare(b.major, a.major) })
	return found
}

func inspect(dir string) (binaries, error) {
	_, err := os.Stat(filepath.Join(dir, "initdb"))
	if err != nil {
		return binaries{}, err
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, err
	}
	major, err := parseMajor(string(out))
	return binaries{dir: dir, major: major}, err
}

// parseMajor reads "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)" or "17rc1".
func parseMajor(version string) (int, error) {
	_, rest, ok := strings.Cut(version, "(PostgreSQL) ")
	if !ok {
		return 0, errors.New("devenv/postgres: unknown version text " + strconv.Quote(version))
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	return strconv.Atoi(rest[:end])
}

// noMainCluster keeps Debian's package from making and starting a system-wide
// server of its own on port 5432 while only its programs are wanted.
const noMainCluster = "/etc/postgresql-common/createcluster.d/ceralacca-install.conf"

func install(ctx context.Context, w io.Writer) error {
	err := devenv.Install(ctx, w, "postgresql-common")
	if err != nil {
		return fmt.Errorf("%w (or set DATABASE_URL to a PostgreSQL %d or newer)", withoutCommon(err), oldest)
	}
	err = devenv.AsRoot(ctx, "create_main_cluster = false\n", "install", "-D", "-m", "644", "/dev/stdin", noMainCluster)
	if err != nil {
		return err
	}
	err = devenv.Install(ctx, w, "postgresql")
	return errors.Join(err, devenv.AsRoot(ctx, "", "rm", "-f", noMainCluster))
}

// withoutCommon names the package that a person would install.
func withoutCommon(err error) error {
	return errors.New(strings.ReplaceAll(err.Error(), "postgresql-common", "postgresql"))
}

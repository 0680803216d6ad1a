package devenv

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Unpacked is a program out of a Debian package that is not installed: the package would bring a
// server that begins to listen. It needs no rights of root.
type Unpacked struct {
	Package   string
	Program   string // path in the package
	Libraries string // folder in the package with the shared libraries that it brings for itself; "" for none
}

// SMTPSink is Postfix's receiver of mail for tests, which can fail in every phase.
var SMTPSink = Unpacked{Package: "postfix", Program: "usr/sbin/smtp-sink", Libraries: "usr/lib/postfix"}

// Unpack gives a command of the program, downloading and unpacking its package the first time.
// Processes that ask at the same time do that once.
func Unpack(ctx context.Context, w io.Writer, root string, u Unpacked) (path string, env []string, err error) {
	dir, err := Cache(root, "peers", u.Package)
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, u.Program)
	if u.Libraries != "" {
		env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(dir, u.Libraries))
	}
	if exists(path) {
		return path, env, nil
	}
	lock, err := Lock(ctx, dir+".lock", true)
	if err != nil {
		return "", nil, err
	}
	defer lock.Unlock()
	if exists(path) { // another process unpacked it while this one waited
		return path, env, nil
	}
	step := Begin(w, "unpacking "+u.Package)
	err = unpack(ctx, step, dir, u)
	step.End(err)
	if err != nil {
		return "", nil, fmt.Errorf("devenv: unpack %s: %w: by hand: apt-get download %s && dpkg-deb -x %s_*.deb %s", u.Package, err, u.Package, u.Package, dir)
	}
	return path, env, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// unpack fills dir at once: it is there whole or not at all.
func unpack(ctx context.Context, step *Step, dir string, u Unpacked) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), u.Package+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // what is left of it is only in the way
	download := exec.CommandContext(ctx, "apt-get", "-q", "download", u.Package)
	download.Dir = work
	out, err := download.CombinedOutput()
	if err != nil {
		step.Detail("refreshing the package lists")
		if apt, aptErr := aptGet(ctx); aptErr == nil && runShown(ctx, step, append(apt, "update")) == nil {
			again := exec.CommandContext(ctx, "apt-get", "-q", "download", u.Package)
			again.Dir = work
			out, err = again.CombinedOutput()
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(work, u.Package+"_*.deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get download left %d packages", len(found))
	}
	tree := filepath.Join(work, "tree")
	out, err = exec.CommandContext(ctx, "dpkg-deb", "-x", found[0], tree).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if !exists(filepath.Join(tree, u.Program)) {
		return fmt.Errorf("the package has no %s", u.Program)
	}
	_ = os.RemoveAll(dir) // of an attempt that was cut short
	return os.Rename(tree, dir)
}

// Package devenv owns what development and tests need on the machine around the
// platform: where the checkout and its cache are, file locks between processes,
// progress lines, tools built from source into the cache, and distribution
// packages. Its sub-packages run real servers: postgres, vault and nats.
//
// It refuses to be part of a production program: nothing that ceralaccad links
// may import it, and no server it starts listens off loopback.
package devenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNoCheckout says that neither CERALACCA_ROOT nor a parent of the working
// folder is a checkout of the project.
var ErrNoCheckout = errors.New("devenv: not inside a ceralacca checkout: run this from the repository, or set CERALACCA_ROOT to its folder")

// Root returns the absolute path of the checkout: CERALACCA_ROOT when set, else
// the nearest parent of the working folder that holds go.work and deploy/vaultdev.
func Root() (string, error) {
	if dir := os.Getenv("CERALACCA_ROOT"); dir != "" {
		if !isRoot(dir) {
			return "", fmt.Errorf("devenv: CERALACCA_ROOT=%s holds no go.work and deploy/vaultdev: point it at the repository, or unset it", dir)
		}
		return filepath.Abs(dir)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("devenv: working folder: %w", err)
	}
	for {
		if isRoot(dir) {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", ErrNoCheckout
		}
		dir = up
	}
}

func isRoot(dir string) bool {
	work, err := os.Stat(filepath.Join(dir, "go.work"))
	if err != nil || work.IsDir() {
		return false
	}
	vault, err := os.Stat(filepath.Join(dir, "deploy", "vaultdev"))
	return err == nil && vault.IsDir()
}

// Cache returns root/.cache joined with elem, after creating the folder that
// holds it. Everything under it can be deleted at any time nothing is running.
func Cache(root string, elem ...string) (string, error) {
	path := filepath.Join(append([]string{root, ".cache"}, elem...)...)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err != nil {
		return "", fmt.Errorf("devenv: cache folder: %w", err)
	}
	return path, nil
}

// Package sandboxtest starts sandboxes for tests. It owns the authorities and certificates of the providers' mail
// that they share: RSA keys cost more than all the rest of a start. It refuses to share anything else; each sandbox has
// its own folder, clock and record. It is used by tests only.
package sandboxtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"ceralacca.dev/services/sandbox"
)

// kept makes the providers' certificates once in a process and gives their files by name: folder/file.
var kept = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "sandboxtest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	world, err := sandbox.Start(context.Background(), sandbox.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	world.Close()
	paths, err := filepath.Glob(filepath.Join(dir, "pec-*", "*"))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, path := range paths {
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return nil, err
		}
		files[name], err = os.ReadFile(path)
		if err != nil {
			return nil, err
		}
	}
	return files, nil
})

// Start runs a sandbox until the end of the test, in a folder of the test's own unless cfg names one.
func Start(t testing.TB, cfg sandbox.Config) *sandbox.Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = Dir(t)
	}
	world, err := sandbox.Start(context.Background(), cfg)
	if err != nil {
		t.Fatalf("sandboxtest: %v", err)
	}
	t.Cleanup(world.Close)
	return world
}

// Dir is a folder of the test's own with providers that have their certificates already.
func Dir(t testing.TB) string {
	t.Helper()
	files, err := kept()
	if err != nil {
		t.Fatalf("sandboxtest: %v", err)
	}
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err = os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatalf("sandboxtest: %v", err)
		}
	}
	return dir
}

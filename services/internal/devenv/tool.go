package devenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Tool is a program that the project builds from source into .cache/bin.
type Tool struct {
	Name    string   // the program's file name
	Package string   // what go build is given, relative to Dir
	Dir     string   // module folder, relative to the root
	Sources []string // files and folders, relative to the root, that decide when it is stale
	Flags   []string // further go build flags
}

// Build returns the path of the built tool, building it first if it is missing or
// older than its sources. Processes that ask at the same time build it once.
func Build(ctx context.Context, w io.Writer, root string, t Tool) (string, error) {
	bin, err := Cache(root, "bin", t.Name)
	if err != nil {
		return "", err
	}
	want, err := fingerprint(root, t)
	if err != nil {
		return "", err
	}
	if current(bin, want) {
		return bin, nil
	}
	lock, err := Lock(ctx, bin+".lock", true)
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	if current(bin, want) { // another process built it while this one waited
		return bin, nil
	}
	step := Begin(w, "building "+t.Name)
	err = compile(ctx, step, root, bin, t)
	step.End(err)
	if err != nil {
		return "", fmt.Errorf("devenv: build %s: %w", t.Name, err)
	}
	err = os.WriteFile(bin+".sum", []byte(want+"\n"), 0o644)
	if err != nil {
		return "", fmt.Errorf("devenv: build %s: %w", t.Name, err)
	}
	return bin, nil
}

func compile(ctx context.Context, step *Step, root, bin string, t Tool) error {
	tool, err := goTool()
	if err != nil {
		return err
	}
	fresh := bin + ".new"
	words := []string{tool, "build", "-v", "-o", fresh}
	words = append(append(words, t.Flags...), t.Package)
	var fetched, compiled int
	show := func(line string) string {
		module, ok := strings.CutPrefix(line, "go: downloading ")
		if ok {
			fetched++
			return fmt.Sprintf("%d modules downloaded, now %s", fetched, module)
		}
		if strings.HasPrefix(line, "go: ") || strings.Contains(line, " ") {
			return ""
		}
		compiled++
		return fmt.Sprintf("%d packages compiled, now %s", compiled, line)
	}
	err = runShownIn(ctx, step, filepath.Join(root, t.Dir), []string{"GOWORK=off"}, words, show)
	if err != nil {
		return err
	}
	// A rename never lets another process run a half-written program.
	return os.Rename(fresh, bin)
}

// goTool finds the go command, also where only its usual folder holds it.
func goTool() (string, error) {
	path, err := exec.LookPath("go")
	if err == nil {
		return path, nil
	}
	for _, path = range []string{"/usr/local/go/bin/go", "/usr/lib/go/bin/go"} {
		_, err = os.Stat(path)
		if err == nil {
			return path, nil
		}
	}
	return "", errors.New("the go command is not in PATH: install Go 1.26 or newer from go.dev/dl")
}

func current(bin, want string) bool {
	_, err := os.Stat(bin)
	if err != nil {
		return false
	}
	have, err := os.ReadFile(bin + ".sum")
	return err == nil && strings.TrimSpace(string(have)) == want
}

// fingerprint hashes the tool's sources, its flags and the compiler's version.
func fingerprint(root string, t Tool) (string, error) {
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, runtime.Version(), runtime.GOOS, runtime.GOARCH, t.Package, t.Flags)
	for _, source := range t.Sources {
		err := filepath.WalkDir(filepath.Join(root, source), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !builtFrom(path) {
				return err
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(sum, name, len(raw))
			_, _ = sum.Write(raw)
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("devenv: sources of %s: %w", t.Name, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func builtFrom(path string) bool {
	name := filepath.Base(path)
	if name == "go.mod" || name == "go.sum" {
		return true
	}
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
}

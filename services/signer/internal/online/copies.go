package online

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// copied is the last good copy of an address, nil when there is none. It is verified like what comes
// from the network, so a copy that was changed is no danger.
func (l *Lists) copied(ctx context.Context, source string) []byte {
	if l.cfg.Dir == "" || !remote(source) {
		return nil
	}
	raw, err := l.file(l.copyOf(source))
	if err != nil {
		return nil
	}
	l.log.WarnContext(ctx, "trusted list read from its last copy", "list", source)
	return raw
}

// copy is copied as a reader.
func (l *Lists) copy(ctx context.Context, source string) ([]byte, error) {
	if raw := l.copied(ctx, source); raw != nil {
		return raw, nil
	}
	return nil, errors.New("there is no copy")
}

func (l *Lists) file(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	limit := l.client.cfg.MaxList
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s is longer than the limit of %d bytes", name, limit)
	}
	return raw, err
}

func (l *Lists) copyOf(source string) string {
	return filepath.Join(l.cfg.Dir, digest([]byte(source))+".xml")
}

// store keeps a copy of what was verified. A copy that cannot be kept is no reason to do without the
// list.
func (l *Lists) store(ctx context.Context, source string, raw []byte) {
	if l.cfg.Dir == "" || !remote(source) {
		return
	}
	err := os.MkdirAll(l.cfg.Dir, 0o700)
	if err == nil {
		err = replace(l.copyOf(source), raw)
	}
	if err != nil {
		l.log.WarnContext(ctx, "copy of a trusted list not kept", "list", source, "error", err.Error())
	}
}

// replace writes a file so that after a power cut the old or the new one is there, whole; the replicas
// of the service may share the folder.
func replace(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "*.new") // CreateTemp makes it 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A floor on disk is an empty file that is named by territory and number. Replicas that share the
// folder only add names, and take lower ones away when a higher one is there, so that none undoes what
// another wrote.
const floorEnding = ".held"

// recall reads the floors of before the start.
func (l *Lists) recall(ctx context.Context) {
	if l.recalled || l.cfg.Dir == "" {
		return
	}
	entries, err := os.ReadDir(l.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // the first start
	}
	l.outcome(ctx, l.cfg.Dir, problem{}, err)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recalled = true
	for _, e := range entries {
		if key, sequence, ok := floorNamed(e.Name()); ok {
			l.floors[key] = max(l.floors[key], sequence)
			l.written[key] = max(l.written[key], sequence)
		}
	}
}

func floorName(key string, sequence int) string {
	return url.PathEscape(key) + "." + strconv.Itoa(sequence) + floorEnding
}

func floorNamed(name string) (key string, sequence int, ok bool) {
	name, ok = strings.CutSuffix(name, floorEnding)
	dot := strings.LastIndexByte(name, '.')
	if !ok || dot < 0 {
		return "", 0, false
	}
	key, err := url.PathUnescape(name[:dot])
	if err != nil {
		return "", 0, false
	}
	sequence, err = strconv.Atoi(name[dot+1:])
	return key, sequence, err == nil
}

// record writes a floor down.
func (l *Lists) record(ctx context.Context, key string) {
	if l.cfg.Dir == "" {
		return
	}
	l.mu.RLock()
	from, to := l.written[key], l.floors[key]
	l.mu.RUnlock()
	if from >= to {
		return
	}
	err := os.MkdirAll(l.cfg.Dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(l.cfg.Dir, floorName(key, to)), nil, 0o600)
	}
	if err == nil {
		err = syncDir(l.cfg.Dir)
	}
	l.outcome(ctx, l.cfg.Dir, problem{}, err)
	if err != nil {
		return
	}
	l.mu.Lock()
	l.written[key] = to
	l.mu.Unlock()
	entries, err := os.ReadDir(l.cfg.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if k, n, ok := floorNamed(e.Name()); ok && k == key && n < to {
			_ = os.Remove(filepath.Join(l.cfg.Dir, e.Name())) // a lower one says nothing beside a higher one
		}
	}
}

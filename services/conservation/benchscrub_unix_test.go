//go:build unix

package conservation

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/vault"
)

// reportScrub reads both copies of objects; before that one large file with the same bytes, which is the disk's sequential speed in the
// same run, and the copies' own files one after the other, as cat would.
func reportScrub(b *testing.B) {
	_, db := durable(b, filepath.Join(b.TempDir(), "pg"))
	h := openBench(b, db)
	ctx, big := context.Background(), filepath.Join(b.TempDir(), "whole")
	whole, err := os.Create(big)
	require.NoError(b, err)
	var total int64
	for range *benchScrub {
		id, raw := uuid.New(), noise(1<<20)
		o := &object{
			id: id, kind: kindIntake, retain: time.Now().Add(aDay),
			Object: vault.Object{Key: "tenants/acme/intake/" + id.String(), Size: int64(len(raw)), SHA256: sha256.Sum256(raw)},
		}
		h.service.replicas.place(o)
		require.NoError(b, h.service.replicas.write(ctx, o, bytes.NewReader(raw)))
		require.NoError(b, h.service.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			return h.service.replicas.record(ctx, tx, "acme", []*object{o})
		}))
		for range 2 {
			_, err = whole.Write(raw)
			require.NoError(b, err)
		}
		total += 2 * o.Size
	}
	require.NoError(b, whole.Sync())
	require.NoError(b, whole.Close())
	h.admin(b, `UPDATE archive_copy SET check_due = now()`)
	cold := coldly(b, big, h.disks[0], h.disks[1])
	plain, files := readThrough(b, big), time.Duration(0)
	for _, dir := range h.disks {
		files += readThrough(b, filepath.Join(dir, "objects"))
	}
	coldly(b, h.disks[0], h.disks[1])
	own, began := cpuTime(b), time.Now()
	f := &findings{}
	require.NoError(b, h.service.scrub(ctx, f))
	scrubbed := time.Since(began)
	figure("conservation: processor time of the scrub", (cpuTime(b)-own).Seconds()/scrubbed.Seconds(), "processors", "-")
	require.Equal(b, total, f.Bytes)
	require.Empty(b, f.Problems)
	speed := float64(total) / 1e6
	figure("conservation: sequential reading of one file, "+cold, speed/plain.Seconds(), "MB/s", "-")
	figure("conservation: reading the copies' files one after the other, "+cold, speed/files.Seconds(), "MB/s", "-")
	figure("conservation: scrub of the same amount, two copies of objects of 1 MiB, "+cold, speed/scrubbed.Seconds(), "MB/s", "-")
	figure("conservation: the scrub's part of the sequential speed", plain.Seconds()/scrubbed.Seconds(), "", "> 0.5")
}

// readThrough reads files to their end, one after the other.
func readThrough(b *testing.B, path string) time.Duration {
	b.Helper()
	piece, began := make([]byte, 1<<20), time.Now()
	require.NoError(b, filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{file}, piece)
		return errors.Join(err, file.Close())
	}))
	return time.Since(began)
}

func noise(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.Read(out) // it never fails
	return out
}

// coldly has the system forget the bytes of files that are on disk, where it can be asked to; it says what it did.
func coldly(b *testing.B, paths ...string) string {
	b.Helper()
	done := true
	for _, path := range paths {
		require.NoError(b, filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			done = forgetPages(file) && done
			return file.Close()
		}))
	}
	if done {
		return "from the disk"
	}
	return "from memory"
}

package pecgateway_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/internal/run/runtest"
)

// TestG2FullAndReadOnlyArchive: the file system of the archive has no room, and then nothing may be written to it. Nothing is
// received meanwhile and no cursor moves, what is there can be read, and afterwards everything comes. Only who may mount can have
// such a file system: elsewhere TestG2ArchiveCannotBeWritten shows the same with a file in the place of a folder. TESTPLAN G2.
func TestG2FullAndReadOnlyArchive(t *testing.T) {
	t.Parallel()
	var blobs string
	mount := func(o *runtest.Options) {
		blobs = filepath.Join(o.Dir, "blobs")
		require.NoError(t, os.MkdirAll(blobs, 0o700))
		err := unix.Mount("tmpfs", blobs, "tmpfs", 0, "size=256k,mode=0700")
		if errors.Is(err, unix.EPERM) {
			t.Skip("this user may not mount a file system: run it as root, or with unshare -mr")
		}
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Unmount(blobs, unix.MNT_DETACH) }) // before its folder is removed
	}
	remount := func(flags uintptr, data string) {
		require.NoError(t, unix.Mount("tmpfs", blobs, "tmpfs", unix.MS_REMOUNT|flags, data))
	}
	h := openDovecot(t, "", dovecot.Options{}, mount)
	h.believe()
	box := h.keep(recipient)
	h.deliver(recipient, plain("prima"))
	h.kept(box)
	first := h.list(box)[0]
	next := func() int { return h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`) }
	stands := func(what string, at int) {
		h.eventually(what, func() bool { return h.box(box).GetProblemCode() == "BLOB_STORE_UNAVAILABLE" })
		require.Equal(t, at, next(), what)
		_, err := h.bytesOf(first)
		require.ErrorContains(t, err, "EOF", "what is kept is there")
	}

	h.deliver(recipient, plain("grande")+strings.Repeat(strings.Repeat("0", 99)+"\n", 4_000)) // 400 kB
	h.deliver(recipient, plain("dietro"))
	stands("full", 2)
	require.Len(t, h.list(box), 1)
	remount(0, "size=8m,mode=0700")
	h.kept(box)
	h.eventually("room again", func() bool { return h.box(box).GetProblemCode() == "" })
	require.Equal(t, 4, next())

	remount(unix.MS_RDONLY, "size=8m,mode=0700")
	h.deliver(recipient, plain("intanto"))
	stands("read-only", 4)
	require.Len(t, h.list(box), 3)
	remount(0, "size=8m,mode=0700")
	h.kept(box)
	h.eventually("active", func() bool { return h.box(box).GetProblemCode() == "" })
	require.Zero(t, h.query(`SELECT count(*) FROM damaged_message`))
	h.invariants(box)
}

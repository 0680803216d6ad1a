package pecgateway_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/sandbox/client"
)

// TestB8FirstReadingGoesOn: the gateway ends in the middle of the first reading; the next one goes on behind what is
// recorded. Receipts among the messages count for what was sent before. (A hundred thousand: make bench-pec.)
func TestB8FirstReadingGoesOn(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(sender)
	const n = 700
	for i := range n {
		h.deliver(sender, plain(fmt.Sprintf("m%d", i)))
	}
	receipt := h.receiptBytes(client.PECForge{Tipo: "accettazione", MsgID: "nostra@alfa.test", Recipient: recipient, How: "valid"})
	w, ready := h.wireTo(h.dovecot.IMAPS()), make(chan struct{})
	w.when(func(string, net.Conn) bool { // the reading begins when everything is there
		select {
		case <-ready:
		case <-t.Context().Done():
		}
		return false
	})
	box := h.keep(sender, through(w))
	name := h.sent(box, "nostra@alfa.test", recipient)
	h.deliver(sender, receipt)
	close(ready)
	h.eventually("some are received", func() bool { return h.query(`SELECT count(*) FROM message WHERE direction = 1`) > 0 })
	before := h.query(`SELECT count(*) FROM message WHERE direction = 1`)
	h.Stop()
	h.start()
	h.kept(box)
	h.eventually("the first reading is over", func() bool { return h.box(box).GetSync().GetDone() })
	require.Equal(t, n+2, h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`))
	t.Logf("it ended when about %d of %d were received", before, n+1)
	require.Equal(t, n+1, h.query(`SELECT sync_fetched FROM mailbox`), "each counts once")
	h.eventually("the receipt counts", func() bool { return h.get(name).GetState() == pecv1.MessageState_MESSAGE_STATE_ACCEPTED })
	h.invariants(box)
}

// TestG2ArchiveCannotBeWritten: while bytes cannot be kept nothing is received and no cursor moves; afterwards
// everything comes. Kept bytes that change are noticed when they are read.
func TestG2ArchiveCannotBeWritten(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	box := h.keep(recipient)
	h.deliver(recipient, plain("prima"))
	h.kept(box)
	// What a full or read-only medium does, also to root: a file where the folder has to be.
	dir := filepath.Join(h.opts.Dir, "blobs", "tenants")
	require.NoError(t, os.Rename(dir, dir+".away"))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	at := h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`)
	for i := range 5 {
		h.deliver(recipient, plain(fmt.Sprintf("intanto%d", i)))
	}
	h.eventually("the mailbox is not read", func() bool { return h.box(box).GetProblemCode() != "" })
	require.Equal(t, at, h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`))
	require.Len(t, h.list(box), 1)
	require.NoError(t, os.Remove(dir))
	require.NoError(t, os.Rename(dir+".away", dir))
	h.kept(box)
	h.eventually("active", func() bool { return h.box(box).GetProblemCode() == "" })
	require.Len(t, h.list(box), 6)
	h.invariants(box)

	m := h.list(box)[0]
	var sum []byte
	require.NoError(t, h.DB("pec-gateway").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT sha256 FROM message WHERE id = $1`, m.GetName()[strings.LastIndex(m.GetName(), "/")+1:]).Scan(&sum)
	}))
	name := hex.EncodeToString(sum)
	var file string
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == name {
			file = path
		}
		return err
	}))
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	raw[len(raw)/2] ^= 1
	require.NoError(t, os.Chmod(file, 0o600))
	require.NoError(t, os.WriteFile(file, raw, 0o600))
	stream, err := h.api.GetMessageContent(t.Context(), &pecv1.GetMessageContentRequest{Name: m.GetName()})
	require.NoError(t, err)
	for err == nil {
		_, err = stream.Recv()
	}
	require.False(t, errors.Is(err, io.EOF), "changed bytes were handed out as if nothing were")
}

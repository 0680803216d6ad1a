package conservation

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"hash/fnv"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
)

// LogConfig is the log of evidence. Without origin and key there is none: units wait for it in the database
// and no receipts are given.
type LogConfig struct {
	// Origin names the log, for ever, for example archivio.example/2026.
	Origin string `yaml:"origin"`
	// KeyFile holds the key that signs checkpoints and nothing else: Ed25519, PKCS#8 PEM
	// (openssl genpkey -algorithm ed25519). It is not the key of the packages.
	KeyFile string `yaml:"key_file"`
	// FormerKeys are verifier keys (name+id+key) that signed before key_file did.
	FormerKeys []string `yaml:"former_keys"`
	// Every is the longest that a unit waits for its leaf, and the shortest between two checkpoints.
	Every time.Duration `yaml:"every"`
	// Batch is how many leaves one checkpoint adds at most.
	Batch int `yaml:"batch"`
	// Witnesses cosign the checkpoints. They are asked for nothing but honesty about what they saw: one that claims
	// to have seen more than there is stops the log.
	Witnesses []WitnessConfig `yaml:"witnesses"`
	// Quorum is how many of them must have cosigned a checkpoint; below, the archive goes on and says so.
	Quorum int `yaml:"quorum"`
	// CosignEvery is the time between two checkpoints that are cosigned.
	CosignEvery time.Duration `yaml:"cosign_every"`
}

func (c LogConfig) on() bool { return c.Origin != "" || c.KeyFile != "" }

func (c LogConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.on() && (c.Origin == "" || c.KeyFile == ""), "log", "origin and key_file go together: set both, or neither")
	bad(strings.ContainsAny(c.Origin, " +\t\r\n"), "log.origin", "%q has spaces or a +, which signed notes do not admit in a name", c.Origin)
	bad(c.Every <= 0, "log.every", "must be more than 0s")
	bad(c.Batch < 1 || c.Batch > 10_000, "log.batch", "must be between 1 and 10000")
	c.checkWitnesses(bad)
}

// logbook appends to the log. Of all processes one does: the holder of a session lock, and everything that
// it writes goes through the connection that holds it.
//
// Three things are settled one after the other, each in a transaction: the order of the leaves; the tiles
// with the signed checkpoint over them; the time stamp. A crash between two leaves the first, from which the
// second follows with the same bytes: Ed25519 signs the same tree in the same way.
type logbook struct {
	db       *pg.DB
	cfg      LogConfig
	signer   *tlog.Signer
	policy   tlog.Policy
	stamps   []*authority
	watchers *watchers
	bearings *bearings
	blobs    blob.Store
	log      *slog.Logger
	now      func() time.Time
	lock     int64
	store    func(tlog.Store) tlog.Store // of the writer; tests break it
	stated   bell
}

func newLogbook(s *Service) (*logbook, error) {
	cfg := s.cfg.Log
	key, err := readLogKey(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	signer, err := tlog.NewSigner(cfg.Origin, key)
	if err != nil {
		return nil, run.BadField("log.origin", "%v", err)
	}
	l := &logbook{
		db: s.db, cfg: cfg, signer: signer, stamps: s.stamps, bearings: s.bearings, blobs: s.blobs, log: s.log, now: s.now,
		policy: tlog.Policy{Origin: cfg.Origin, LogKeys: []*tlog.Verifier{&signer.Verifier}},
		store:  func(t tlog.Store) tlog.Store { return t },
	}
	for _, text := range cfg.FormerKeys {
		v, err := tlog.ParseVerifier(text)
		if err != nil {
			return nil, run.BadField("log.former_keys", "%v", err)
		}
		l.policy.LogKeys = append(l.policy.LogKeys, v)
	}
	l.watchers, err = newWatchers(cfg, s.bus)
	if err == nil {
		err = l.watchers.observe()
	}
	if err != nil {
		return nil, err
	}
	h := fnv.New64a()
	h.Write([]byte("conservation log:" + s.db.Schema()))
	l.lock = int64(h.Sum64()) //nolint:gosec // any 64 bits will do
	return l, nil
}

func readLogKey(file string) (ed25519.PrivateKey, error) {
	mend := "make one with: openssl genpkey -algorithm ed25519 -out " + file
	raw, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, run.BadField("log.key_file", "%v; %s", err, mend)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, run.BadField("log.key_file", "%s holds no PEM block; %s", file, mend)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, run.BadField("log.key_file", "%s: %v; %s", file, err, mend)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, run.BadField("log.key_file", "%s holds a %T, not an Ed25519 key; %s", file, parsed, mend)
	}
	return key, nil
}

const (
	logElection = time.Second
	logPause    = 2 * time.Second // after a trouble
)

// run appends until ctx ends.
func (l *logbook) append(ctx context.Context) error {
	for ctx.Err() == nil {
		err := l.term(ctx)
		if ctx.Err() != nil {
			break
		}
		l.log.ErrorContext(ctx, "the log of evidence waits", "error", err)
		pause(ctx, logPause)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// term is one time of leadership: from the election to the first error.
func (l *logbook) term(ctx context.Context) error {
	conn, err := l.lead(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	w, err := l.resume(ctx, conn)
	if err != nil {
		return err
	}
	err = l.preflight(ctx, w.began)
	if err != nil {
		return err
	}
	_, err = db.New(conn).OweReports(ctx)
	if err != nil {
		return pg.Error(err)
	}
	l.log.InfoContext(ctx, "appends to the log of evidence", "origin", l.cfg.Origin, "size", w.size, "key", l.signer.String())
	sctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	contradiction := make(chan error, 1)
	beside.Go(func() { l.stampDaily(sctx) })
	beside.Go(func() { contradiction <- l.witnessing(sctx) })
	defer func() { stop(); beside.Wait() }()
	l.stated.rings.Store(true)
	defer func() { l.stated.rings.Store(false); l.stated.ring() }()
	for {
		select {
		case err = <-contradiction:
			if err != nil {
				return err
			}
		default:
		}
		n, err := w.round(ctx)
		if err != nil {
			return err
		}
		if n < l.cfg.Batch {
			pause(ctx, l.cfg.Every)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// lead waits until this process is the one that appends, and gives the connection that says so.
func (l *logbook) lead(ctx context.Context) (*pgx.Conn, error) {
	conn, err := l.db.Dedicated(ctx)
	if err != nil {
		return nil, err
	}
	for mine := false; !mine; {
		err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, l.lock).Scan(&mine)
		if err == nil && !mine {
			pause(ctx, logElection)
			err = ctx.Err()
		}
		if err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
			return nil, pg.Error(err)
		}
	}
	_, err = conn.Exec(ctx, `SET ceralacca.scope = 'system'`)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, pg.Error(err)
	}
	return conn, nil
}

// writer is the log at work: its right edge, and the connection on which everything is written.
type writer struct {
	*logbook
	conn  *pgx.Conn
	tiles *tileStore // what book writes to; each round puts its transaction there
	book  *tlog.Log
	size  int64 // of the last checkpoint
	began tlog.Tree
}

// resume takes the log up where its last checkpoint ended. A checkpoint that no known key signed, or
// tiles that do not give its root, stop it: nothing is written over a log that was changed.
func (l *logbook) resume(ctx context.Context, conn *pgx.Conn) (*writer, error) {
	q := db.New(conn)
	tree := tlog.EmptyTree()
	last, err := q.LastCheckpoint(ctx)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, pg.Error(err)
	}
	if err == nil {
		signed, err := tlog.OpenCheckpoint(last.Note, l.policy)
		if err != nil {
			return nil, fault.Precondition("LOG_KEY_CHANGED", "the last checkpoint (size %d) is signed by none of the log's keys: put key_file back, or name the key that signed it in log.former_keys", last.Size).With(err)
		}
		tree = signed.Tree
	}
	w := &writer{logbook: l, conn: conn, tiles: &tileStore{q}, size: tree.Size, began: tree}
	w.book, err = tlog.Open(ctx, l.store(w.tiles), tree)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// round settles what waits and states it: gives how many facts waited.
func (w *writer) round(ctx context.Context) (int, error) {
	n, err := w.settle(ctx, w.conn)
	if err != nil {
		return 0, err
	}
	for {
		more, err := w.publish(ctx)
		if err != nil {
			return 0, err
		}
		if !more {
			return n, nil
		}
	}
}

// publish appends settled leaves to the tiles and signs the tree, in one transaction. More says that
// there may be further leaves. After an error the log has to be resumed.
func (w *writer) publish(ctx context.Context) (more bool, err error) {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return false, pg.Error(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after the commit it does nothing
	q := db.New(tx)
	w.tiles.q = q
	leaves, err := q.SettledFrom(ctx, db.SettledFromParams{First: w.book.Size(), Batch: int32(w.cfg.Batch)}) //nolint:gosec // at most 10000
	if err != nil || len(leaves) == 0 {
		return false, pg.Error(err)
	}
	for _, leaf := range leaves {
		if leaf.Idx != w.book.Size() {
			return false, fault.Internal("LOG_GAP", "leaf %d is missing from log_leaf: the database was changed by hand", w.book.Size())
		}
		_, err = w.book.Append(ctx, leaf.Entry)
		if err != nil {
			return false, err
		}
	}
	tree, err := w.book.Commit(ctx)
	if err != nil {
		return false, err
	}
	note, err := tlog.Checkpoint{Origin: w.cfg.Origin, Tree: tree}.Sign(w.signer)
	if err != nil {
		return false, err
	}
	err = q.InsertCheckpoint(ctx, db.InsertCheckpointParams{Size: tree.Size, Note: note, At: pg.Time(w.now())})
	if err != nil {
		return false, pg.Error(err)
	}
	err = w.tiles.thin(ctx, w.size, tree.Size)
	if err != nil {
		return false, err
	}
	err = tx.Commit(ctx)
	if err != nil {
		return false, pg.Error(err)
	}
	w.size = tree.Size
	w.stated.ring()
	return len(leaves) == w.cfg.Batch, nil
}

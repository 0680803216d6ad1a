package conservation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
)

// Names of the replicas, in the order in which they are read.
const (
	primaryReplica = "primary"
	secondReplica  = "second"
)

// States of a copy.
const (
	copyGood    = "GOOD"
	copyOwed    = "OWED"
	copyDamaged = "DAMAGED"
)

// Kinds of objects.
const (
	kindIntake  = "intake"
	kindPackage = "package"
	kindReport  = "report"

	kindPosition = "position" // a mark, of which no row tells
)

// firstCheck is when a new object is looked at again: what a disk loses, it mostly loses young.
const firstCheck = 24 * time.Hour

// replica is one of the two vaults, as this process finds it.
type replica struct {
	vault.Vault
	name string

	mu      sync.Mutex
	failing time.Time // since when it has been away; zero: it works
	why     string
	out     bool // documents are taken in without it
}

// replicas are the two vaults that custody rests on. An object counts when it is in both; while one is away
// for long, openly, when it is in the other.
type replicas struct {
	db   *pg.DB
	bus  *bus.Bus
	jobs *run.Jobs
	all  []*replica
	cfg  StorageConfig
	log  *slog.Logger
	now  func() time.Time

	wrote *atomic.Bool // something was added since the last mark of the position
}

func newReplicas(s *Service) (*replicas, error) {
	r := &replicas{db: s.db, bus: s.bus, jobs: s.jobs, cfg: s.cfg.Storage, log: s.log, now: s.now, wrote: &atomic.Bool{}}
	for _, c := range []struct {
		name string
		cfg  ReplicaConfig
	}{{primaryReplica, r.cfg.Primary}, {secondReplica, r.cfg.Second}} {
		v, err := c.cfg.open("storage."+c.name, s.now)
		if err != nil {
			return nil, err
		}
		r.all = append(r.all, &replica{Vault: v, name: c.name})
	}
	return r, nil
}

// saw notes whether the replica answered.
func (r *replica) saw(err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.failing, r.why = time.Time{}, ""
	case errors.Is(err, context.Canceled):
	case fault.Of(err).Kind == fault.KindUnavailable || fault.Of(err).Kind == fault.KindPrecondition:
		if r.failing.IsZero() {
			r.failing = now
		}
		r.why = fault.Of(err).Error()
	}
}

// trouble is the reason for which nothing is written to it now: it is known to be away, and not yet out.
func (r *replica) trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing.IsZero() || r.out {
		return nil
	}
	return fault.Unavailable("REPLICA_AWAY", "the %s replica of the archive does not answer: %s", r.name, r.why)
}

func (r *replica) isOut() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out
}

func (r *replica) setOut(out bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out = out
}

// object is bytes on their way into the archive.
type object struct {
	vault.Object

	id     uuid.UUID
	kind   string
	retain time.Time
	to     []*replica // that it is written to; the others owe it
}

// place decides where an object goes: to every replica that is not out.
func (r *replicas) place(o *object) {
	o.to = nil
	for _, x := range r.all {
		if !x.isOut() {
			o.to = append(o.to, x)
		}
	}
}

// lock is what a bucket promises for an object: what was taken in waits for its package under a lock that an
// administrator can lift; a package under one that nobody can, to the end of its term.
func (o *object) lock() vault.Lock {
	return vault.Lock{Until: o.retain, Final: o.kind != kindIntake}
}

// write stores the object in its replicas, side by side, and reads each copy back. All of them must succeed.
func (r *replicas) write(ctx context.Context, o *object, from io.ReaderAt) error {
	errs := make([]error, len(o.to))
	var wg sync.WaitGroup
	for i, x := range o.to {
		wg.Go(func() {
			errs[i] = x.Put(ctx, o.Object, from, o.lock())
			x.saw(errs[i], r.now())
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("conservation: %s replica: %w", o.to[i].name, err)
		}
	}
	return nil
}

// record writes the rows of objects of one tenant and kind that were placed together.
func (r *replicas) record(ctx context.Context, tx pgx.Tx, tenant string, list []*object) error {
	if len(list) == 0 {
		return nil
	}
	r.wrote.Store(true)
	now := pg.Time(r.now())
	p := db.InsertObjectsParams{TenantID: tenant, Kind: list[0].kind, RetainUntil: pg.Time(list[0].retain), At: now, Due: now.Add(firstCheck)}
	for _, o := range list {
		p.Ids, p.Keys, p.Hashes, p.Sizes = append(p.Ids, o.id), append(p.Keys, o.Key), append(p.Hashes, o.SHA256[:]), append(p.Sizes, o.Size)
	}
	for _, x := range r.all {
		state := copyOwed
		for _, y := range list[0].to {
			if x == y {
				state = copyGood
			}
		}
		p.Replicas, p.States = append(p.Replicas, x.name), append(p.States, state)
	}
	err := db.New(tx).InsertObjects(ctx, p)
	if err != nil {
		return fmt.Errorf("conservation: record objects: %w", err)
	}
	return nil
}

// nameOf is the object that a row is.
func nameOf(o db.ArchiveObject) vault.Object {
	return vault.Object{Key: o.Key, Size: o.Size, SHA256: [32]byte(o.Sha256)}
}

// open streams an object from the first replica that has it. A copy that turns out damaged while it is read
// ends in an error, and is noted; the next reader gets the other.
func (r *replicas) open(ctx context.Context, o db.ArchiveObject) (io.ReadCloser, error) {
	body, _, err := r.openPast(ctx, o, nil)
	return body, err
}

// openPast passes over replicas that gave it wrong already, and says which one it reads.
func (r *replicas) openPast(ctx context.Context, o db.ArchiveObject, wrong map[string]string) (io.ReadCloser, string, error) {
	copies, err := r.copies(ctx, o)
	if err != nil {
		return nil, "", err
	}
	var said []string
	for _, x := range r.all {
		if why := wrong[x.name]; why != "" {
			said = append(said, x.name+": "+why)
			continue
		}
		if copies[x.name] != copyGood {
			said = append(said, x.name+": "+strings.ToLower(copies[x.name]))
			continue
		}
		body, err := x.Open(ctx, nameOf(o))
		if err == nil {
			x.saw(nil, r.now())
			return &watched{ReadCloser: body, done: func(err error) { _ = r.doubt(ctx, o, x, err) }}, x.name, nil
		}
		err = r.doubt(ctx, o, x, err)
		said = append(said, x.name+": "+fault.Of(err).Error())
	}
	return nil, "", fault.Unavailable("OBJECT_UNREADABLE", "no replica gives %s: %s", o.Key, strings.Join(said, "; "))
}

// watched tells how reading ended.
type watched struct {
	io.ReadCloser
	done func(error)
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF && w.done != nil {
		w.done(err)
		w.done = nil
	}
	return n, err
}

// read gives a whole object, from whichever replica gives it right.
func (r *replicas) read(ctx context.Context, o db.ArchiveObject) ([]byte, error) {
	wrong := map[string]string{}
	for {
		body, from, err := r.openPast(ctx, o, wrong)
		if err != nil {
			return nil, err
		}
		var buf bytes.Buffer
		buf.Grow(int(min(o.Size, 64<<20)) + bytes.MinRead)
		_, err = buf.ReadFrom(body)
		_ = body.Close()
		if err == nil {
			return buf.Bytes(), nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		wrong[from] = fault.Of(err).Error()
	}
}

func (r *replicas) copies(ctx context.Context, o db.ArchiveObject) (map[string]string, error) {
	states := map[string]string{}
	err := r.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).CopiesOf(ctx, o.ID)
		for _, c := range rows {
			states[c.Replica] = c.State
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: copies of %s: %w", o.Key, err)
	}
	return states, nil
}

// doubt judges why a copy could not be read, notes it as damaged when it is, and gives the judgement.
func (r *replicas) doubt(ctx context.Context, o db.ArchiveObject, x *replica, cause error) error {
	judged := vault.Judge(ctx, x, nameOf(o), cause)
	x.saw(judged, r.now())
	if !vault.Damaged(judged) {
		return cause
	}
	cause = judged
	err := r.damaged(context.WithoutCancel(ctx), o, x.name, fault.Of(cause).Message)
	if err != nil {
		r.log.ErrorContext(ctx, "a damaged copy could not be noted", "object", o.Key, "replica", x.name, "problem", cause, "error", err)
	}
	return cause
}

// spool copies what gives its bytes once to a temporary file, from which replicas can be written.
func spool(r io.Reader) (*os.File, int64, error) {
	f, err := scratch()
	if err != nil {
		return nil, 0, err
	}
	n, err := io.Copy(f, r)
	if err != nil {
		drop(f)
		return nil, 0, err
	}
	return f, n, nil
}

const spoolUnavailable = "SPOOL_UNAVAILABLE"

// scratch is a file without a name: documents lie in it in clear, and nothing of them stays when the process is killed.
func scratch() (*os.File, error) {
	f, err := os.CreateTemp("", "ceralacca-archive-*")
	if err != nil {
		return nil, fault.Unavailable(spoolUnavailable, "no temporary file can be made").With(err)
	}
	_ = os.Remove(f.Name()) // a system that refuses this for open files has it removed by drop
	return f, nil
}

func drop(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

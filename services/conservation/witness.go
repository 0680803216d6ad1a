package conservation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/witness"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
)

// WitnessConfig is one witness of the log (ceralacca-witness, or another one of C2SP tlog-witness).
type WitnessConfig struct {
	// URL is the submission prefix, without add-checkpoint.
	URL string `yaml:"url"`
	// Key is its verifier key (name+id+key), as ceralacca-witness init prints it.
	Key string `yaml:"key"`
	// Timeout of one request.
	Timeout time.Duration `yaml:"timeout"`
}

func (c LogConfig) checkWitnesses(bad func(when bool, path, format string, a ...any)) {
	bad(c.Quorum < 0 || c.Quorum > len(c.Witnesses), "log.quorum", "%d cannot be had from %d witnesses", c.Quorum, len(c.Witnesses))
	bad(len(c.Witnesses) > 0 && !c.on(), "log.witnesses", "there is no log to be witnessed: set log.origin and log.key_file")
	bad(c.CosignEvery <= 0, "log.cosign_every", "must be more than 0s")
	for _, w := range c.Witnesses {
		v, err := tlog.ParseVerifier(w.Key)
		bad(err != nil, "log.witnesses.key", "%v", err)
		bad(err == nil && !v.Cosigner(), "log.witnesses.key", "%q is the key of a log, not of a witness", w.Key)
		bad(!strings.HasPrefix(w.URL, "http://") && !strings.HasPrefix(w.URL, "https://"), "log.witnesses.url", "%q is no http or https address", w.URL)
		bad(w.Timeout < 0, "log.witnesses.timeout", "is negative")
	}
}

// watcher is a witness as this process finds it.
type watcher struct {
	client *witness.Client

	mu   sync.Mutex
	size int64 // that it is believed to have cosigned last
}

// watchers are the witnesses of the log and what is wanted of them.
type watchers struct {
	bus    *bus.Bus
	all    []*watcher
	quorum int

	mu      sync.Mutex
	failing time.Time // since when there has been no quorum; zero: there is
	good    int       // cosignatures over the checkpoint of the last round
}

func newWatchers(cfg LogConfig, b *bus.Bus) (*watchers, error) {
	w := &watchers{bus: b, quorum: cfg.Quorum}
	var keys []*tlog.Verifier
	for _, c := range cfg.Witnesses {
		key, err := tlog.ParseVerifier(c.Key)
		if err != nil {
			return nil, run.BadField("log.witnesses.key", "%v", err)
		}
		timeout := c.Timeout
		if timeout == 0 {
			timeout = 5 * time.Second
		}
		keys = append(keys, key)
		w.all = append(w.all, &watcher{client: &witness.Client{URL: c.URL, Key: key, HTTP: &http.Client{Timeout: timeout}}})
	}
	if len(keys) > 0 { // two witnesses with one key are one
		_, err := tlog.OpenCheckpoint(nil, tlog.Policy{Origin: cfg.Origin, LogKeys: []*tlog.Verifier{}, Witnesses: keys})
		if err != nil && strings.Contains(err.Error(), "one key") {
			return nil, run.BadField("log.witnesses", "%v", err)
		}
	}
	return w, nil
}

func (w *watchers) names() (list []string) {
	for _, x := range w.all {
		list = append(list, x.client.Key.Name())
	}
	return list
}

// observe publishes how many witnesses cosigned in the last round of this process, and how many must.
func (w *watchers) observe() error {
	good, err := telemetry.Meter().Int64ObservableGauge("ceralacca_conservation_cosignatures",
		metric.WithDescription("witnesses that cosigned the log's last checkpoint; of the process that appends"))
	if err != nil {
		return err
	}
	wanted, err := telemetry.Meter().Int64ObservableGauge("ceralacca_conservation_cosignatures_wanted",
		metric.WithDescription("witnesses that must cosign a checkpoint (log.quorum)"))
	if err != nil {
		return err
	}
	_, err = telemetry.Meter().RegisterCallback(func(_ context.Context, o metric.Observer) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		o.ObserveInt64(good, int64(w.good))
		o.ObserveInt64(wanted, int64(w.quorum))
		return nil
	}, good, wanted)
	return err
}

// Codes of a log that its witnesses contradict: nothing is written over it any more.
const (
	logRolledBack = "LOG_ROLLED_BACK"
	logForked     = "LOG_FORKED"
)

func contradicted(err error) bool {
	if err == nil {
		return false
	}
	code := fault.Of(err).Code
	return code == logRolledBack || code == logForked
}

// preflight asks the witnesses before the first leaf of a term is written: a database that was set back to an older copy
// would else go on from there, and sign a second history. One of them has to answer, since a backup may be put back just when all are
// away; one that is away beside others does not stop the log, nor do all of them once the term has begun.
func (l *logbook) preflight(ctx context.Context, tree tlog.Tree) error {
	if len(l.watchers.all) == 0 {
		return nil
	}
	var known []db.LogWitness
	err := l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		known, err = db.New(tx).Witnesses(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, x := range l.watchers.all {
		for _, k := range known {
			if k.Witness == x.client.Key.Name() {
				x.size = min(k.Size, tree.Size)
			}
		}
	}
	// Of the tree that was read, also when it was cosigned before: the cosignature may be of the same old copy. Where
	// nothing was ever stated it is the empty one, which a witness that saw more refuses as well.
	note, err := tlog.Checkpoint{Origin: l.cfg.Origin, Tree: tree}.Sign(l.signer)
	if err != nil {
		return err
	}
	signed, err := tlog.OpenCheckpoint(note, l.policy)
	if err != nil {
		return err
	}
	answered, said := 0, []string(nil)
	for _, x := range l.watchers.all {
		_, err = l.ask(ctx, x, signed)
		switch {
		case contradicted(err):
			return err
		case err == nil:
			answered++
		default:
			said = append(said, x.client.Key.Name()+": "+fault.Of(err).Error())
		}
	}
	if answered == 0 {
		return fault.Unavailable("LOG_UNWITNESSED", "no witness says that the log is the one it knows (%s): nothing is appended before one does; a witness that is gone for good is taken out of log.witnesses", strings.Join(said, "; "))
	}
	return nil
}

// witnessing has the last checkpoint cosigned, again and again, until ctx ends or a witness contradicts the log.
func (l *logbook) witnessing(ctx context.Context) error {
	for ctx.Err() == nil && len(l.watchers.all) > 0 {
		err := l.witnessRound(ctx)
		if contradicted(err) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "the log's checkpoint could not be cosigned", "error", err)
		}
		pause(ctx, l.cfg.CosignEvery)
	}
	return nil
}

// witnessRound has every witness cosign the last checkpoint. Its error is of the database, or a contradiction.
func (l *logbook) witnessRound(ctx context.Context) error {
	point, err := l.last(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	errs := make([]error, len(l.watchers.all))
	var wg sync.WaitGroup
	for i, x := range l.watchers.all {
		wg.Go(func() { errs[i] = l.cosign(ctx, x, point) })
	}
	wg.Wait()
	good, said := 0, []string(nil)
	for i, x := range l.watchers.all {
		if contradicted(errs[i]) {
			return errs[i]
		}
		if errs[i] == nil {
			good++
			continue
		}
		said = append(said, x.client.Key.Name()+": "+fault.Of(errs[i]).Error())
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return l.quorum(ctx, good, strings.Join(said, "; "))
}

func (l *logbook) last(ctx context.Context) (*tlog.Signed, error) {
	var row db.LogCheckpoint
	err := l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).LastCheckpoint(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tlog.OpenCheckpoint(row.Note, l.policy)
}

// cosign gets and keeps one witness's cosignature, unless it is there.
func (l *logbook) cosign(ctx context.Context, x *watcher, point *tlog.Signed) error {
	name := x.client.Key.Name()
	held := false
	err := l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		lines, err := db.New(tx).CosignaturesOf(ctx, []int64{point.Size})
		for _, c := range lines {
			held = held || c.Witness == name
		}
		return err
	})
	if err != nil || held {
		return err
	}
	line, asked := l.ask(ctx, x, point)
	at, trouble := pg.Time(l.now()), ""
	if asked != nil {
		trouble = fault.Of(asked).Error()
	}
	err = l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if asked != nil {
			return q.SetWitness(ctx, db.SetWitnessParams{Witness: name, Trouble: trouble})
		}
		err := q.AddCosignature(ctx, db.AddCosignatureParams{Size: point.Size, Witness: name, Line: line, At: at})
		if err != nil {
			return err
		}
		return q.SetWitness(ctx, db.SetWitnessParams{Witness: name, Size: point.Size, At: &at})
	})
	return errors.Join(asked, err)
}

// ask submits a checkpoint with the proof that it grew out of what the witness has. A witness that has more, or
// something else, contradicts the log. spec: C2SP-witness §add-checkpoint
func (l *logbook) ask(ctx context.Context, x *watcher, point *tlog.Signed) ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for range 2 {
		r := &tlog.Request{Old: min(x.size, point.Size), Checkpoint: point.Raw}
		err := l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			r.Proof, err = tlog.Consistency(ctx, tileStore{db.New(tx)}, r.Old, point.Tree)
			return err
		})
		if err != nil {
			return nil, err
		}
		line, err := x.client.Ask(ctx, r)
		var no *tlog.WitnessError
		switch {
		case err == nil:
			x.size = point.Size
			return line, nil
		case !errors.As(err, &no):
			return nil, fault.Unavailable("WITNESS_AWAY", "%v", err).With(err)
		case no.Status == http.StatusConflict && no.Size > point.Size:
			return nil, l.behind(ctx, x, no.Size)
		case no.Status == http.StatusConflict:
			x.size = no.Size
		case no.Status == http.StatusUnprocessableEntity:
			return nil, fault.Precondition(logForked, "the log is forked: witness %s cosigned another history of %s, and keeps both (%s); find the state that it cosigned and do not delete checkpoints", x.client.Key.Name(), l.cfg.Origin, no.Reason)
		default:
			return nil, fault.Unavailable("WITNESS_REFUSES", "witness %s refuses (%d): %s", x.client.Key.Name(), no.Status, no.Reason)
		}
	}
	return nil, fault.Unavailable("WITNESS_REFUSES", "witness %s names another size each time", x.client.Key.Name())
}

// behind judges a witness that has more than we showed it: unless another process stated more in the meantime,
// our log lost entries.
func (l *logbook) behind(ctx context.Context, x *watcher, size int64) error {
	now, err := l.last(ctx)
	if err == nil && now.Size >= size {
		return fault.Unavailable("WITNESS_AHEAD", "witness %s was asked by another process in the meantime", x.client.Key.Name())
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	return fault.Precondition(logRolledBack, "the log was rolled back: witness %s cosigned %d entries of %s, more than there are; restore the database to that state, and do not delete checkpoints", x.client.Key.Name(), size, l.cfg.Origin)
}

// quorum says openly whether enough witnesses cosign.
func (l *logbook) quorum(ctx context.Context, good int, reason string) error {
	w := l.watchers
	w.mu.Lock()
	w.good = good
	switch {
	case good >= w.quorum:
		w.failing = time.Time{}
	case w.failing.IsZero():
		w.failing = l.now()
	}
	since := w.failing
	w.mu.Unlock()
	ctx = telemetry.WithActor(ctx, "service:conservation")
	if since.IsZero() {
		return l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			began, err := db.New(tx).EndUnwitnessed(ctx)
			if err != nil || len(began) == 0 {
				return err
			}
			err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "witness.quorum", Resource: "log/" + l.cfg.Origin})
			if err != nil {
				return err
			}
			l.log.InfoContext(ctx, "enough witnesses cosign the log again", "since", began[0])
			return w.bus.Emit(ctx, tx, &conservationv1.WitnessQuorumRestored{Since: timestamppb.New(began[0])})
		})
	}
	if l.now().Sub(since) < 2*l.cfg.CosignEvery { // one round may fail
		return nil
	}
	return l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).BeginUnwitnessed(ctx, db.BeginUnwitnessedParams{Since: pg.Time(since), Reason: reason})
		if err != nil || n == 0 {
			return err
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "witness.lost", Resource: "log/" + l.cfg.Origin, Detail: map[string]string{"reason": reason}})
		if err != nil {
			return err
		}
		l.log.ErrorContext(ctx, "too few witnesses cosign the log", "cosigned", good, "wanted", w.quorum, "since", since, "reason", reason)
		return w.bus.Emit(ctx, tx, &conservationv1.WitnessQuorumLost{Since: timestamppb.New(since), Reason: reason})
	})
}

// cosigned adds the cosignatures that there are to checkpoints, in place, and gives who cosigned each.
func cosigned(ctx context.Context, q *db.Queries, points []db.LogCheckpoint) (map[int64][]string, error) {
	sizes, at := make([]int64, len(points)), map[int64]int{}
	for i, p := range points {
		sizes[i], at[p.Size] = p.Size, i
	}
	lines, err := q.CosignaturesOf(ctx, sizes)
	if err != nil {
		return nil, err
	}
	names := map[int64][]string{}
	for _, c := range lines {
		p := &points[at[c.Size]]
		p.Note, err = tlog.AddSignatures(p.Note, c.Line)
		if err != nil {
			return nil, fmt.Errorf("conservation: cosignature of %s over %d entries: %w", c.Witness, c.Size, err)
		}
		names[c.Size] = append(names[c.Size], c.Witness)
	}
	return names, nil
}

// describe adds the witnesses to what is told of the log.
func (l *logbook) describe(ctx context.Context, m *conservationv1.Log) error {
	m.Quorum = int32(l.watchers.quorum) //nolint:gosec // a handful
	return l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		rows, err := q.Witnesses(ctx)
		if err != nil {
			return err
		}
		for _, x := range l.watchers.all {
			w := &conservationv1.Witness{Name: x.client.Key.Name(), VerifierKey: x.client.Key.String()}
			for _, r := range rows {
				if r.Witness == w.Name {
					w.Size, w.CosignTime, w.Trouble = r.Size, timeMessage(r.CosignedAt), r.Trouble
				}
			}
			m.Witnesses = append(m.Witnesses, w)
		}
		lost, err := q.Unwitnessed(ctx)
		if err == nil {
			m.UnwitnessedSince = timestamppb.New(lost.Since)
		}
		if (err != nil && !errors.Is(err, pgx.ErrNoRows)) || l.watchers.quorum == 0 {
			return notFoundIsNothing(err)
		}
		point, err := q.LastWithQuorum(ctx, db.LastWithQuorumParams{Witnesses: l.watchers.names(), Quorum: int64(l.watchers.quorum)})
		if err == nil {
			m.CosignedSize = point.Size
		}
		return notFoundIsNothing(err)
	})
}

func notFoundIsNothing(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

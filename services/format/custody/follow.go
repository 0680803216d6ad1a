package custody

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ceralacca.dev/services/format/tlog"
)

// What only a monitor can find.
const (
	ReceiptGone = "RECEIPT_NOT_IN_LOG" // the log has something else, or nothing, in the place of a receipt's leaf
	LogBroken   = "LOG_BROKEN"         // tiles are missing, or do not give the root that was signed
	LogStale    = "LOG_STALE"          // its last time stamp is older than is admitted: an old copy looks so
	StampBad    = "LOG_STAMP_INVALID"  // the time stamp that it shows as its last one does not hold
)

// Source is a log as it is published: its last checkpoint, and its tiles under the paths of tlog-tiles.
type Source interface {
	// Checkpoint gives the last signed checkpoint; tlog.ErrNotFound when the log, which answers, has none.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Stamped gives the checkpoint that was stamped last, with the newest time stamp over it; nil: none was ever stamped.
	Stamped(ctx context.Context) (*Stamped, error)
	// Get gives a tile; tlog.ErrNotFound when there is none. Other errors mean that the source cannot be reached.
	Get(ctx context.Context, path string) ([]byte, error)
}

// Stamped is a signed checkpoint and an RFC 3161 token over its text.
type Stamped struct{ Note, Stamp []byte }

// Freshness is how old the last time stamp of a log may be. A log that rests is stamped each day all the same, so that an old one
// shows that the log is read from an old copy, or kept back. It is no proof against who keeps the log: anybody may have an old checkpoint stamped again.
type Freshness struct {
	Within time.Duration // 0: it is not asked for
	Now    time.Time
	Stamps tlog.StampPolicy
}

// clockSkew is how far in the future a stamp may lie: the clocks of authority and reader differ.
const clockSkew = 10 * time.Minute

// Round is what one look at a log showed.
type Round struct {
	Report

	Note     []byte // the checkpoint that was read
	Tree     tlog.Tree
	Relation tlog.Relation // to what was seen before; empty at the first look
	Receipts int           // that were found in the log
	// Freshness, where it is asked for: when the log was stamped last, or that none of its checkpoints was yet.
	Stamped   time.Time
	Unstamped bool
}

// published is a Source as a tlog.Store; it tells a source that is away from one that shows wrong tiles.
type published struct {
	Source

	away error
}

func (p *published) Get(ctx context.Context, path string) ([]byte, error) {
	data, err := p.Source.Get(ctx, path)
	if err != nil && !errors.Is(err, tlog.ErrNotFound) {
		p.away = err
	}
	return data, err
}

func (*published) Put(context.Context, string, []byte) error {
	return errors.New("custody: a published log is only read")
}

// Follow looks at a log once: whether it grew out of the checkpoint that was seen last (nil at the first look),
// whether it still has the leaf of each receipt and grew out of each receipt's checkpoint, and whether it was stamped lately. Nothing is
// believed that the tiles do not prove. An error means that the source cannot be reached, or a policy that makes no
// sense; what is wrong with the log is in the round.
func Follow(ctx context.Context, src Source, seen []byte, receipts []Receipt, policy tlog.Policy, fresh Freshness) (*Round, error) {
	if _, err := tlog.OpenCheckpoint(nil, policy); err != nil && !errors.Is(err, tlog.ErrNote) {
		return nil, err
	}
	var stamped *Stamped
	var err error
	if fresh.Within > 0 { // read first: the last checkpoint has it in any case
		stamped, err = src.Stamped(ctx)
		if err != nil {
			return nil, err
		}
	}
	note, err := src.Checkpoint(ctx)
	if errors.Is(err, tlog.ErrNotFound) {
		return empty(seen, receipts), nil
	}
	if err != nil {
		return nil, err
	}
	r := &Round{Note: note}
	got, err := tlog.OpenCheckpoint(note, policy)
	if err != nil {
		r.bad(CheckpointBad, "the log", "%v", err)
		return r, nil
	}
	r.Tree = got.Tree
	f := &follower{round: r, store: &published{Source: src}, got: got, known: map[tlog.Tree]bool{}}
	f.prover = tlog.NewProver(f.store, got.Tree)
	if seen != nil {
		loose := policy
		loose.Quorum = 0 // it was judged when it was seen
		before, err := tlog.OpenCheckpoint(seen, loose)
		if err != nil {
			return nil, fmt.Errorf("custody: the checkpoint that was kept: %w", err)
		}
		r.Relation = f.grew(ctx, "the checkpoint that was seen last", before.Tree)
	}
	if fresh.Within > 0 {
		f.fresh(ctx, stamped, policy, fresh)
	}
	for _, given := range receipts {
		if f.store.away == nil && ctx.Err() == nil {
			f.receipt(ctx, given, policy)
		}
	}
	if f.store.away != nil {
		return nil, f.store.away
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.Relation != "" && len(r.Problems) == 0 {
		r.holds("the log of %d entries grew out of the one that was seen last", r.Tree.Size)
	}
	if r.Receipts > 0 {
		r.holds("%d receipts are in the log of %d entries", r.Receipts, r.Tree.Size)
	}
	return r, nil
}

// empty is a look at a log that has no checkpoint: a new one, in which nothing was taken in charge, or one that has lost all that was seen.
func empty(seen []byte, receipts []Receipt) *Round {
	r := &Round{}
	if seen != nil {
		r.bad(LogRolledBack, "the log", "it says that it has no checkpoint, and there was one: entries were taken away")
	}
	for _, given := range receipts {
		r.bad(ReceiptGone, given.Name, "the log says that it has no checkpoint: nothing is in it")
	}
	if len(r.Problems) == 0 {
		r.Unshown = append(r.Unshown, "anything: the log says that nothing was taken in charge yet")
	}
	return r
}

type follower struct {
	round  *Round
	store  *published
	got    *tlog.Signed
	prover *tlog.Prover
	known  map[tlog.Tree]bool // trees that the log grew out of, or did not
}

// grew judges an earlier tree, each once.
func (f *follower) grew(ctx context.Context, what string, before tlog.Tree) tlog.Relation {
	if _, judged := f.known[before]; judged {
		return tlog.Grown
	}
	relation, err := tlog.JudgeStore(ctx, f.store, before, f.got.Tree)
	f.known[before] = err == nil
	var broken *tlog.ViolationError
	switch {
	case err == nil || f.store.away != nil:
	case errors.As(err, &broken) && relation == tlog.RolledBack:
		f.round.bad(LogRolledBack, what, "%v", err)
	case errors.As(err, &broken):
		f.round.bad(LogForked, what, "%v", err)
	default:
		f.round.bad(LogBroken, what, "%v", err)
	}
	return relation
}

// fresh judges the last stamp: that it is over a checkpoint of this log, holds, and is young enough.
func (f *follower) fresh(ctx context.Context, got *Stamped, policy tlog.Policy, want Freshness) {
	const what = "the checkpoint that was stamped last"
	if got == nil {
		f.round.Unstamped = true
		f.round.Unshown = append(f.round.Unshown, "that the log is read as it is now: no checkpoint of it was stamped yet")
		return
	}
	policy.Quorum = 0 // while witnesses are away, what they have not cosigned is stamped
	signed, err := tlog.OpenCheckpoint(got.Note, policy)
	if err != nil {
		f.round.bad(CheckpointBad, what, "%v", err)
		return
	}
	f.grew(ctx, what, signed.Tree)
	at, err := tlog.CheckStamp(got.Stamp, signed.Signed, want.Stamps)
	switch age := want.Now.Sub(at); {
	case err != nil:
		f.round.bad(StampBad, what, "%v", err)
		return
	case age < -clockSkew:
		f.round.bad(StampBad, what, "it says that it is of %s, which is to come: is the clock here right?", at.Format(time.RFC3339))
		return
	case age > want.Within:
		f.round.bad(LogStale, what, "the log of %d entries was stamped last on %s, more than %s ago: it is read from an old copy, or is not stamped any more", signed.Size, at.Format(time.RFC3339), want.Within)
	}
	f.round.Stamped = at
	if want.Stamps.Roots == nil {
		f.round.Unshown = append(f.round.Unshown, "whose time stamp the last one is: no roots were given")
	}
}

func (f *follower) receipt(ctx context.Context, given Receipt, policy tlog.Policy) {
	policy.Quorum = 0 // a receipt may be older than the witnesses
	ev, err := given.Verify(nil, policy, tlog.StampPolicy{})
	if err != nil {
		f.round.bad(ReceiptInvalid, given.Name, "%v", err)
		return
	}
	f.grew(ctx, given.Name, ev.Checkpoint.Tree)
	if given.Index >= f.got.Size {
		f.round.bad(ReceiptGone, given.Name, "its leaf is entry %d, and the log ends at %d", given.Index, f.got.Size)
		return
	}
	proof, err := f.prover.Inclusion(ctx, given.Index)
	switch {
	case f.store.away != nil:
	case err != nil:
		f.round.bad(LogBroken, given.Name, "%v", err)
	case tlog.CheckInclusion(proof, f.got.Tree, given.Index, tlog.LeafHash(ev.Entry.Data)) != nil:
		f.round.bad(ReceiptGone, given.Name, "the log has another leaf as entry %d", given.Index)
	default:
		f.round.Receipts++
	}
}

// SealedAs compares a package that the archive shows with the receipts of packages: which of them is its, and
// whether it has the bytes that were sealed. Known is false when no receipt is of it.
func SealedAs(receipts []Receipt, id string, sum [32]byte) (name string, known, same bool) {
	want := subject("package", id)
	for _, given := range receipts {
		leaf, err := tlog.ParseLeaf(given.Entry)
		if err == nil && leaf.Type == Sealed && len(leaf.Objects) == 4 && leaf.Objects[0] == want {
			return given.Name, true, leaf.Objects[1] == sum
		}
	}
	return "", false, false
}

// PackageReceipts are those of packages that were sealed.
func PackageReceipts(receipts []Receipt) (list []Receipt) {
	for _, given := range receipts {
		leaf, err := tlog.ParseLeaf(given.Entry)
		if err == nil && leaf.Type == Sealed {
			list = append(list, given)
		}
	}
	return list
}

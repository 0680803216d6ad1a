package custody

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/tlog"
)

// ChainBroken: the list of all leaves of an owner does not hold, or says something else than a receipt.
const ChainBroken = "CHAIN_BROKEN"

// Ledger judges all that was handed over of one owner as a whole: that the leaves are one chain of one owner, which numbers of it are missing,
// and that all was proven in one history of the log. Checkpoint and Chain come first where there is a list of all leaves: what is proven is
// compared with it as it comes then, package by package, and what stays in memory is 48 bytes for each leaf of the owner. Without a list every
// receipt's leaf stays there until End.
type Ledger struct {
	Report

	policy  tlog.Policy
	stamps  tlog.StampPolicy
	facts   []fact
	grove   grove
	reports []claimed              // leaves that a report of submission states
	shown   map[tlog.Hash]struct{} // packages, by their subject
	gone    map[tlog.Hash]struct{} // that a report of a destruction names
	last    *tlog.Signed

	chain  []tlog.Hash // hashes of the list of leaves
	place  []int64     // one more than the index at which each of them was proven; 0: not yet
	from   uint64      // number of the first
	listed string      // name of the list
	owner  [32]byte
	sealed []sealedLeaf

	waiters map[tlog.Hash]*waiter // by their subject
}

// claimed is a leaf that a file proves.
type claimed struct {
	statedLeaf

	name string
}

type sealedLeaf struct {
	seq uint64
	of  tlog.Hash
}

// NewLedger is empty. Errors: a policy that makes no sense.
func NewLedger(policy tlog.Policy, stamps tlog.StampPolicy) (*Ledger, error) {
	if _, err := tlog.OpenCheckpoint(nil, policy); err != nil && !errors.Is(err, tlog.ErrNote) {
		return nil, err
	}
	return &Ledger{policy: policy, stamps: stamps, shown: map[tlog.Hash]struct{}{}, gone: map[tlog.Hash]struct{}{}, waiters: map[tlog.Hash]*waiter{}}, nil
}

// Package judges a package by its receipts, of which each unit has to have one.
func (l *Ledger) Package(p *Package, receipts []Receipt) {
	part := &Report{}
	in := Input{Package: p, Receipts: receipts, Complete: true, Policy: l.policy, Stamps: l.stamps}
	facts := part.facts(in)
	part.contents(in, facts)
	l.Problems, l.Unshown = append(l.Problems, part.Problems...), append(l.Unshown, part.Unshown...)
	for _, f := range facts {
		l.proven(f)
	}
}

// proven takes a leaf that a receipt proved for one of the owner's.
func (l *Ledger) proven(f fact) {
	l.seenIn(&l.grove, f)
	if l.chain != nil {
		if l.stands(claimed{statedLeaf{f.leaf.Tenant, f.leaf.Seq, f.hash}, f.name}) {
			l.placed(f)
		}
		return
	}
	slim := *f.leaf // of a large archive there are many
	slim.Objects, f.proof, f.leaf = nil, nil, &slim
	l.facts = append(l.facts, f)
}

// Reported judges a signed report by the proof of its leaf, and gives when the log that has it was stamped; zero: it was not, or the proof is
// worth nothing.
func (l *Ledger) Reported(given Receipt, signed [32]byte) (stamped time.Time) {
	part := &Report{}
	facts := part.facts(Input{Receipts: []Receipt{given}, Policy: l.policy, Stamps: l.stamps})
	l.Problems = append(l.Problems, part.Problems...)
	for _, f := range facts {
		if f.leaf.Type != Reported || len(f.leaf.Objects) != 2 || f.leaf.Objects[1] != signed {
			l.bad(ReceiptElsewhere, f.name, "it is not of this report: the report was changed, or the proof is of something else")
			continue
		}
		l.proven(f)
		stamped = f.stamped
	}
	return stamped
}

// Handed notes a package that was handed over, whatever else is known of it.
func (l *Ledger) Handed(id string) { l.shown[subject("package", id)] = struct{}{} }

// Destroyed notes a package that a report of a destruction names.
func (l *Ledger) Destroyed(id string) { l.gone[subject("package", id)] = struct{}{} }

// Submission judges a report of what was taken in charge as VerifySubmission does, and takes its leaves for those of the same owner.
func (l *Ledger) Submission(name string, raw []byte) {
	part, got, err := verifySubmission(raw, l.policy, l.stamps)
	if err != nil {
		l.bad(SubmissionInvalid, name, "%v", err)
		return
	}
	for _, p := range part.Problems {
		l.bad(p.Code, name, "%s: %s", p.What, p.Message)
	}
	for _, u := range part.Unshown {
		l.Unshown = append(l.Unshown, name+": "+u)
	}
	if got == nil {
		return
	}
	got.last.name = name
	l.proven(got.last)
	for i, leaf := range got.leaves[:len(got.leaves)-1] {
		if c := (claimed{statedLeaf{leaf.Tenant, leaf.Seq, tlog.LeafHash(got.entries[i])}, name}); l.chain == nil {
			l.reports = append(l.reports, c)
		} else {
			l.stands(c)
		}
	}
}

// Checkpoint judges the last checkpoint that was handed over. Witnesses may not have cosigned it yet, which is said.
func (l *Ledger) Checkpoint(name string, note []byte) {
	loose := l.policy
	loose.Quorum = 0
	got, err := tlog.OpenCheckpoint(note, loose)
	if err != nil {
		l.bad(CheckpointBad, name, "%v", err)
		return
	}
	if _, err := tlog.OpenCheckpoint(note, l.policy); err != nil {
		l.Unshown = append(l.Unshown, fmt.Sprintf("%s: that witnesses know the log of %d entries: %v", name, got.Size, err))
	}
	l.last = got
	l.Report.shown(&l.grove, name, got.Tree)
}

// Chain reads the list of all leaves of the owner, a line each, whose last one the log proves in the last checkpoint and the others by it,
// since each names the one before.
func (l *Ledger) Chain(name string, list io.Reader, proof []byte) {
	err := l.chained(list, proof)
	if err != nil {
		l.chain = nil
		l.bad(ChainBroken, name, "%v", err)
		return
	}
	l.listed, l.place, l.grove.coarse = name, make([]int64, len(l.chain)), true
}

// stands compares a leaf that is proven with the list of all.
func (l *Ledger) stands(c claimed) bool {
	switch {
	case c.owner != l.owner:
		l.bad(ForeignLeaf, c.name, "its leaf %d is another owner's", c.seq)
	case c.seq < l.from || c.seq >= l.from+uint64(len(l.chain)):
		l.bad(ChainBroken, c.name, "its leaf has the number %d, and the list of all has %d to %d", c.seq, l.from, l.from+uint64(len(l.chain))-1)
	case l.chain[c.seq-l.from] != c.hash:
		l.bad(ChainBroken, c.name, "the list of leaves has another one with the number %d: two histories were shown", c.seq)
	default:
		return true
	}
	return false
}

// placed notes where in the log a leaf of the list was proven.
func (l *Ledger) placed(f fact) {
	at := &l.place[f.leaf.Seq-l.from]
	switch {
	case f.index >= l.last.Size:
		l.bad(ReceiptGone, f.name, "its leaf is entry %d, and the last checkpoint ends at %d", f.index, l.last.Size)
	case *at != 0 && *at != f.index+1:
		l.bad(SequenceBroken, f.name, "its leaf is entry %d here and entry %d in another receipt: two histories were shown", f.index, *at-1)
	default:
		*at = f.index + 1
	}
}

// inOrder says whether the leaves stand in the log in the order of their numbers, as far as receipts show where.
func (l *Ledger) inOrder(name string) {
	var before int64
	var of uint64
	for i, at := range l.place {
		switch seq := l.from + uint64(i); {
		case at == 0:
		case at <= before:
			l.bad(SequenceBroken, name, "leaf %d stands in the log before leaf %d", seq, of)
			return
		default:
			before, of = at, seq
		}
	}
}

func (l *Ledger) chained(list io.Reader, proof []byte) error {
	lines := bufio.NewScanner(list)
	lines.Buffer(nil, tlog.MaxEntry+1)
	var last []byte
	for lines.Scan() {
		leaf, err := tlog.ParseLeaf(lines.Bytes())
		if err != nil {
			return fmt.Errorf("line %d: %w", len(l.chain)+1, err)
		}
		switch {
		case len(l.chain) == 0:
			l.from, l.owner = leaf.Seq, leaf.Tenant
		case leaf.Tenant != l.owner:
			return fmt.Errorf("line %d is another owner's", len(l.chain)+1)
		case leaf.Seq != l.from+uint64(len(l.chain)) || leaf.Prev != l.chain[len(l.chain)-1]:
			return fmt.Errorf("leaf %d does not follow the one before it", leaf.Seq)
		}
		if leaf.Type == Sealed && len(leaf.Objects) > 0 {
			l.sealed = append(l.sealed, sealedLeaf{leaf.Seq, leaf.Objects[0]})
		}
		l.waits(leaf)
		l.chain = append(l.chain, tlog.LeafHash(lines.Bytes()))
		last = append(last[:0], lines.Bytes()...)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(l.chain) == 0 {
		return errors.New("it has no leaf")
	}
	receipt, err := tlog.ParseReceipt(proof)
	if err != nil {
		return err
	}
	loose := l.policy
	loose.Quorum = 0 // said of the checkpoint
	ev, err := receipt.Verify(last, loose, l.stamps)
	switch {
	case err != nil:
		return err
	case l.last == nil || ev.Checkpoint.Tree != l.last.Tree:
		return errors.New("its last leaf is not proven in the last checkpoint")
	}
	l.grove.leaf(ev.Checkpoint.Tree, receipt.Index, l.chain[len(l.chain)-1], receipt.Proof)
	return nil
}

// End says what all of it is together.
func (l *Ledger) End() {
	l.waited()
	if l.chain != nil {
		l.whole()
		return
	}
	l.sequence(l.facts)
	numbers := l.numbers()
	if len(numbers) == 0 {
		return
	}
	if l.last == nil {
		l.Unshown = append(l.Unshown, "that the log still has what the receipts prove: there is no last checkpoint")
	}
	for _, f := range l.facts {
		if l.last != nil && f.index >= l.last.Size {
			l.bad(ReceiptGone, f.name, "its leaf is entry %d, and the last checkpoint ends at %d", f.index, l.last.Size)
		}
	}
	l.linked(&l.grove, nil)
	slices.Sort(numbers)
	if missing := gaps(slices.Compact(numbers)); missing != "" {
		l.Unshown = append(l.Unshown, "the owner's leaves "+missing+": nothing here proves them, and what they state, a package too, may have been left out")
	}
}

// whole ends a ledger with the list of all leaves. Each stands in it, and so in the log of the last checkpoint, at whatever size a receipt
// proves it.
func (l *Ledger) whole() {
	l.inOrder(l.listed)
	l.unlinked(l.grove.link())
	if l.from > 1 {
		l.Unshown = append(l.Unshown, "the owner's leaves "+gaps([]uint64{l.from})+": the list of leaves begins after them")
	}
	var absent []uint64
	for _, s := range l.sealed {
		_, here := l.shown[s.of]
		_, gone := l.gone[s.of]
		if !here && !gone {
			absent = append(absent, s.seq)
		}
	}
	if len(absent) > 0 {
		l.Unshown = append(l.Unshown, "the packages of the owner's leaves "+ranges(absent)+": they are not here, and no report of a destruction here names them; they were sealed after the export was asked for, or were left out")
	}
	if len(l.Problems) == 0 {
		l.holds("the owner's leaves %d to %d are all there, each naming the one before it, and the log of %d entries has the last one; %d packages were sealed with them", l.from, l.from+uint64(len(l.chain))-1, l.last.Size, len(l.sealed))
	}
}

// numbers gives those of all leaves that are proven, compared with each other.
func (l *Ledger) numbers() (list []uint64) {
	all := slices.Clone(l.reports)
	for _, f := range l.facts {
		all = append(all, claimed{statedLeaf{f.leaf.Tenant, f.leaf.Seq, f.hash}, f.name})
	}
	known := map[uint64]claimed{}
	for _, c := range all {
		first, twice := known[c.seq]
		switch {
		case c.owner != all[0].owner:
			l.bad(ForeignLeaf, c.name, "its leaf %d is another owner's", c.seq)
			continue
		case twice && first.hash != c.hash:
			l.bad(SequenceBroken, c.name, "two leaves have the owner's number %d, this and the one of %s: two histories were shown", c.seq, first.name)
		}
		known[c.seq] = c
		list = append(list, c.seq)
	}
	return list
}

// gaps names the numbers from 1 on that are not in a sorted list.
func gaps(sorted []uint64) string {
	var parts []string
	next := uint64(1)
	for _, n := range sorted {
		if n > next {
			parts = append(parts, span(next, n-1))
		}
		next = n + 1
	}
	return some(parts)
}

// ranges names the numbers of a sorted list.
func ranges(sorted []uint64) string {
	var parts []string
	for i := 0; i < len(sorted); {
		end := i
		for end+1 < len(sorted) && sorted[end+1] == sorted[end]+1 {
			end++
		}
		parts = append(parts, span(sorted[i], sorted[end]))
		i = end + 1
	}
	return some(parts)
}

func span(from, to uint64) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d to %d", from, to)
}

// some keeps a list of many readable.
func some(parts []string) string {
	const most = 50
	if len(parts) > most {
		parts = append(parts[:most:most], fmt.Sprintf("and %d more such", len(parts)-most))
	}
	return strings.Join(parts, ", ")
}

// statedLeaf is a leaf of a report of submission.
type statedLeaf struct {
	owner [32]byte
	seq   uint64
	hash  tlog.Hash
}

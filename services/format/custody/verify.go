package custody

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"ceralacca.dev/services/format/tlog"
)

// What can be wrong, permanent: scripts switch on it.
const (
	ReceiptInvalid   = "RECEIPT_INVALID"   // the receipt does not hold in itself
	ReceiptElsewhere = "RECEIPT_ELSEWHERE" // it is of another package
	ForeignLeaf      = "FOREIGN_LEAF"      // receipts of two tenants
	SequenceBroken   = "SEQUENCE_BROKEN"   // two leaves claim one number, or do not follow each other
	UnitMissing      = "UNIT_MISSING"      // a receipt's unit is not in the package
	UnitChanged      = "UNIT_CHANGED"      // it is there with other files
	UnitInserted     = "UNIT_INSERTED"     // a unit without a receipt, where all have to have one
	UnitTwice        = "UNIT_TWICE"
	FileMissing      = "FILE_MISSING"
	PackageChanged   = "PACKAGE_CHANGED" // other bytes than those that were sealed
	CheckpointBad    = "CHECKPOINT_INVALID"
	LogForked        = "LOG_FORKED"      // two histories were shown
	LogRolledBack    = "LOG_ROLLED_BACK" // the log has become smaller
	LogUnproven      = "LOG_UNPROVEN"    // a proof was given and does not show that it grew
)

// Problem is one thing that is wrong.
type Problem struct {
	Code    string `json:"code"`
	What    string `json:"what"` // a file that was given, or a unit
	Message string `json:"message"`
}

// Receipt is a receipt that somebody kept.
type Receipt struct {
	Name string // of its file
	*tlog.Receipt
}

// Seen is a checkpoint that somebody kept, with the proof that came with it.
type Seen struct {
	Name  string
	Note  []byte
	Old   int64       // with Proof: the size that it starts from
	Proof []tlog.Hash // nil: none came
}

// ParseSeen reads a signed checkpoint, or one with a consistency proof before it (old N, hashes, an empty
// line: the form of the witness protocol).
func ParseSeen(name string, raw []byte) (Seen, error) {
	if !bytes.HasPrefix(raw, []byte("old ")) {
		return Seen{Name: name, Note: raw}, nil
	}
	r, err := tlog.ParseRequest(raw)
	if err != nil {
		return Seen{}, fmt.Errorf("custody: %s: %w", name, err)
	}
	return Seen{Name: name, Note: r.Checkpoint, Old: r.Old, Proof: append([]tlog.Hash{}, r.Proof...)}, nil
}

// Input is what is to be judged.
type Input struct {
	Package  *Package // nil: receipts and checkpoints only
	Receipts []Receipt
	// Checkpoints in the order in which they were obtained, the oldest first.
	Checkpoints []Seen
	// Complete demands a receipt for each unit of the package.
	Complete bool
	Policy   tlog.Policy
	Stamps   tlog.StampPolicy
}

// Report is the verdict.
type Report struct {
	Problems []Problem `json:"problems,omitempty"`
	// Unshown is what could not be judged for want of a proof. It is neither good nor bad.
	Unshown []string `json:"unshown,omitempty"`
	// Holds says what was proven.
	Holds []string `json:"holds,omitempty"`
}

// Has says that a problem of that code was found.
func (r *Report) Has(code string) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Code == code })
}

func (r *Report) bad(code, what, format string, a ...any) {
	r.Problems = append(r.Problems, Problem{code, what, fmt.Sprintf(format, a...)})
}

func (r *Report) holds(format string, a ...any) { r.Holds = append(r.Holds, fmt.Sprintf(format, a...)) }

// fact is a leaf that a receipt proved.
type fact struct {
	name    string
	leaf    *tlog.Leaf
	index   int64
	entry   []byte
	tree    tlog.Tree
	stamped time.Time
}

// Verify judges everything that was given, offline. Errors: a policy that makes no sense.
func Verify(in Input) (*Report, error) {
	if _, err := tlog.OpenCheckpoint(nil, in.Policy); err != nil && !errors.Is(err, tlog.ErrNote) {
		return nil, err
	}
	r := &Report{}
	facts := r.facts(in)
	r.sequence(facts)
	r.history(in, facts)
	if in.Package != nil {
		r.contents(in, facts)
	}
	return r, nil
}

// facts verifies each receipt in itself.
func (r *Report) facts(in Input) []fact {
	var facts []fact
	stamped := 0
	for _, given := range in.Receipts {
		ev, err := given.Verify(nil, in.Policy, in.Stamps)
		if err != nil {
			r.bad(ReceiptInvalid, given.Name, "%v", err)
			continue
		}
		leaf, err := tlog.ParseLeaf(ev.Entry.Data)
		if err != nil {
			r.bad(ReceiptInvalid, given.Name, "%v", err)
			continue
		}
		if !ev.Stamped.IsZero() {
			stamped++
		}
		facts = append(facts, fact{given.Name, leaf, ev.Entry.Index, ev.Entry.Data, ev.Checkpoint.Tree, ev.Stamped})
	}
	if len(facts) > 0 {
		r.holds("%d of %d receipts: the log's signature and the proof that the leaf is in it; %d with a time stamp", len(facts), len(in.Receipts), stamped)
	}
	return facts
}

// sequence checks that the leaves are of one tenant's chain. Leaves that were not given leave gaps, which
// are no problem: the chain says by its numbers how many they are.
func (r *Report) sequence(facts []fact) {
	if len(facts) == 0 {
		return
	}
	chain := slices.Clone(facts)
	slices.SortStableFunc(chain, func(a, b fact) int { return cmp.Compare(a.leaf.Seq, b.leaf.Seq) })
	before, gaps := len(r.Problems), uint64(0)
	for i, f := range chain {
		if i == 0 {
			continue
		}
		last := chain[i-1]
		switch {
		case f.leaf.Tenant != last.leaf.Tenant:
			r.bad(ForeignLeaf, f.name, "its leaf is another tenant's than the one of %s", last.name)
		case f.leaf.Seq == last.leaf.Seq && (!bytes.Equal(f.entry, last.entry) || f.index != last.index):
			r.bad(SequenceBroken, f.name, "two leaves have the tenant's number %d, this and %s: two histories were shown", f.leaf.Seq, last.name)
		case f.leaf.Seq == last.leaf.Seq:
		case f.index <= last.index || f.leaf.Time.Before(last.leaf.Time):
			r.bad(SequenceBroken, f.name, "leaf %d stands in the log before leaf %d of %s, or is older", f.leaf.Seq, last.leaf.Seq, last.name)
		case f.leaf.Seq == last.leaf.Seq+1 && f.leaf.Prev != tlog.LeafHash(last.entry):
			r.bad(SequenceBroken, f.name, "leaf %d names another leaf before it than the one of %s", f.leaf.Seq, last.name)
		default:
			gaps += f.leaf.Seq - last.leaf.Seq - 1
		}
	}
	if len(r.Problems) == before {
		r.holds("the tenant's leaves %d to %d follow each other (%d between them have no receipt here)", chain[0].leaf.Seq, chain[len(chain)-1].leaf.Seq, gaps)
	}
}

// history judges the checkpoints against each other and against those of the receipts.
func (r *Report) history(in Input, facts []fact) {
	before := len(r.Problems)
	roots := map[int64]tlog.Hash{}
	known := func(name string, t tlog.Tree) {
		if root, ok := roots[t.Size]; ok && root != t.Root {
			r.bad(LogForked, name, "at %d entries the log was signed with two roots, %s and %s: keep both files, they are evidence", t.Size, root, t.Root)
		}
		roots[t.Size] = t.Root
	}
	for _, f := range facts {
		known(f.name, f.tree)
	}
	var last *tlog.Signed
	linked := map[int64]bool{} // sizes that are shown to be one history
	for _, seen := range in.Checkpoints {
		got, err := tlog.OpenCheckpoint(seen.Note, in.Policy)
		if err != nil {
			r.bad(CheckpointBad, seen.Name, "%v", err)
			continue
		}
		known(seen.Name, got.Tree)
		if last == nil {
			linked[got.Size], last = true, got
			continue
		}
		if r.grown(seen, last, got) {
			linked[got.Size] = true
		}
		last = got
	}
	if len(in.Checkpoints) == 0 {
		return
	}
	for _, f := range facts {
		if !linked[f.tree.Size] {
			linked[f.tree.Size] = true // said once
			r.Unshown = append(r.Unshown, fmt.Sprintf("that the log of %d entries, in which %s is proven, is one history with the checkpoints: a consistency proof between them is needed", f.tree.Size, f.name))
		}
	}
	if len(r.Problems) == before {
		r.holds("%d checkpoints contradict neither each other nor the receipts", len(in.Checkpoints))
	}
}

// grown says what became of the log between two checkpoints.
func (r *Report) grown(seen Seen, last, got *tlog.Signed) bool {
	proof := seen.Proof
	if seen.Old != last.Size {
		proof = nil
	}
	relation, err := tlog.Judge(last, got, proof)
	switch {
	case relation == tlog.RolledBack:
		r.bad(LogRolledBack, seen.Name, "the log had %d entries and now says %d: entries were taken away", last.Size, got.Size)
	case relation == tlog.Unproven && proof == nil:
		r.Unshown = append(r.Unshown, fmt.Sprintf("that the log of %d entries grew out of the one of %d: %s has no proof from that size", got.Size, last.Size, seen.Name))
	case relation == tlog.Unproven:
		r.bad(LogUnproven, seen.Name, "its proof does not show that the log of %d entries grew out of the one of %d", got.Size, last.Size)
	case relation == tlog.Forked: // said by known
	case err != nil:
		r.bad(CheckpointBad, seen.Name, "%v", err)
	default:
		return true
	}
	return false
}

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
	hash    tlog.Hash // of the entry
	proof   []tlog.Hash
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
		facts = append(facts, fact{given.Name, leaf, ev.Entry.Index, tlog.LeafHash(ev.Entry.Data), given.Proof, ev.Checkpoint.Tree, ev.Stamped})
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
		case f.leaf.Seq == last.leaf.Seq && (f.hash != last.hash || f.index != last.index):
			r.bad(SequenceBroken, f.name, "two leaves have the tenant's number %d, this and %s: two histories were shown", f.leaf.Seq, last.name)
		case f.leaf.Seq == last.leaf.Seq:
		case f.index <= last.index || f.leaf.Time.Before(last.leaf.Time):
			r.bad(SequenceBroken, f.name, "leaf %d stands in the log before leaf %d of %s, or is older", f.leaf.Seq, last.leaf.Seq, last.name)
		case f.leaf.Seq == last.leaf.Seq+1 && f.leaf.Prev != last.hash:
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
	g := &grove{}
	for _, f := range facts {
		r.seenIn(g, f)
	}
	wanting := r.checkpoints(g, in)
	r.linked(g, wanting)
}

// seenIn notes in which tree a leaf was proven.
func (r *Report) seenIn(g *grove, f fact) {
	r.shown(g, f.name, f.tree)
	g.leaf(f.tree, f.index, f.hash, f.proof)
}

func (r *Report) shown(g *grove, name string, t tlog.Tree) {
	if was, same := g.show(name, t); !same {
		r.bad(LogForked, name, "at %d entries the log was signed with two roots, %s and %s: keep both files, they are evidence", t.Size, was.Root, t.Root)
	}
}

// checkpoints judges each by the one before it, and says of which sizes no proof came to the next one.
func (r *Report) checkpoints(g *grove, in Input) (wanting map[int64]string) {
	before := len(r.Problems)
	wanting = map[int64]string{}
	var last *tlog.Signed
	for _, seen := range in.Checkpoints {
		got, err := tlog.OpenCheckpoint(seen.Note, in.Policy)
		if err != nil {
			r.bad(CheckpointBad, seen.Name, "%v", err)
			continue
		}
		r.shown(g, seen.Name, got.Tree)
		if seen.Proof != nil {
			g.grew = append(g.grew, growth{seen.Old, got.Tree, seen.Proof})
		}
		if last != nil && !r.grown(seen, last, got) {
			wanting[last.Size] = fmt.Sprintf("that the log of %d entries grew out of the one of %d: %s has no proof from that size", got.Size, last.Size, seen.Name)
		}
		last = got
	}
	if len(in.Checkpoints) > 0 && len(r.Problems) == before {
		r.holds("%d checkpoints contradict neither each other nor the receipts", len(in.Checkpoints))
	}
	return wanting
}

// linked says of each size of the log that was shown whether it is one history with the largest: what nothing shows is never passed over, since
// a log with two histories would sign both.
func (r *Report) linked(g *grove, wanting map[int64]string) {
	linked, sizes := g.link(), g.sizes()
	g.compare(linked)
	for _, c := range g.broken {
		r.bad(LogForked, c.larger.name, "%s", c)
		linked[c.smaller.Size] = true // more than not shown
	}
	for _, size := range sizes {
		if linked[size] {
			continue
		}
		text, last := wanting[size], g.trees[sizes[len(sizes)-1]]
		if text == "" {
			text = fmt.Sprintf("that the log of %d entries, which %s shows, is one history with the one of %d, which %s shows: a consistency proof between them is needed (ceralacca conserve checkpoint --since)", size, g.trees[size].name, last.Size, last.name)
		}
		r.Unshown = append(r.Unshown, text)
	}
	if len(sizes) > 1 && len(g.broken) == 0 && !slices.ContainsFunc(sizes, func(size int64) bool { return !linked[size] }) {
		r.holds("the log of %d entries grew out of what it was at %d other sizes that were shown", sizes[len(sizes)-1], len(sizes)-1)
	}
}

// grown says what became of the log between two checkpoints; false: no proof of it came.
func (r *Report) grown(seen Seen, last, got *tlog.Signed) bool {
	proof := seen.Proof
	if seen.Old != last.Size {
		proof = nil
	}
	relation, err := tlog.Judge(last, got, proof)
	switch {
	case relation == tlog.RolledBack:
		r.bad(LogRolledBack, seen.Name, "the log had %d entries and now says %d: entries were taken away", last.Size, got.Size)
	case relation == tlog.Unproven && proof == nil: // the receipts may show it
		return false
	case relation == tlog.Unproven:
		r.bad(LogUnproven, seen.Name, "its proof does not show that the log of %d entries grew out of the one of %d", got.Size, last.Size)
	case relation == tlog.Forked: // said by shown
	case err != nil:
		r.bad(CheckpointBad, seen.Name, "%v", err)
	}
	return true
}

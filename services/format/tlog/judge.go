package tlog

import (
	"context"
	"fmt"

	merkle "golang.org/x/mod/sumdb/tlog"
)

// Relation is what two checkpoints of one log say of its history.
type Relation string

// The relations of an earlier checkpoint (seen) to a later one (got).
const (
	Same       Relation = "same"
	Grown      Relation = "grown"       // got has seen's entries and more
	RolledBack Relation = "rolled-back" // got is smaller: entries are gone
	Forked     Relation = "forked"      // both cannot be true; the two signed texts are the evidence
	Unproven   Relation = "unproven"    // got is larger, and the proof does not show that it grew out of seen
)

// ViolationError: the log's promise is broken, or was not shown to be kept.
type ViolationError struct {
	Relation  Relation
	Seen, Got Tree
}

func (e *ViolationError) Error() string {
	return fmt.Sprintf("tlog: the log is %s: tree of %d entries with root %s was seen, and now %d with root %s; keep both checkpoints, they are evidence",
		e.Relation, e.Seen.Size, e.Seen.Root, e.Got.Size, e.Got.Root)
}

// Judge says what became of a log whose checkpoint seen was kept and which now shows got, with
// the consistency proof that it gave. Only Same and Grown come without an error; the others come
// with *ViolationError. Both checkpoints must have been opened by a policy.
func Judge(seen, got *Signed, proof []Hash) (Relation, error) {
	if seen.Origin != got.Origin {
		return "", fmt.Errorf("%w: %.80q and %.80q", ErrOrigin, seen.Origin, got.Origin)
	}
	return JudgeTrees(seen.Tree, got.Tree, proof)
}

// JudgeTrees is Judge for trees whose signatures were looked at elsewhere.
func JudgeTrees(seen, got Tree, proof []Hash) (Relation, error) {
	broken := func(r Relation) (Relation, error) { return r, &ViolationError{r, seen, got} }
	switch {
	case got.Size == seen.Size && got.Root == seen.Root:
		return Same, nil
	case got.Size == seen.Size:
		return broken(Forked)
	case got.Size < seen.Size:
		return broken(RolledBack)
	case CheckConsistency(proof, seen, got) != nil:
		return broken(Unproven)
	}
	return Grown, nil
}

// JudgeStore is Judge for who can read the tiles of got: it computes from them, each checked
// against got's root, what the root was at seen's size. Another root there proves the fork.
func JudgeStore(ctx context.Context, s Store, seen, got Tree) (Relation, error) {
	if seen.Size >= got.Size {
		return JudgeTrees(seen, got, nil)
	}
	root, err := merkle.TreeHash(seen.Size, NewProver(s, got).hashes(ctx))
	if err != nil {
		return "", fmt.Errorf("tlog: root at size %d: %w", seen.Size, err)
	}
	if root != seen.Root {
		return Forked, &ViolationError{Forked, seen, got}
	}
	return Grown, nil
}

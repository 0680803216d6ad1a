package tlog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Tail is the end of one tenant's chain. The tenant states and stores it: with it, nothing that
// came before can be taken away or slipped in.
type Tail struct {
	Tenant [sha256.Size]byte
	Seq    uint64 // 0: no leaf yet
	Last   Hash   // LeafHash of leaf Seq
	Index  int64  // of leaf Seq in the log
	Time   time.Time
}

// ErrSequence: the tenant's leaves are not one gapless chain in the order of the log.
var ErrSequence = errors.New("tlog: the tenant's sequence is broken")

// Next gives the leaf after the tail, to be appended. Errors: fields outside their form, a time
// before the last leaf's.
func (t *Tail) Next(kind string, at time.Time, objects []Hash, note string) (*Leaf, error) {
	at = at.UTC().Truncate(time.Second)
	if at.Before(t.Time) {
		return nil, fmt.Errorf("%w: leaf %d would be of %s, before the last one, %s: look at the clock",
			ErrSequence, t.Seq+1, at.Format(time.RFC3339), t.Time.Format(time.RFC3339))
	}
	l := &Leaf{Type: kind, Time: at, Tenant: t.Tenant, Seq: t.Seq + 1, Prev: t.Last, Objects: objects, Note: note}
	_, err := l.Marshal()
	return l, err
}

// InNextLog is the tail at the beginning of the log of the next year: numbers and links go on,
// indexes begin anew. The first entry of that log is the last signed checkpoint of the one before,
// verbatim; OpenCheckpoint reads it.
func (t Tail) InNextLog() Tail {
	t.Index = -1
	return t
}

// Follow takes the tail over one more entry of the log. Leaves of other tenants are passed over,
// so that a monitor may feed it every entry. Errors: ErrSequence, wrapped, with the place; the
// tail is then unchanged.
func (t *Tail) Follow(e Entry) (mine bool, err error) {
	if e.Index == 0 && !bytes.HasPrefix(e.Data, []byte("{")) {
		if _, _, err := sigLines(e.Data); err == nil {
			return false, nil
		}
	}
	l, err := ParseLeaf(e.Data)
	if err != nil {
		return false, fmt.Errorf("entry %d: %w", e.Index, err)
	}
	if l.Tenant != t.Tenant {
		return false, nil
	}
	bad := func(format string, args ...any) (bool, error) {
		return true, fmt.Errorf("%w: entry %d: %s", ErrSequence, e.Index, fmt.Sprintf(format, args...))
	}
	switch {
	case l.Seq != t.Seq+1:
		return bad("leaf %d follows leaf %d", l.Seq, t.Seq)
	case l.Prev != t.Last:
		return bad("leaf %d names another leaf before it", l.Seq)
	case t.Seq > 0 && e.Index <= t.Index:
		return bad("leaf %d stands before leaf %d in the log", l.Seq, t.Seq)
	case l.Time.Before(t.Time):
		return bad("leaf %d is of %s, before leaf %d", l.Seq, l.Time.Format(time.RFC3339), t.Seq)
	}
	t.Seq, t.Last, t.Index, t.Time = l.Seq, LeafHash(e.Data), e.Index, l.Time
	return true, nil
}

// Proven is an entry with its inclusion proof.
type Proven struct {
	Entry
	Proof []Hash
}

// CheckSequence checks, offline, that these are all the leaves of a tenant after from and up to
// the tail that it gives: each is in the tree, they are in order, without a gap, each naming the
// one before. That nothing follows the tail is what the operator states with the tail, and what
// contradicts it later is another leaf with the same number. Errors: ErrSequence, ErrProof, wrapped.
func CheckSequence(from Tail, tree Tree, leaves []Proven) (Tail, error) {
	tail := from
	for i, p := range leaves {
		if err := CheckInclusion(p.Proof, tree, p.Index, LeafHash(p.Data)); err != nil {
			return from, fmt.Errorf("leaf %d of the sequence: %w", i+1, err)
		}
		mine, err := tail.Follow(p.Entry)
		if err != nil {
			return from, err
		}
		if !mine {
			return from, fmt.Errorf("%w: entry %d is another tenant's", ErrSequence, p.Index)
		}
	}
	return tail, nil
}

package ers

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"ceralacca.dev/services/format/tsp"
)

// Subject is what a batch stamps for one record: new data, or a record to be renewed.
type Subject struct {
	objects []Object
	record  *Record
	rehash  bool
}

// Initial begins a record for one data object, or for a group that belongs together.
// spec: RFC4998 §4.2
func Initial(objects ...Object) Subject { return Subject{objects: objects} }

// Restamp renews the time stamp: a new one over the last, in the same chain and with its
// algorithm. The data are not read, the last token is verified. spec: RFC4998 §5.2 (time-stamp renewal)
func Restamp(r *Record) Subject { return Subject{record: r} }

// Rehash renews the hash tree: a new chain, as a rule with a new algorithm, over the data and all
// evidence so far. The objects are those of the record. spec: RFC4998 §5.2 (hash-tree renewal)
func Rehash(r *Record, objects ...Object) Subject {
	return Subject{objects: objects, record: r, rehash: true}
}

// Batch is a hash tree over many subjects, so that one time stamp serves them all.
type Batch struct {
	hash     crypto.Hash
	subjects []Subject
	groups   [][][]byte // per subject, the hashes of its group in ascending order
	levels   [][][]byte // the binary tree, leaves first; an odd last node goes up as it is
}

// NewBatch hashes the subjects and builds the tree. Errors: no subject or a subject without
// objects; a hash other than SHA-256, SHA-384 and SHA-512; a Restamp in a batch with another
// algorithm than its chain's; a Rehash without the record's objects; an object that fails.
func NewBatch(h crypto.Hash, subjects []Subject) (*Batch, error) {
	if _, err := algorithmDER(tagSequence, h); err != nil {
		return nil, err
	}
	if len(subjects) == 0 {
		return nil, errors.New("ers: batch: there is nothing to stamp")
	}
	b := &Batch{hash: h, subjects: subjects}
	var leaves [][]byte
	for i := range subjects {
		group, err := subjects[i].hashes(h)
		if err != nil {
			return nil, fmt.Errorf("ers: batch: subject %d: %w", i+1, err)
		}
		slices.SortFunc(group, bytes.Compare)
		b.groups = append(b.groups, group)
		leaves = append(leaves, node(h, group))
	}
	b.levels = [][][]byte{leaves}
	for len(leaves) > 1 {
		var up [][]byte
		for i := 0; i+1 < len(leaves); i += 2 {
			up = append(up, node(h, leaves[i:i+2]))
		}
		if len(leaves)%2 == 1 {
			up = append(up, leaves[len(leaves)-1])
		}
		b.levels = append(b.levels, up)
		leaves = up
	}
	return b, nil
}

func (s *Subject) hashes(h crypto.Hash) ([][]byte, error) {
	if s.record == nil || s.rehash {
		if len(s.objects) == 0 {
			return nil, errors.New("it has no data objects")
		}
		if len(s.objects) > maxHashes/2 {
			return nil, fmt.Errorf("a group of %d data objects, the limit is %d", len(s.objects), maxHashes/2)
		}
		if s.record == nil {
			return digests(h, s.objects, nil)
		}
		// Over wrong data a renewal would be proof of nothing, found out when it is too late.
		if _, err := s.record.Verify(s.objects, VerifyOptions{}); err != nil {
			return nil, fmt.Errorf("the record does not verify with these objects: %w", err)
		}
		return digests(h, s.objects, evidence(h, s.record.Chains))
	}
	last := s.record.last()
	if last.Hash != h {
		return nil, fmt.Errorf("its chain uses %v: a batch with %v renews the hash tree (Rehash), not the time stamp", last.Hash, h)
	}
	// A new stamp over one that does not hold would keep nothing alive.
	if err := last.Token.Verify(tsp.VerifyOptions{Digest: last.Token.Info.Digest}); err != nil {
		return nil, fmt.Errorf("its last time stamp does not hold: %w", err)
	}
	return [][]byte{sum(h, last.TokenRaw)}, nil
}

// Root is what the time stamp has to be over: the digest of a request, not to be hashed again.
func (b *Batch) Root() []byte { return b.levels[len(b.levels)-1][0] }

// Hash is the algorithm of the root.
func (b *Batch) Hash() crypto.Hash { return b.hash }

// tree is the reduced hash tree of one subject, nil when the root is its one hash.
// spec: RFC4998 §4.2
func (b *Batch) tree(i int) [][][]byte {
	tree := [][][]byte{slices.Clone(b.groups[i])}
	for _, level := range b.levels[:len(b.levels)-1] {
		if sibling := i ^ 1; sibling < len(level) {
			// A lone hash shares its first list with its sibling, a group has one of its own.
			if len(tree) == 1 && len(b.groups[i]) == 1 && len(tree[0]) == 1 {
				pair := append(tree[0], level[sibling])
				slices.SortFunc(pair, bytes.Compare)
				tree[0] = pair
			} else {
				tree = append(tree, [][]byte{level[sibling]})
			}
		}
		i /= 2
	}
	if len(tree) == 1 && len(tree[0]) == 1 {
		return nil
	}
	return tree
}

// Sealed is a batch with its time stamp.
type Sealed struct {
	*Batch
	token *tsp.Token
	alg   []byte
}

// Seal takes the token over Root. Its signature is verified, its chain is the caller's matter
// (tsp.Client judges it). Errors: a token that does not stamp the root, or does not hold.
func (b *Batch) Seal(token []byte) (*Sealed, error) {
	tok, err := tsp.ParseToken(token)
	if err != nil {
		return nil, fmt.Errorf("ers: seal: %w", err)
	}
	if tok.Info.Hash != b.hash {
		return nil, fmt.Errorf("ers: seal: the token is over a %v digest, the batch has %v", tok.Info.Hash, b.hash)
	}
	if err := tok.Verify(tsp.VerifyOptions{Digest: b.Root()}); err != nil {
		return nil, fmt.Errorf("ers: seal: %w", err)
	}
	alg, err := algorithmDER(tagContext0, b.hash)
	if err != nil {
		return nil, err
	}
	return &Sealed{b, tok, alg}, nil
}

// stamp is the archive time stamp of one subject.
func (s *Sealed) stamp(i int) []byte {
	parts := [][]byte{s.alg}
	if tree := s.tree(i); tree != nil {
		var lists [][]byte
		for _, l := range tree {
			var values [][]byte
			for _, v := range l {
				values = append(values, tlv(tagOctets, v))
			}
			lists = append(lists, tlv(tagSequence, values...))
		}
		parts = append(parts, tlv(tagContext2, lists...))
	}
	return tlv(tagSequence, append(parts, s.token.Raw)...)
}

// Record gives the DER of the record of subject i, counted from 0: the new one, or the renewed
// one whole. Errors: a token that is older than the stamp that it renews.
func (s *Sealed) Record(i int) ([]byte, error) {
	if i < 0 || i >= len(s.subjects) {
		return nil, fmt.Errorf("ers: the batch has no subject %d", i)
	}
	added, subject := s.stamp(i), s.subjects[i]
	own, err := algorithmDER(tagSequence, s.hash)
	if err != nil {
		return nil, err
	}
	r := subject.record
	if r == nil {
		return assemble(own, nil, tlv(tagSequence, added)), nil
	}
	chain := r.Chains[len(r.Chains)-1]
	if last := r.last().Token.Info.Time; s.token.Info.Time.Before(last) {
		return nil, fmt.Errorf("ers: the new stamp is of %s, before the one that it renews, %s", stamp(s.token.Info.Time), stamp(last))
	}
	var chains []byte
	for _, c := range r.Chains[:len(r.Chains)-1] {
		chains = append(chains, c.Raw...)
	}
	algorithms := slices.Clone(r.algorithms)
	if subject.rehash {
		chains = append(append(chains, chain.Raw...), tlv(tagSequence, added)...)
		if !slices.Contains(r.Hashes, s.hash) {
			algorithms = append(algorithms, own...)
		}
	} else {
		var stamps [][]byte
		for _, st := range chain.Stamps {
			stamps = append(stamps, st.Raw)
		}
		chains = append(chains, tlv(tagSequence, append(stamps, added)...)...)
	}
	return assemble(algorithms, r.infos, chains), nil
}

// assemble: spec: RFC4998 §3.1
func assemble(algorithms, infos, chains []byte) []byte {
	return tlv(tagSequence, []byte{tagInteger, 1, 1}, tlv(tagSequence, algorithms), infos, tlv(tagSequence, chains))
}

package custody

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ceralacca.dev/services/format/tlog"
)

// waitingList is beside the documents in such a ZIP, and is the index of the export that tells of them once more.
const waitingList = "units.jsonl"

// ReadWaiting reads the documents of an export that no package held yet: a ZIP with a folder for each, in which its files are numbered in the order of its
// leaf. Errors: those of Members, and names that are no such files.
func ReadWaiting(raw []byte) (list []Unit, err error) {
	_, members, err := Members(raw)
	if err != nil {
		return nil, err
	}
	h, files := sha256.New(), map[string]map[int][32]byte{}
	for name, f := range members {
		if name == waitingList {
			continue
		}
		id, file, _ := strings.Cut(name, "/")
		number, _, _ := strings.Cut(file, ".")
		n, err := strconv.Atoi(number)
		if err != nil || strings.Contains(file, "/") {
			return nil, fmt.Errorf("custody: %.200q is no file of a document that waits", name)
		}
		_, err = sum(f, h, false)
		if err != nil {
			return nil, fmt.Errorf("custody: %.200q: %w", name, err)
		}
		if files[id] == nil {
			files[id] = map[int][32]byte{}
		}
		if _, twice := files[id][n]; twice {
			return nil, fmt.Errorf("custody: %.200q has a number that another file has", name)
		}
		files[id][n] = [32]byte(h.Sum(nil))
	}
	if len(files) == 0 {
		return nil, errors.New("custody: there is no document in it")
	}
	for _, id := range slices.Sorted(maps.Keys(files)) {
		u := Unit{ID: id}
		for _, n := range slices.Sorted(maps.Keys(files[id])) {
			u.Files = append(u.Files, files[id][n])
		}
		list = append(list, u)
	}
	return list, nil
}

// waiter is a document that waits for its package, until its leaves were seen.
type waiter struct {
	name, id string
	objects  []tlog.Hash
	note     string

	seq          uint64 // of its last leaf; 0: none was seen
	now, earlier bool   // that one names its files, or an earlier one did
}

// Waiting notes documents that were handed over outside of any package: Chain compares them, which comes after them.
func (l *Ledger) Waiting(name string, units []Unit) {
	for _, u := range units {
		objects, note := UnitObjects(u.ID, u.Files)
		if l.waiters[objects[0]] != nil {
			l.bad(UnitTwice, name, "the document %s waits here for its package, and in %s too", u.ID, l.waiters[objects[0]].name)
			continue
		}
		l.waiters[objects[0]] = &waiter{name: name, id: u.ID, objects: objects, note: note}
	}
}

// waits compares a leaf of the list with the document that waits which it is of.
func (l *Ledger) waits(leaf *tlog.Leaf) {
	if leaf.Type != Taken && leaf.Type != Extended || len(leaf.Objects) == 0 {
		return
	}
	if w := l.waiters[leaf.Objects[0]]; w != nil {
		w.earlier = w.earlier || w.now
		w.seq, w.now = leaf.Seq, slices.Equal(leaf.Objects, w.objects) && leaf.Note == w.note
	}
}

// waited says which of the documents that wait are those that were taken in charge.
func (l *Ledger) waited() {
	good := 0
	for _, w := range slices.SortedFunc(maps.Values(l.waiters), func(a, b *waiter) int { return strings.Compare(a.name+a.id, b.name+b.id) }) {
		switch {
		case l.chain == nil || w.seq == 0:
			l.Unshown = append(l.Unshown, fmt.Sprintf("%s: that the document %s is what was taken in charge: no leaf here names its files", w.name, w.id))
		case w.now:
			good++
		case w.earlier:
			l.Unshown = append(l.Unshown, fmt.Sprintf("%s: the last state of the document %s, which leaf %d names: it was extended while the export was made, and is here as it was before", w.name, w.id, w.seq))
		default:
			l.bad(UnitChanged, w.name, "the document %s does not have the files that leaf %d names", w.id, w.seq)
		}
	}
	if good > 0 {
		l.holds("%d documents that wait for their package have the files that their leaves name", good)
	}
}

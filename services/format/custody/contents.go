package custody

import (
	"cmp"
	"slices"

	"ceralacca.dev/services/format/tlog"
)

// contents compares the package with what the receipts say was taken in charge and sealed.
func (r *Report) contents(in Input, facts []fact) {
	before := len(r.Problems)
	p := in.Package
	for _, name := range p.Missing {
		r.bad(FileMissing, name, "the index names it and the package does not hold it")
	}
	units := map[tlog.Hash]Unit{}
	for _, u := range p.Units {
		key := subject("unit", u.ID)
		if _, twice := units[key]; twice {
			r.bad(UnitTwice, u.ID, "the index has this unit twice")
		}
		units[key] = u
	}
	stories := map[tlog.Hash][]fact{}
	sealed := false
	for _, f := range facts {
		switch f.leaf.Type {
		case Taken, Extended:
			stories[f.leaf.Objects[0]] = append(stories[f.leaf.Objects[0]], f)
		case Sealed:
			sealed = r.sealed(p, f) || sealed
		case Reported: // of the archive, not of what is in a package
		default:
			r.bad(ReceiptInvalid, f.name, "a leaf of type %s is not known here", f.leaf.Type)
		}
	}
	proven := 0
	for key, story := range stories {
		u, ok := units[key]
		if !ok {
			r.bad(UnitMissing, story[0].name, "the unit of this receipt is not in the package")
			continue
		}
		if r.unit(u, story) {
			proven++
		}
	}
	for _, u := range p.Units {
		if in.Complete && stories[subject("unit", u.ID)] == nil {
			r.bad(UnitInserted, u.ID, "the package holds this unit, and no receipt says that it was taken in charge")
		}
	}
	slices.SortStableFunc(r.Problems[before:], func(a, b Problem) int { return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Code, b.Code)) })
	if sealed {
		r.holds("the package is byte for byte the one that was sealed")
	}
	if len(facts) > 0 {
		r.holds("%d of %d units of the package: the files are those that were taken in charge", proven, len(p.Units))
	}
}

func (r *Report) sealed(p *Package, f fact) bool {
	switch {
	case len(f.leaf.Objects) != 4:
		r.bad(ReceiptInvalid, f.name, "a leaf of a package names 4 digests, this one %d", len(f.leaf.Objects))
	case f.leaf.Objects[0] != subject("package", p.ID):
		r.bad(ReceiptElsewhere, f.name, "it is the receipt of another package than %s", p.ID)
	case f.leaf.Objects[1] != p.Sum:
		r.bad(PackageChanged, f.name, "the package has other bytes than when it was sealed")
	default:
		return true
	}
	return false
}

// unit compares a unit with its leaves: the last one must name exactly its files, and each earlier one's
// document and receipts must still be among them (the metadata file, the last, was made anew).
func (r *Report) unit(u Unit, story []fact) bool {
	slices.SortStableFunc(story, func(a, b fact) int { return cmp.Compare(a.leaf.Seq, b.leaf.Seq) })
	now, note := UnitObjects(u.ID, u.Files)
	last := story[len(story)-1]
	if !slices.Equal(now, last.leaf.Objects) || note != last.leaf.Note {
		r.bad(UnitChanged, last.name, "unit %s is not what was taken in charge%s", u.ID, difference(now, last.leaf.Objects))
		return false
	}
	for _, f := range story[:len(story)-1] {
		if f.leaf.Note == folded || note == folded || f.leaf.Seq == last.leaf.Seq {
			continue
		}
		for _, o := range f.leaf.Objects[:len(f.leaf.Objects)-1] {
			if !slices.Contains(now, o) {
				r.bad(UnitChanged, f.name, "unit %s held a file with SHA-256 %x, which is gone", u.ID, o[:])
				return false
			}
		}
	}
	return true
}

func difference(now, then []tlog.Hash) string {
	switch {
	case len(now) > len(then):
		return ": it has more files; if a later receipt of this unit exists, give it too"
	case len(now) < len(then):
		return ": it has fewer files"
	}
	for i := range now {
		if now[i] != then[i] && i > 0 {
			return [...]string{": its document was changed", ": one of its receipts or its metadata was changed"}[min(i-1, 1)]
		}
	}
	return ""
}

package fatturapa

import "slices"

// The content models become position automata (Glushkov): the schemas are
// deterministic, so after each child at most one position can follow.

// number gives each leaf its position.
func (d *typeDef) number(e *expr) {
	if e.op == 'e' {
		e.pos = len(d.pos)
		d.pos = append(d.pos, e.p)
		d.next = append(d.next, nil)
		return
	}
	for _, k := range e.kids {
		d.number(k)
	}
}

// ends returns the positions that can start and end an expression, and whether
// it can be empty.
func (e *expr) ends() (first, last []uint16, nullable bool) {
	switch e.op {
	case 'e':
		first, last = []uint16{uint16(e.pos)}, []uint16{uint16(e.pos)}
	case 's':
		nullable = true
		for _, k := range e.kids {
			kf, kl, kn := k.ends()
			if nullable {
				first = append(first, kf...)
			}
			if kn {
				last = append(last, kl...)
			} else {
				last = kl
			}
			nullable = nullable && kn
		}
	case 'c':
		for _, k := range e.kids {
			kf, kl, kn := k.ends()
			first, last = append(first, kf...), append(last, kl...)
			nullable = nullable || kn
		}
	}
	return first, last, nullable || e.occ == '?' || e.occ == '*'
}

// follow fills next: after the end of one part comes the start of the following.
func (d *typeDef) follow(e *expr) {
	if e.op == 's' {
		for i, k := range e.kids {
			_, last, _ := k.ends()
			for _, after := range e.kids[i+1:] {
				first, _, nullable := after.ends()
				d.link(last, first)
				if !nullable {
					break
				}
			}
		}
	}
	for _, k := range e.kids {
		d.follow(k)
	}
	if e.occ == '*' || e.occ == '+' {
		first, last, _ := e.ends()
		d.link(last, first)
	}
}

func (d *typeDef) link(from, to []uint16) {
	for _, a := range from {
		for _, b := range to {
			if !slices.Contains(d.next[a], b) {
				d.next[a] = append(d.next[a], b)
			}
		}
	}
}

// markRepeats finds the positions that can be reached from themselves, or that
// share their name with another: in JSON such an element is always an array.
func (d *typeDef) markRepeats() {
	for p := 1; p < len(d.pos); p++ {
		seen := make([]bool, len(d.pos))
		d.reach(uint16(p), seen)
		for q := 1; q < len(d.pos); q++ {
			if seen[q] && d.pos[q].key == d.pos[p].key {
				d.pos[p].repeats = true
			}
		}
	}
}

// reach marks every position that can come later than p.
func (d *typeDef) reach(p uint16, seen []bool) {
	for _, q := range d.next[p] {
		if !seen[q] {
			seen[q] = true
			d.reach(q, seen)
		}
	}
}

// reachable finds a position for an element later in the content model, as if
// what stands between were missing only; 0 when there is none.
func (d *typeDef) reachable(state int, key elementKey) int {
	seen := make([]bool, len(d.pos))
	d.reach(uint16(state), seen)
	for q := 1; q < len(d.pos); q++ {
		if seen[q] && d.pos[q].wild == wildNone && d.pos[q].key == key {
			return q
		}
	}
	return 0
}

// anywhere finds any position of an element; 0 when the type does not know it.
func (d *typeDef) anywhere(key elementKey) int {
	for q := 1; q < len(d.pos); q++ {
		if d.pos[q].wild == wildNone && d.pos[q].key == key {
			return q
		}
	}
	return 0
}

// position finds the position of an element in a type that may be nil. The
// namespace of the root, which some programs put on every element, is let pass.
func (d *typeDef) position(n *node) int {
	if d == nil {
		return 0
	}
	ns := n.ns
	if ns == nsInvoice {
		ns = nsNone
	}
	return d.anywhere(keyOf(n.tag, ns))
}

// step returns the position after a child, 0 when the child is not expected.
func (d *typeDef) step(state int, key elementKey) int {
	for _, q := range d.next[state] {
		p := &d.pos[q]
		if p.wild == wildNone {
			if p.key == key {
				return int(q)
			}
			continue
		}
		ns := uint8(key)
		// Every wildcard is in the schema of XML Signature: "other" means
		// neither its namespace nor none.
		if p.wild <= wildAnyLax || ns != nsSignature && ns != nsNone {
			return int(q)
		}
	}
	return 0
}

// expected lists the names that may follow a state.
func (d *typeDef) expected(state int) []string {
	var out []string
	for _, q := range d.next[state] {
		name := "*"
		if p := &d.pos[q]; p.wild == wildNone {
			name = tagNames[p.key>>8]
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

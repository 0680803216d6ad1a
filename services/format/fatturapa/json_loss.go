package fatturapa

// maxLoss bounds the list of [File.JSONLoss].
const maxLoss = 50

// JSONLoss lists what of a file [File.JSON] has no place for, as paths: elements and
// attributes that the schema does not know, and text between elements. A file that
// fits the schema loses nothing but its signature, which is not listed; neither is
// what XML Schema itself puts there (xsi:schemaLocation). At most fifty are listed.
func (f *File) JSONLoss() []string {
	l := lossList{f: f}
	l.element(0, f.newestTable().root)
	return l.paths
}

type lossList struct {
	f     *File
	paths []string
}

func (l *lossList) add(path string) {
	if len(l.paths) < maxLoss {
		l.paths = append(l.paths, path)
	}
}

func (l *lossList) element(id NodeID, d *typeDef) {
	f := l.f
	lo, hi := f.attrsOf(id)
	for i := lo; i < hi; i++ {
		a := &f.attrs[i]
		kept := id == 0 && a.ns == nsNone && (a.name == "versione" || a.name == "SistemaEmittente")
		if !kept && a.ns != nsInstance {
			l.add(f.XPath(id) + "/@" + a.name)
		}
	}
	n := &f.nodes[id]
	holdsElements := d.facets == nil
	if holdsElements && (n.flags&flagMixed != 0 || n.flags&flagChildren == 0 && n.val.len != 0 && !isBlank(f.ref(n.val))) {
		l.add(f.XPath(id) + "/text()")
	}
	for c := f.firstChild(id); c != 0; c = f.nodes[c].next {
		if f.nodes[c].ns == nsSignature {
			continue
		}
		q := 0
		if holdsElements {
			q = d.position(&f.nodes[c])
		}
		if q <= 0 {
			l.add(f.XPath(c))
			continue
		}
		l.element(c, d.pos[q].typ)
	}
}

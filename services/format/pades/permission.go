package pades

import "strconv"

// Certification is what the author of a certified file allows. spec: ISO32000-1 §12.8.2.2
type Certification int

// The access permissions of DocMDP.
const (
	NotCertified      Certification = 0
	NoChanges         Certification = 1
	FormsAndSigning   Certification = 2 // filling in forms and signing
	AnnotationsAsWell Certification = 3
)

func itoa(n int) string { return strconv.Itoa(n) }

// certification reads the DocMDP signature that the catalog names, 0 when there is none.
func (d *document) certification() (Certification, error) {
	_, catalog, err := d.root()
	if err != nil {
		return 0, err
	}
	perms, err := d.dict(catalog.get("Perms"))
	if err != nil || perms == nil {
		return 0, err
	}
	sig, err := d.dict(perms.get("DocMDP"))
	if err != nil || sig == nil {
		return 0, err
	}
	p, _, err := d.transform(sig, "DocMDP")
	if err != nil {
		return 0, err
	}
	switch v := integer(p.get("P"), int64(FormsAndSigning)); v {
	case 1, 2, 3:
		return Certification(v), nil
	default:
		return NoChanges, nil // a value that the standard does not know allows nothing
	}
}

// transform finds a transform method in a signature dictionary and gives its parameters.
// spec: ISO32000-1 §12.8.1, tables 252 and 253
func (d *document) transform(sig *dict, method name) (*dict, bool, error) {
	refs, err := d.array(sig.get("Reference"))
	if err != nil {
		return nil, false, err
	}
	for _, o := range refs[:min(len(refs), 16)] {
		rd, err := d.dict(o)
		if err != nil {
			return nil, false, err
		}
		if rd.get("TransformMethod") != method {
			continue
		}
		p, err := d.dict(rd.get("TransformParams"))
		return p, true, err
	}
	return nil, false, nil
}

// locks are the fields that signatures have locked. spec: ISO32000-1 §12.8.2.4
type locks struct {
	all    bool
	only   map[string]bool
	allBut []map[string]bool
}

func (l *locks) locked(full string) bool {
	if l.all || covers(l.only, full) {
		return true
	}
	for _, except := range l.allBut {
		if !covers(except, full) {
			return true
		}
	}
	return false
}

// covers: the name of a field stands for the fields below it as well.
func covers(set map[string]bool, full string) bool {
	if set[full] {
		return true
	}
	for i := range full {
		if full[i] == '.' && set[full[:i]] {
			return true
		}
	}
	return false
}

// locks gathers the FieldMDP transforms of all signatures.
func (d *document) locks(all []field) (*locks, error) {
	out := &locks{only: map[string]bool{}}
	for _, f := range all {
		if !f.signature() || f.value == nil {
			continue
		}
		sig, err := d.dict(f.value)
		if err != nil {
			return nil, err
		}
		p, ok, err := d.transform(sig, "FieldMDP")
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		names, err := d.names(p.get("Fields"))
		if err != nil {
			return nil, err
		}
		switch p.get("Action") {
		case name("Include"):
			for n := range names {
				out.only[n] = true
			}
		case name("Exclude"):
			out.allBut = append(out.allBut, names)
		default:
			out.all = true
		}
	}
	return out, nil
}

func (d *document) names(o object) (map[string]bool, error) {
	a, err := d.array(o)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(a))
	for _, e := range a {
		v, err := d.resolve(e)
		if err != nil {
			return nil, err
		}
		if s, ok := v.(text); ok {
			out[decodeText(s.val)] = true
		}
	}
	return out, nil
}

package fatturapa

// Limits bounds what Parse accepts, so that a hostile file costs no more than a
// large honest one. A zero field means the value of [DefaultLimits].
type Limits struct {
	MaxBytes      int // size of the file in bytes
	MaxDepth      int // nesting of elements
	MaxElements   int // elements in the file
	MaxBodies     int // documents of a lot
	MaxAttributes int // attributes of one element
	MaxName       int // bytes of one name
}

// DefaultLimits are the limits of [Parse]. The size is the "5 MB" that SdI never
// defines in bytes, read in the prudent way.
//
// spec: AllA-1.9 §1.3.1 (control 00003)
func DefaultLimits() Limits {
	return Limits{
		MaxBytes:      5_000_000,
		MaxDepth:      64,
		MaxElements:   250_000,
		MaxBodies:     10_000,
		MaxAttributes: 64,
		MaxName:       255,
	}
}

// filled replaces every zero by its default.
func (l Limits) filled() Limits {
	d := DefaultLimits()
	if l.MaxBytes <= 0 {
		l.MaxBytes = d.MaxBytes
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = d.MaxDepth
	}
	if l.MaxElements <= 0 {
		l.MaxElements = d.MaxElements
	}
	if l.MaxBodies <= 0 {
		l.MaxBodies = d.MaxBodies
	}
	if l.MaxAttributes <= 0 {
		l.MaxAttributes = d.MaxAttributes
	}
	if l.MaxName <= 0 {
		l.MaxName = d.MaxName
	}
	return l
}

package pades

import (
	"errors"
	"fmt"
)

// Limits of the guarded reader. The zero value takes the defaults.
type Limits struct {
	Size       int64 // bytes of the file, 1 GiB by default
	Objects    int   // entries of all cross-reference sections together, 1,048,576 by default
	Sections   int   // cross-reference sections (increments), 1,024 by default
	Object     int   // bytes of one object without stream data, 8 MiB by default
	Elements   int   // values inside one object, 262,144 by default
	Stream     int   // decoded bytes of one object stream, 8 MiB by default
	Signatures int   // of one file, 128 by default
	// Work bounds the bytes that are looked at beyond plain hashing: 64 MiB and 64 times the size
	// of the file by default.
	Work int64
}

const (
	maxDepth     = 64 // arrays and dictionaries inside each other
	maxTreeDepth = 64 // page and field trees
	defaultWork  = 64 << 20
	workPerByte  = 64
)

func (l Limits) orDefaults(size int64) Limits {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	if l.Size <= 0 {
		l.Size = 1 << 30
	}
	set(&l.Objects, 1<<20)
	set(&l.Sections, 1024)
	set(&l.Object, 8<<20)
	set(&l.Elements, 1<<18)
	set(&l.Stream, 8<<20)
	set(&l.Signatures, 128)
	if l.Work <= 0 {
		l.Work = defaultWork + workPerByte*size
	}
	return l
}

// SyntaxError says what is wrong with the file and where.
type SyntaxError struct {
	Offset int64 // of the file; -1 inside an object stream
	Reason string
}

func (e *SyntaxError) Error() string {
	if e.Offset < 0 {
		return "pades: inside an object stream: " + e.Reason
	}
	return fmt.Sprintf("pades: byte %d: %s", e.Offset, e.Reason)
}

// LimitError: the file is beyond one of Limits.
type LimitError struct{ Reason string }

func (e *LimitError) Error() string { return "pades: " + e.Reason }

// ForbiddenError: the file itself forbids the signature (a certification, a lock on a field).
type ForbiddenError struct{ Reason string }

func (e *ForbiddenError) Error() string { return "pades: the file forbids it: " + e.Reason }

// ErrEncrypted: the file is protected with a password or a certificate.
var ErrEncrypted = errors.New("pades: the file is encrypted: take the protection off and try again")

func syntax(off int64, format string, args ...any) error {
	return &SyntaxError{off, fmt.Sprintf(format, args...)}
}

func beyond(format string, args ...any) error { return &LimitError{fmt.Sprintf(format, args...)} }

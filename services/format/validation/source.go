package validation

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"ceralacca.dev/services/format/cms"
)

// Source is a file or a content of which parts are read where they are; *bytes.Reader and
// *io.SectionReader are Sources.
type Source = cms.Source

// memory is a source that is in memory already.
type memory struct {
	*bytes.Reader
	raw []byte
}

func inMemory(raw []byte) memory { return memory{bytes.NewReader(raw), raw} }

// held gives all of a source, without copying one that is in memory.
func held(src Source) ([]byte, error) {
	switch s := src.(type) {
	case memory:
		return s.raw, nil
	case part:
		if m, ok := s.of.(memory); ok {
			return m.raw[s.from : s.from+s.size], nil
		}
	}
	out := make([]byte, src.Size())
	n, err := src.ReadAt(out, 0)
	if n < len(out) {
		return nil, fmt.Errorf("validation: %w", err)
	}
	return out, nil
}

// part is a piece of a source.
type part struct {
	of         Source
	from, size int64
}

func (p part) Size() int64 { return p.size }

// ReadAt is that of io.ReaderAt.
func (p part) ReadAt(b []byte, off int64) (int, error) {
	return io.NewSectionReader(p.of, p.from, p.size).ReadAt(b, off)
}

// headOf gives what tells the kind of a file.
func headOf(src Source) ([]byte, error) {
	out := make([]byte, min(src.Size(), 1024))
	n, err := src.ReadAt(out, 0)
	if n < len(out) {
		return nil, fmt.Errorf("validation: %w", err)
	}
	return out, nil
}

// mentions says whether a text is somewhere in a file.
func mentions(src Source, text string) bool {
	buf := make([]byte, 64<<10)
	for at := int64(0); at < src.Size(); at += int64(len(buf) - len(text)) {
		n, err := src.ReadAt(buf, at)
		if bytes.Contains(buf[:n], []byte(text)) {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}

// watched is a source whose errors end the judgement: what cannot be read says nothing of a
// signature. It also stops reading when nobody waits for the report any more.
type watched struct {
	Source
	j *judge
}

func (j *judge) watch(src Source) Source {
	if m, ok := src.(memory); ok {
		return m
	}
	return watched{src, j}
}

// ReadAt is that of io.ReaderAt.
func (w watched) ReadAt(b []byte, off int64) (int, error) {
	if err := w.j.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.Source.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) && w.j.unread == nil {
		w.j.unread = err
	}
	return n, err
}

// errTooLarge: it may be whole, and is not looked at.
var errTooLarge = errors.New("too large to be held")

// envelope reads one SignedData, in pieces where that can be done and is worth it.
func (j *judge) envelope(src Source) (*cms.SignedData, error) {
	if _, ok := src.(memory); !ok {
		head, err := headOf(src)
		if err != nil {
			return nil, err
		}
		if len(head) > 0 && head[0] == 0x30 {
			return cms.ParseStream(src, cms.Limits{})
		}
		if src.Size() > j.o.InMemory {
			return nil, fmt.Errorf("%w: it has %d bytes, and a file in Base64 or PEM is judged up to %d: decode it first", errTooLarge, src.Size(), j.o.InMemory)
		}
	}
	raw, err := held(src)
	if err != nil {
		return nil, err
	}
	return cms.Parse(raw)
}

// bodyOf is the content of an envelope; memory stays memory.
func bodyOf(sd *cms.SignedData) Source {
	if sd.Detached {
		return nil
	}
	if c := sd.Content(); c != nil {
		return inMemory(c)
	}
	return sd.Body()
}

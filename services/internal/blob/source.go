package blob

import (
	"context"
	"io"
	"time"
)

// staleAfter is the age at which a half-written file is nobody's any more.
const staleAfter = time.Hour

// source remembers the error of the caller's reader, so that it can be told
// from an error of the store, and stops when the context ends.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

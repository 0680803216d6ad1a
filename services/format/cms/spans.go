package cms

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// spans is a content that lies in pieces in a file. Pieces of one size at one distance, as programs
// that stream write them, are one run, so that a long file costs as little as a short one.
type spans struct {
	src  io.ReaderAt
	size int64
	runs []run
}

type run struct {
	at     int64 // in the content
	off    int64 // in the file, of the first piece
	size   int64 // of each piece
	stride int64 // from one piece to the next
	count  int64
}

func (r run) end() int64 { return r.at + r.size*r.count }

// Size is the length of the content.
func (s *spans) Size() int64 { return s.size }

// add notes one more piece of the file.
func (s *spans) add(off, size int64, limit int) error {
	if size == 0 {
		return nil
	}
	if n := len(s.runs); n > 0 {
		last := &s.runs[n-1]
		switch next := last.off + last.stride*last.count; {
		case last.size != size:
		case last.count == 1:
			last.stride, last.count = off-last.off, 2
			s.size += size
			return nil
		case off == next:
			last.count++
			s.size += size
			return nil
		}
	}
	if len(s.runs) >= limit {
		return fmt.Errorf("the content is in more than %d uneven pieces", limit)
	}
	s.runs = append(s.runs, run{at: s.size, off: off, size: size, count: 1})
	s.size += size
	return nil
}

// scratch holds the blocks of a file of which pieces are picked.
var scratch = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// ReadAt is that of io.ReaderAt, over the content.
func (s *spans) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("cms: negative offset")
	}
	i, _ := slices.BinarySearchFunc(s.runs, off, func(r run, off int64) int {
		if r.end() <= off {
			return -1
		}
		return 1
	})
	done := 0
	for ; i < len(s.runs) && done < len(p); i++ {
		n, err := s.runs[i].read(s.src, p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// read fills p with what of the run is from off on.
func (r run) read(src io.ReaderAt, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		in := off + int64(done) - r.at
		k, skip := in/r.size, in%r.size
		if k >= r.count {
			break
		}
		from := r.off + r.stride*k + skip
		if r.count == 1 || r.stride > 16<<10 {
			n, err := full(src, p[done:min(int64(len(p)), int64(done)+r.size-skip)], from)
			if done += n; err != nil {
				return done, err
			}
			continue
		}
		n, err := r.pick(src, p[done:], k, skip)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// pick reads one block of the file and takes the pieces out of it, the first from skip on.
func (r run) pick(src io.ReaderAt, p []byte, k, skip int64) (int, error) {
	block, ok := scratch.Get().(*[]byte)
	if !ok {
		return 0, errors.New("cms: no memory")
	}
	defer scratch.Put(block)
	pieces := min(r.count-k, int64(len(*block))/r.stride, (int64(len(p))+skip)/r.size+1)
	buf := (*block)[:(pieces-1)*r.stride+r.size]
	if _, err := full(src, buf, r.off+r.stride*k); err != nil {
		return 0, err
	}
	done := 0
	for i := range pieces {
		done += copy(p[done:], buf[i*r.stride+skip:i*r.stride+r.size])
		skip = 0
	}
	return done, nil
}

// full reads all of p, or says that the file ended early: it was longer when it was looked at.
func full(src io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("cms: read byte %d: %w", off+int64(n), err)
}

// Body is the content wherever it is, nil when the file holds none. It can be read for as long as the
// file can.
func (sd *SignedData) Body() Source {
	switch {
	case sd.Detached:
		return nil
	case sd.body != nil:
		return sd.body
	}
	return bytes.NewReader(sd.content)
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// Copy copies src to w in pieces of a size that suits hashing and files.
//
// The method WriteTo of readers in memory would hand over everything at once, which throws the cache
// away between two hashes of the same bytes: it is not used.
func Copy(w io.Writer, src io.Reader) (int64, error) {
	buf, ok := copyBuffers.Get().(*[]byte)
	if !ok {
		return 0, errors.New("cms: no memory")
	}
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{src}, *buf)
}

// reader reads a source from its start.
func reader(src Source) io.Reader { return io.NewSectionReader(src, 0, src.Size()) }

// overlapped hashes src. What is longer than one buffer is hashed while it is being read, on a second processor if
// there is one. also, when given, sees every byte too. Both are hashes: they do not fail.
func overlapped(hash io.Writer, src io.Reader, also io.Writer) (int64, error) {
	first, ok := copyBuffers.Get().(*[]byte)
	if !ok {
		return 0, errors.New("cms: no memory")
	}
	defer copyBuffers.Put(first)
	n, err := io.ReadFull(src, *first)
	if also != nil {
		_, _ = also.Write((*first)[:n])
	}
	if err == nil {
		var more int64
		more, err = overlapping(hash, src, also, *first)
		return int64(n) + more, err
	}
	_, _ = hash.Write((*first)[:n])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return int64(n), err
}

// overlapping goes on behind a first buffer, which only hash has not seen yet.
func overlapping(hash io.Writer, src io.Reader, also io.Writer, first []byte) (int64, error) {
	second, ok := copyBuffers.Get().(*[]byte)
	if !ok {
		return 0, errors.New("cms: no memory")
	}
	defer copyBuffers.Put(second)
	free := make(chan []byte, 2)
	free <- *second
	filled, done := make(chan []byte, 2), make(chan struct{})
	filled <- first
	go func() {
		defer close(done)
		for b := range filled {
			_, _ = hash.Write(b)
			free <- b[:cap(b)]
		}
	}()
	total := int64(0)
	var err error
	for err == nil {
		b, n := <-free, 0
		n, err = io.ReadFull(src, b)
		total += int64(n)
		filled <- b[:n]
		if also != nil {
			_, _ = also.Write(b[:n])
		}
	}
	close(filled)
	<-done
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return total, err
}

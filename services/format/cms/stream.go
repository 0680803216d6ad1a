package cms

import (
	"errors"
	"fmt"
	"io"
)

// Source is a file or a content of which parts are read where they are.
// *bytes.Reader, *strings.Reader and *io.SectionReader are Sources.
type Source interface {
	io.ReaderAt
	Size() int64
}

// maxAround bounds what of a streamed file is held in memory: all but its content.
const maxAround = 16 << 20

// copyBuffer is the size of the pieces in which contents are hashed and copied. SHA-256 runs as fast
// with smaller ones; this is about the system calls.
const copyBuffer = 256 << 10

// maxRuns bounds how uneven the chunks of a content may be; even ones are one run however many.
const maxRuns = 1 << 16

// ParseStream reads a SignedData in DER or BER whose content stays where it is, in one piece or in
// chunks: memory does not grow with it. Content is nil then, and Body gives the content. Base64 and
// PEM are not read. Limits.Size bounds the whole file, without bound when zero; what is around the
// content may have 16 MiB. Errors: as of Parse, and those of src as they are.
func ParseStream(src Source, lim Limits) (*SignedData, error) {
	size := src.Size()
	if lim.Size > 0 && size > int64(lim.Size) {
		return nil, &SyntaxError{0, fmt.Sprintf("file has %d bytes, the limit is %d", size, lim.Size)}
	}
	lim.Size = maxAround + 1024
	w := &walker{src: src, size: size, lim: lim.orDefaults()}
	shell, err := w.shell()
	if err != nil {
		return nil, err
	}
	t, err := scan(shell, lim)
	if err != nil {
		return nil, w.moved(err)
	}
	sd := &SignedData{Armour: ArmourNone, BER: t.ber || w.ber, Trailing: int(w.size - w.pos)}
	if err := sd.read(t); err != nil {
		return nil, w.moved(err)
	}
	if !sd.Detached {
		sd.content, sd.body = nil, &w.content
	}
	return sd, nil
}

// walker goes down to the content and past it, reading headers only.
type walker struct {
	src  io.ReaderAt
	size int64
	pos  int64
	lim  Limits
	ber  bool

	window   []byte // bytes of the file from windowAt
	windowAt int64
	around   int // bytes held so far
	elements int

	content spans
	tail    int64 // in the file, first byte after the content
	shift   int   // in the shell, the same place
}

// frame is an element that was entered.
type frame struct {
	end   int64 // of its contents; for an indefinite one the end of what is around it
	indef bool
}

func (w *walker) bad(format string, args ...any) error {
	return &SyntaxError{int(w.pos), fmt.Sprintf(format, args...)}
}

// moved turns an offset in the shell into one of the file.
func (w *walker) moved(err error) error {
	var s *SyntaxError
	if errors.As(err, &s) && w.shift > 0 && s.Offset >= w.shift {
		return &SyntaxError{s.Offset - w.shift + int(w.tail), s.Reason}
	}
	return err
}

// peek gives up to n bytes at the position, fewer at the end of the file.
func (w *walker) peek(n int) ([]byte, error) {
	if w.pos < w.windowAt || w.pos+int64(n) > w.windowAt+int64(len(w.window)) {
		if cap(w.window) == 0 {
			w.window = make([]byte, 0, 64<<10)
		}
		buf := w.window[:min(int64(cap(w.window)), max(w.size-w.pos, 0))]
		got, err := w.src.ReadAt(buf, w.pos)
		if err != nil && (!errors.Is(err, io.EOF) || got < len(buf)) {
			return nil, fmt.Errorf("cms: read byte %d: %w", w.pos, err)
		}
		w.window, w.windowAt = buf[:got], w.pos
	}
	have := w.window[w.pos-w.windowAt:]
	return have[:min(n, len(have))], nil
}

// header reads an identifier and a length at the position and goes past them.
func (w *walker) header(bound int64) (id byte, f frame, err error) {
	if w.elements++; w.elements > 1<<28 {
		return 0, f, w.bad("more than %d elements", 1<<28)
	}
	b, err := w.peek(16)
	if err != nil {
		return 0, f, err
	}
	b = b[:min(int64(len(b)), max(bound-w.pos, 0))]
	if len(b) < 2 {
		return 0, f, w.bad("an element is missing: the file is cut off")
	}
	at := 1
	if b[0]&0x1f == 0x1f {
		for more := true; more; at++ {
			if at >= len(b) || at > 5 {
				return 0, f, w.bad("tag number is cut off or too long")
			}
			more = b[at]&0x80 != 0
		}
	}
	length, octets, indef, err := longLength(b, at)
	if err != nil {
		return 0, f, w.bad("%v", err)
	}
	if indef {
		w.ber = true
		if b[0]&bitConstructed == 0 {
			return 0, f, w.bad("a primitive element has no length")
		}
		w.pos += int64(at + 1)
		return b[0], frame{bound, true}, nil
	}
	begin := w.pos + int64(at+octets)
	if length > bound-begin {
		return 0, f, w.bad("element of %d bytes, but only %d are left: the file is cut off", length, max(bound-begin, 0))
	}
	if headerSize(length) != int64(1+octets) {
		w.ber = true
	}
	w.pos = begin
	return b[0], frame{begin + length, false}, nil
}

var errLength = errors.New("a length is cut off or beyond the limit")

// longLength reads a length of up to 62 bits at b[at:]; octets is how many bytes it takes.
func longLength(b []byte, at int) (length int64, octets int, indef bool, err error) {
	if at >= len(b) {
		return 0, 0, false, errLength
	}
	first := b[at]
	if first < 0x80 {
		return int64(first), 1, false, nil
	}
	n := int(first & 0x7f)
	if n == 0 {
		return 0, 1, true, nil
	}
	if n > len(b)-at-1 {
		return 0, 0, false, errLength
	}
	for _, c := range b[at+1 : at+1+n] {
		if length >= 1<<54 {
			return 0, 0, false, errLength
		}
		length = length<<8 | int64(c)
	}
	return length, 1 + n, false, nil
}

// enter goes into an element of one of the tags.
func (w *walker) enter(what string, bound int64, tag byte) (frame, error) {
	at := w.pos
	id, f, err := w.header(bound)
	if err != nil {
		return f, err
	}
	if id != tag {
		w.pos = at
		return f, w.bad("%s is expected, tag is %#02x", what, id)
	}
	return f, nil
}

// over says whether an element that was entered has nothing more.
func (w *walker) over(f frame) (bool, error) {
	if !f.indef {
		return w.pos == f.end, nil
	}
	b, err := w.peek(2)
	if err != nil {
		return false, err
	}
	if w.pos+2 > f.end || len(b) < 2 {
		return false, w.bad("an element is not closed: the file is cut off")
	}
	return b[0] == 0 && b[1] == 0, nil
}

// leave closes an element.
func (w *walker) leave(what string, f frame) error {
	over, err := w.over(f)
	if err != nil {
		return err
	}
	if !over {
		return w.bad("%s has more members than are expected", what)
	}
	if f.indef {
		w.pos += 2
	}
	return nil
}

// whole reads one element with all that is in it.
func (w *walker) whole(bound int64) ([]byte, error) {
	from := w.pos
	if err := w.skip(bound); err != nil {
		return nil, err
	}
	n := w.pos - from
	if n > maxAround || w.around+int(n) > maxAround {
		return nil, w.bad("more than %d bytes around the content", maxAround)
	}
	w.around += int(n)
	out := make([]byte, n)
	if got, err := w.src.ReadAt(out, from); got < len(out) {
		return nil, fmt.Errorf("cms: read byte %d: %w", from, err)
	}
	return out, nil
}

// skip goes past one element. Only indefinite ones have to be looked into.
func (w *walker) skip(bound int64) error {
	var open []frame
	for {
		if len(open) > 0 {
			over, err := w.over(open[len(open)-1])
			if err != nil {
				return err
			}
			if over {
				w.pos += 2
				if open = open[:len(open)-1]; len(open) == 0 {
					return nil
				}
				continue
			}
			bound = open[len(open)-1].end
		}
		_, f, err := w.header(bound)
		if err != nil {
			return err
		}
		if f.indef {
			if open = append(open, f); len(open) > w.lim.Depth {
				return w.bad("elements are nested deeper than %d", w.lim.Depth)
			}
			continue
		}
		if w.pos = f.end; len(open) == 0 {
			return nil
		}
	}
}

// shell gives the file in memory with an empty content in place of its own. What is known to hold the
// content is written anew; all else is as it stands in the file. spec: RFC5652 §3, §5.1, §5.2
func (w *walker) shell() ([]byte, error) {
	info, err := w.enter("a ContentInfo (SEQUENCE)", w.size, tagSequence)
	if err != nil {
		return nil, err
	}
	oid, err := w.whole(info.end)
	if err != nil {
		return nil, err
	}
	if string(oid) != string(derOIDSignedData) {
		return nil, w.bad("content type is not SignedData")
	}
	explicit, err := w.enter("the SignedData of the ContentInfo", info.end, tagContext0)
	if err != nil {
		return nil, err
	}
	signed, err := w.enter("a SignedData (SEQUENCE)", explicit.end, tagSequence)
	if err != nil {
		return nil, err
	}
	version, err := w.whole(signed.end)
	if err != nil {
		return nil, err
	}
	digests, err := w.whole(signed.end)
	if err != nil {
		return nil, err
	}
	encap, err := w.encap(signed.end)
	if err != nil {
		return nil, err
	}
	w.tail = w.pos
	parts := [][]byte{version, digests, encap}
	for {
		over, err := w.over(signed)
		if err != nil {
			return nil, err
		}
		if over {
			break
		}
		part, err := w.whole(signed.end)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	for _, f := range []frame{signed, explicit, info} {
		if err := w.leave("SignedData", f); err != nil {
			return nil, err
		}
	}
	inner := tlv(tagSequence, parts...)
	out := tlv(tagSequence, oid, tlv(tagContext0, inner))
	w.shift = len(out) - len(inner) + int(headerSize(int64(len(inner)))) + len(version) + len(digests) + len(encap)
	return out, nil
}

// encap walks the encapContentInfo and notes where the content is.
func (w *walker) encap(bound int64) ([]byte, error) {
	f, err := w.enter("encapContentInfo", bound, tagSequence)
	if err != nil {
		return nil, err
	}
	ctype, err := w.whole(f.end)
	if err != nil {
		return nil, err
	}
	over, err := w.over(f)
	if err != nil {
		return nil, err
	}
	if over {
		return tlv(tagSequence, ctype), w.leave("encapContentInfo", f)
	}
	explicit, err := w.enter("the content of encapContentInfo", f.end, tagContext0)
	if err != nil {
		return nil, err
	}
	w.content.src = w.src
	if err := w.octets(explicit.end); err != nil {
		return nil, err
	}
	for _, f := range []frame{explicit, f} {
		if err := w.leave("encapContentInfo", f); err != nil {
			return nil, err
		}
	}
	return tlv(tagSequence, ctype, tlv(tagContext0, []byte{tagOctets, 0})), nil
}

// through goes past an element that was entered, and through all that is in it: what Parse refuses is refused here too.
func (w *walker) through(f frame) error {
	open := []frame{f}
	for len(open) > 0 {
		top := open[len(open)-1]
		over, err := w.over(top)
		if err != nil {
			return err
		}
		if over {
			if top.indef {
				w.pos += 2
			}
			open = open[:len(open)-1]
			continue
		}
		id, f, err := w.header(top.end)
		switch {
		case err != nil:
			return err
		case id&bitConstructed == 0:
			w.pos = f.end
		case len(open) >= w.lim.Depth:
			return w.bad("elements are nested deeper than %d", w.lim.Depth)
		default:
			open = append(open, f)
		}
	}
	return nil
}

// octets notes the pieces of an octet string, chunked or not. spec: X690 §8.7
func (w *walker) octets(bound int64) error {
	var open []frame
	for {
		for len(open) > 0 {
			over, err := w.over(open[len(open)-1])
			if err != nil {
				return err
			}
			if !over {
				break
			}
			if open[len(open)-1].indef {
				w.pos += 2
			}
			if open = open[:len(open)-1]; len(open) == 0 {
				return nil
			}
		}
		if len(open) > 0 {
			bound = open[len(open)-1].end
		}
		at := w.pos
		id, f, err := w.header(bound)
		if err != nil {
			return err
		}
		switch {
		case id == tagOctets, id == tagSequence && len(open) == 0 && !f.indef: // the latter: PKCS#7 1.5, as in readContent
			if err := w.content.add(w.pos, f.end-w.pos, maxRuns); err != nil {
				w.pos = at
				return w.bad("%v", err)
			}
			if id == tagSequence {
				return w.through(f)
			}
			if w.pos = f.end; len(open) == 0 {
				return nil
			}
		case id == tagOctets|bitConstructed:
			w.ber = true
			if open = append(open, f); len(open) > w.lim.Depth {
				return w.bad("elements are nested deeper than %d", w.lim.Depth)
			}
		default:
			w.pos = at
			return w.bad("tag %#02x where the content, an OCTET STRING, is expected", id)
		}
	}
}

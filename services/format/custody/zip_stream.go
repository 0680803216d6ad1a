package custody

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Signatures of the parts of a ZIP, and how long they are at least. spec: APPNOTE 6.3.10 §4.3
const (
	zipLocal, zipLocalSize     = "PK\x03\x04", 30
	zipDescriptor              = "PK\x07\x08"
	zipCentral, zipCentralSize = "PK\x01\x02", 46
	zip64End, zip64Fixed       = "PK\x06\x06", 12
	zip64Locator, zip64At      = "PK\x06\x07", 20
	zipEnd, zipEndSize         = "PK\x05\x06", 22
)

// describedLater is the flag of an entry whose sizes stand behind it.
const describedLater = 0x8

// Extra fields that tell something else than the header: its sizes, and its name as some programs prefer it.
const (
	extraZip64       = 0x0001
	extraUnicodeName = 0x7075
)

// errTail: what is written behind the entries is not their directory and its end.
var errTail = errors.New("there are bytes in it that belong to no entry")

// AsStream says why a program that reads a ZIP from its beginning, entry by entry, finds other files than one that begins with the directory
// at its end, as we do: entries follow each other without a gap, each with the name, method, digest and sizes that the directory gives it,
// and after them come the directory and its end alone.
func AsStream(raw []byte, files []*zip.File) error {
	starts := make(map[int64]*zip.File, len(files))
	for _, f := range files {
		at, err := f.DataOffset()
		if err != nil {
			return fmt.Errorf("%.200q: %w", f.Name, err)
		}
		starts[at] = f
	}
	rest, n := raw, 0
	for ; bytes.HasPrefix(rest, []byte(zipLocal)); n++ {
		if len(rest) < zipLocalSize || n == len(files) {
			return errTail
		}
		named, more := int(binary.LittleEndian.Uint16(rest[26:])), int(binary.LittleEndian.Uint16(rest[28:]))
		begin := zipLocalSize + named + more
		f := starts[int64(len(raw)-len(rest)+begin)]
		if f == nil || f.CompressedSize64 > uint64(len(rest)-begin) {
			return errTail
		}
		header, data := rest[:begin], rest[begin:begin+int(f.CompressedSize64)] //nolint:gosec // not above the length of what there is
		if string(header[zipLocalSize:zipLocalSize+named]) != f.Name {
			return fmt.Errorf("%.200q is called %.200q where it begins", f.Name, header[zipLocalSize:zipLocalSize+named])
		}
		rest = rest[begin+len(data):]
		described, err := sameHeader(header, header[zipLocalSize+named:], f, rest)
		if err == nil {
			err = endsWhole(data, f)
		}
		if err != nil {
			return fmt.Errorf("%.200q: %w", f.Name, err)
		}
		rest = rest[described:]
	}
	if n < len(files) && bytes.HasPrefix(rest, []byte(zipCentral)) {
		return errors.New("its directory names more entries than there are")
	}
	return directoryAlone(rest, files) // which it is not where an entry was not reached
}

// sameHeader compares the header that stands before an entry with the directory, and gives how long what describes the entry behind it is.
func sameHeader(header, extra []byte, f *zip.File, behind []byte) (described int, err error) {
	flags, method := binary.LittleEndian.Uint16(header[6:]), binary.LittleEndian.Uint16(header[8:])
	sum := binary.LittleEndian.Uint32(header[14:])
	packed, size := uint64(binary.LittleEndian.Uint32(header[18:])), uint64(binary.LittleEndian.Uint32(header[22:]))
	if method != f.Method || flags != f.Flags {
		return 0, errors.New("it is packed in another way than the directory says")
	}
	for _, e := range [][]byte{extra, f.Extra} {
		if _, has := extraField(e, extraUnicodeName); has {
			return 0, errors.New("it has a second name")
		}
	}
	const inExtra = 1<<32 - 1
	if long, has := extraField(extra, extraZip64); has && packed == inExtra && size == inExtra && len(long) >= 16 {
		size, packed = binary.LittleEndian.Uint64(long), binary.LittleEndian.Uint64(long[8:])
	}
	if flags&describedLater != 0 {
		unsaid := func(v, want uint64) bool { return v == 0 || v == inExtra || v == want }
		if !unsaid(packed, f.CompressedSize64) || !unsaid(size, f.UncompressedSize64) || sum != 0 && sum != f.CRC32 {
			return 0, errors.New("its digest or sizes are others than the directory says")
		}
		return descriptor(behind, f)
	}
	if packed != f.CompressedSize64 || size != f.UncompressedSize64 || sum != f.CRC32 {
		return 0, errors.New("its digest or sizes are others than the directory says")
	}
	return 0, nil
}

// descriptor gives the length of the digest and sizes behind an entry, which come in four forms.
func descriptor(behind []byte, f *zip.File) (int, error) {
	for _, mark := range []string{zipDescriptor, ""} {
		short := binary.LittleEndian.AppendUint32([]byte(mark), f.CRC32)
		long := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(bytes.Clone(short), f.CompressedSize64), f.UncompressedSize64)
		short = binary.LittleEndian.AppendUint32(short, uint32(f.CompressedSize64))   //nolint:gosec // what is longer has the other form
		short = binary.LittleEndian.AppendUint32(short, uint32(f.UncompressedSize64)) //nolint:gosec // see above
		for _, form := range [][]byte{long, short} {
			if after, ok := bytes.CutPrefix(behind, form); ok && bytes.HasPrefix(after, []byte("PK")) {
				return len(form), nil
			}
		}
	}
	return 0, errors.New("behind it stand other digests or sizes than the directory gives")
}

// endsWhole says that what is compressed fills its place: who reads a stream goes on where that ends.
func endsWhole(data []byte, f *zip.File) error {
	if f.Method != zip.Deflate || f.UncompressedSize64 > maxFile { // what is larger is read by nobody
		return nil
	}
	left := bytes.NewReader(data)
	unpacked := flate.NewReader(left)
	defer unpacked.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(unpacked, int64(f.UncompressedSize64)+1)) //nolint:gosec // compared above
	switch {
	case err != nil:
		return fmt.Errorf("it cannot be unpacked: %w", err)
	case uint64(n) != f.UncompressedSize64: //nolint:gosec // a count
		return errors.New("it unpacks to another size than the directory says")
	case left.Len() > 0:
		return errTail
	}
	return nil
}

// directoryAlone wants the directory, its end, and nothing else.
func directoryAlone(rest []byte, files []*zip.File) error {
	for _, f := range files {
		if len(rest) < zipCentralSize || !bytes.HasPrefix(rest, []byte(zipCentral)) {
			return errTail
		}
		named := int(binary.LittleEndian.Uint16(rest[28:]))
		length := zipCentralSize + named + int(binary.LittleEndian.Uint16(rest[30:])) + int(binary.LittleEndian.Uint16(rest[32:]))
		if len(rest) < length || string(rest[zipCentralSize:zipCentralSize+named]) != f.Name {
			return errTail
		}
		rest = rest[length:]
	}
	if bytes.HasPrefix(rest, []byte(zip64End)) && len(rest) >= zip64Fixed {
		length := binary.LittleEndian.Uint64(rest[4:])
		if length > uint64(len(rest)-zip64Fixed) {
			return errTail
		}
		rest = rest[zip64Fixed+int(length):] //nolint:gosec // not above the length of what there is
		if len(rest) < zip64At || !bytes.HasPrefix(rest, []byte(zip64Locator)) {
			return errTail
		}
		rest = rest[zip64At:]
	}
	if len(rest) < zipEndSize || !bytes.HasPrefix(rest, []byte(zipEnd)) || len(rest) != zipEndSize+int(binary.LittleEndian.Uint16(rest[20:])) ||
		bytes.Contains(rest[zipEndSize:], []byte(zipEnd)) {
		return errTail
	}
	return nil
}

// extraField looks for an extra field of a header.
func extraField(extra []byte, id uint16) ([]byte, bool) {
	for len(extra) >= 4 {
		length := int(binary.LittleEndian.Uint16(extra[2:]))
		if length > len(extra)-4 {
			return nil, false
		}
		if binary.LittleEndian.Uint16(extra) == id {
			return extra[4 : 4+length], true
		}
		extra = extra[4+length:]
	}
	return nil, false
}

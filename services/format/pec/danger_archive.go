package pec

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// mostOfArchive bounds how much of an archive is looked through: its list of files comes last.
const mostOfArchive = 256 << 20

var (
	zipBegins   = []byte("PK\x03\x04")
	zipListed   = []byte("PK\x01\x02")
	rar4Begins  = []byte("Rar!\x1a\x07\x00")
	rar5Begins  = []byte("Rar!\x1a\x07\x01\x00")
	sevenBegins = []byte("7z\xbc\xaf\x27\x1c")
	sevenAES    = []byte{0x06, 0xf1, 0x07, 0x01} // the codec's number in the list of a 7z archive
)

const locked = "an archive with a password, which no scanner looks into"

// DangerInside says why an archive should not be opened without thought: something in it has a password, or is a
// program by its name. head are the first bytes; r gives the whole file, and is read for archives only. "" when nothing
// is known against it. It is no virus scanner.
func DangerInside(head []byte, r io.Reader) string {
	switch {
	case bytes.HasPrefix(head, zipBegins):
		return dangerInZip(bufio.NewReaderSize(io.LimitReader(r, mostOfArchive), 1<<17))
	case bytes.HasPrefix(head, rar4Begins) && len(head) >= 25:
		// the archive's header, then the first file's
		if binary.LittleEndian.Uint16(head[10:])&0x80 != 0 || head[22] == 0x74 && binary.LittleEndian.Uint16(head[23:])&0x04 != 0 {
			return locked
		}
	case bytes.HasPrefix(head, rar5Begins):
		if rar5Locked(head[len(rar5Begins):]) {
			return locked
		}
	case bytes.HasPrefix(head, sevenBegins):
		whole, _ := io.ReadAll(io.LimitReader(r, mostOfArchive/8))
		if bytes.Contains(whole[max(0, len(whole)-4096):], sevenAES) {
			return locked
		}
	}
	return ""
}

// rar5Locked: the first header of an archive whose list is encrypted is of type 4.
func rar5Locked(b []byte) bool {
	if len(b) < 6 {
		return false
	}
	b = b[4:] // a checksum
	_, n := binary.Uvarint(b)
	if n <= 0 {
		return false
	}
	kind, m := binary.Uvarint(b[n:])
	return m > 0 && kind == 4
}

const listEntry = 46 // bytes of an entry before its name

// dangerInZip reads the list of files, which is at the end. The first entry's own header may tell already.
func dangerInZip(r *bufio.Reader) string {
	if head, _ := r.Peek(8); encryptedZip(head) {
		return locked
	}
	for {
		b, err := r.Peek(1 << 16)
		i := bytes.Index(b, zipListed)
		if i < 0 {
			if err != nil {
				return ""
			}
			i = len(b) - len(zipListed) + 1
			_, _ = r.Discard(i)
			continue
		}
		_, _ = r.Discard(i)
		h, err := r.Peek(listEntry)
		if err != nil {
			return ""
		}
		flags, name := binary.LittleEndian.Uint16(h[8:]), int(binary.LittleEndian.Uint16(h[28:]))
		if h[7] != 0 || flags&^0x2fff != 0 || name == 0 { // bytes of a file that look like an entry
			_, _ = r.Discard(len(zipListed))
			continue
		}
		if flags&1 != 0 {
			return locked
		}
		whole, err := r.Peek(listEntry + name)
		if err != nil {
			return ""
		}
		if why := Danger(string(whole[listEntry:]), nil); why != "" {
			return fmt.Sprintf("an archive; in it %s, %s", SafeName(string(whole[listEntry:])), why)
		}
		_, _ = r.Discard(listEntry + name)
	}
}

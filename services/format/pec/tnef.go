package pec

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// TNEFFile is a file inside a winmail.dat.
type TNEFFile struct {
	Name string // safe
	Data []byte
}

// ErrTNEF: the part is no winmail.dat, or a broken one.
var ErrTNEF = errors.New("pec: this is no winmail.dat that can be read")

const (
	tnefSignature = 0x223E9F78
	tnefTitle     = 0x00018010
	tnefData      = 0x0006800F
	tnefRendering = 0x00069002
	tnefMaxFiles  = 1000
)

// IsTNEF says whether the part claims to be a winmail.dat.
func (p *Part) IsTNEF() bool {
	return p.MediaType == "application/ms-tnef" || p.MediaType == "application/vnd.ms-tnef"
}

// ReadTNEF gives the files in a winmail.dat, in which Outlook hides attachments. Properties,
// text and nested messages in it are left alone. Files up to the first broken attribute are
// given with ErrTNEF. spec: MS-OXTNEF §2.1.3
func ReadTNEF(raw []byte) ([]TNEFFile, error) {
	if len(raw) < 6 || binary.LittleEndian.Uint32(raw) != tnefSignature {
		return nil, ErrTNEF
	}
	var files []TNEFFile
	used := map[string]bool{}
	done := func() {
		for i := range files {
			files[i].Name = unique(SafeName(files[i].Name), used)
		}
	}
	defer done()
	for rest := raw[6:]; len(rest) > 0; {
		if len(rest) < 11 {
			return files, fmt.Errorf("%w: an attribute is cut off", ErrTNEF)
		}
		id, size := binary.LittleEndian.Uint32(rest[1:]), int64(binary.LittleEndian.Uint32(rest[5:]))
		if size > int64(len(rest)-11) {
			return files, fmt.Errorf("%w: an attribute is longer than the file", ErrTNEF)
		}
		value := rest[9 : 9+size]
		rest = rest[11+size:]
		switch {
		case id == tnefRendering:
			if len(files) >= tnefMaxFiles {
				return files, &LimitError{"the number of files in winmail.dat", tnefMaxFiles}
			}
			files = append(files, TNEFFile{})
		case len(files) == 0:
		case id == tnefTitle:
			files[len(files)-1].Name = DecodeText(string(trimZeros(value)))
		case id == tnefData:
			files[len(files)-1].Data = value
		}
	}
	return files, nil
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

package pades

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// signed is a signature dictionary as it stands in the file.
type signed struct {
	field     string
	r         ref // of the dictionary, zero when it stands in its field
	d         *dict
	kind      Kind
	subFilter name
	byteRange [4]int64
	contents  []byte
	off       int64  // of the Contents token, delimiters included
	rangeErr  string // why the byte range cannot be believed
}

// end is the first byte after the signed range.
func (s *signed) end() int64 { return s.byteRange[2] + s.byteRange[3] }

// signatures lists the signed signature fields, in the order of what they cover.
func (d *document) signatures() ([]*signed, error) {
	all, err := d.fields()
	if err != nil {
		return nil, err
	}
	var out []*signed
	seen := map[ref]bool{}
	for _, f := range all {
		if !f.signature() || f.value == nil {
			continue
		}
		s := &signed{field: f.full, kind: KindSignature}
		if r, ok := f.value.(ref); ok {
			if seen[r] {
				continue
			}
			seen[r] = true
			s.r = r
		}
		v, err := d.resolve(f.value)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		if len(out) >= d.lim.Signatures {
			return nil, beyond("the file has more than %d signatures", d.lim.Signatures)
		}
		if s.d, _ = v.(*dict); s.d == nil {
			s.rangeErr = "the value of the signature field is not a dictionary"
		} else if err := d.readSignature(s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b *signed) int { return cmp.Compare(a.end(), b.end()) })
	return out, nil
}

// readSignature: spec: ISO32000-1 §12.8.1 table 252; EN319142-1 §5.4.3
func (d *document) readSignature(s *signed) error {
	sub, err := d.resolve(s.d.get("SubFilter"))
	if err != nil {
		return err
	}
	s.subFilter, _ = sub.(name)
	if s.subFilter == "ETSI.RFC3161" {
		s.kind = KindTimestamp
	}
	br, err := d.array(s.d.get("ByteRange"))
	if err != nil {
		return err
	}
	contents, ok := s.d.get("Contents").(text)
	if ok {
		s.contents, s.off = contents.val, contents.off
	}
	switch {
	case len(s.d.repeated) > 0:
		s.rangeErr = fmt.Sprintf("the signature dictionary has the key %s more than once: readers differ on which counts", s.d.repeated[0])
	case !ok:
		s.rangeErr = "Contents is missing, or not a string in the signature dictionary itself"
	case contents.off < 0:
		s.rangeErr = "the signature dictionary is inside a compressed object stream"
	default:
		s.rangeErr = d.checkRange(s, br, contents)
	}
	return nil
}

// checkRange: everything but the value of Contents is signed, from the first byte of the file.
// spec: EN319142-1 §6.3 (ByteRange covers the whole revision but Contents)
func (d *document) checkRange(s *signed, br array, contents text) string {
	if len(br) != 4 {
		return fmt.Sprintf("ByteRange has %d members, 4 are expected", len(br))
	}
	for i := range br {
		v, ok := br[i].(int64)
		if !ok || v < 0 || v > d.size {
			return "ByteRange is not made of places in the file"
		}
		s.byteRange[i] = v
	}
	b := s.byteRange
	switch {
	case b[0] != 0:
		return fmt.Sprintf("the signed range begins at byte %d, not at the start of the file", b[0])
	case b[2] < b[1] || s.end() > d.size:
		return "ByteRange runs backwards or beyond the end of the file"
	case b[1] != contents.off || b[2] != contents.end:
		return fmt.Sprintf("the bytes from %d to %d are not signed, but the signature value stands from %d to %d", b[1], b[2], contents.off, contents.end)
	case !contents.hex || contents.end-contents.off-2 != 2*int64(len(contents.val)):
		return "the unsigned gap holds more than hexadecimal digits"
	}
	return ""
}

// padding cuts the zeros after the CMS; clean is false when there is something else.
func padding(contents []byte, trailing int) (clean bool) {
	return len(bytes.Trim(contents[len(contents)-trailing:], "\x00")) == 0
}

// derLength is the length of the element at the start, or all when that cannot be told.
func derLength(b []byte) int {
	if len(b) < 2 || b[1] == 0x80 {
		return len(b)
	}
	if b[1] < 0x80 {
		return min(len(b), 2+int(b[1]))
	}
	octets := int(b[1] & 0x7f)
	if octets > 4 || len(b) < 2+octets {
		return len(b)
	}
	n := 0
	for _, c := range b[2 : 2+octets] {
		n = n<<8 | int(c)
	}
	return min(len(b), 2+octets+n)
}

// parseDate reads what it can. spec: ISO32000-1 §7.9.4
func parseDate(s string) (time.Time, bool) {
	s = strings.TrimPrefix(s, "D:")
	digits := 0
	for digits < len(s) && digits < 14 && isDigit(s[digits]) {
		digits++
	}
	const whole = "20060102150405"
	if digits < 4 || digits%2 != 0 {
		return time.Time{}, false
	}
	const missing = "00000101000000"
	stamp := s[:digits] + missing[digits:]
	zone := strings.ReplaceAll(s[digits:], "'", "")
	loc := time.UTC
	if zone != "" && zone[0] != 'Z' {
		for len(zone) < 5 {
			zone += "0"
		}
		h, err := strconv.Atoi(zone[1:3])
		m, err2 := strconv.Atoi(zone[3:5])
		if err != nil || err2 != nil || h > 23 || m > 59 || (zone[0] != '+' && zone[0] != '-') {
			return time.Time{}, false
		}
		seconds := h*3600 + m*60
		if zone[0] == '-' {
			seconds = -seconds
		}
		loc = time.FixedZone("", seconds)
	}
	t, err := time.ParseInLocation(whole, stamp, loc)
	return t, err == nil
}

// dss counts the security store. spec: EN319142-1 §5.4.2
func (d *document) dss() (*DSS, error) {
	_, catalog, err := d.root()
	if err != nil {
		return nil, err
	}
	sd, err := d.dict(catalog.get("DSS"))
	if err != nil || sd == nil {
		return nil, err
	}
	out := &DSS{}
	for _, c := range []struct {
		key name
		n   *int
	}{{"Certs", &out.Certificates}, {"CRLs", &out.CRLs}, {"OCSPs", &out.OCSPs}} {
		a, err := d.array(sd.get(c.key))
		if err != nil {
			return nil, err
		}
		*c.n = len(a)
	}
	vri, err := d.dict(sd.get("VRI"))
	if err != nil {
		return nil, err
	}
	if vri != nil {
		out.VRI = len(vri.keys)
	}
	return out, nil
}

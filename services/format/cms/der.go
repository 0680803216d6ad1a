package cms

import (
	"bytes"
	"slices"
	"time"
)

const (
	tagInteger     = 0x02
	tagBitString   = 0x03
	tagOctets      = 0x04
	tagNull        = 0x05
	tagOID         = 0x06
	tagUTCTime     = 0x17
	tagGenTime     = 0x18
	tagSequence    = 0x30
	tagSet         = 0x31
	tagContext0    = 0xA0 // [0] constructed
	tagContext1    = 0xA1
	tagContext4    = 0xA4
	tagPrimitive0  = 0x80 // [0] primitive
	bitConstructed = 0x20
)

// headerSize is the number of bytes of a DER identifier and length for n bytes of contents.
func headerSize(n int64) int64 {
	size := int64(2)
	if n >= 0x80 {
		for ; n > 0; n >>= 8 {
			size++
		}
	}
	return size
}

// appendHeader appends a one-byte identifier and the shortest definite length.
// spec: X690 §10.1
func appendHeader(dst []byte, tag byte, n int64) []byte {
	dst = append(dst, tag)
	if n < 0x80 {
		return append(dst, byte(n))
	}
	octets := byte(headerSize(n) - 2)
	dst = append(dst, 0x80|octets)
	for shift := int(octets-1) * 8; shift >= 0; shift -= 8 {
		dst = append(dst, byte(n>>shift))
	}
	return dst
}

// tlv encodes the parts, one after the other, under one tag.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	dst := make([]byte, 0, int(headerSize(int64(n)))+n)
	dst = appendHeader(dst, tag, int64(n))
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

// setOf encodes a SET OF: the elements in ascending order of their encodings.
// spec: X690 §11.6
func setOf(tag byte, elements ...[]byte) []byte {
	slices.SortFunc(elements, bytes.Compare)
	return tlv(tag, elements...)
}

// encodeTime gives UTCTime up to 2049 and GeneralizedTime after, in UTC and whole seconds.
// spec: RFC5652 §11.3
func encodeTime(t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y >= 1950 && y < 2050 {
		return tlv(tagUTCTime, t.AppendFormat(make([]byte, 0, 13), "060102150405Z"))
	}
	return tlv(tagGenTime, t.AppendFormat(make([]byte, 0, 15), "20060102150405Z"))
}

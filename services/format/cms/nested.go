package cms

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

// MaxLayers is how many envelopes inside envelopes (".xml.p7m.p7m") are opened.
const MaxLayers = 8

// Looks says whether raw could be a SignedData in any armour, by its first bytes alone.
func Looks(raw []byte) bool {
	head := raw[:min(len(raw), 256)]
	if len(head) == 0 {
		return false
	}
	if head[0] != tagSequence {
		text := bytes.TrimSpace(bytes.TrimPrefix(head, utf8BOM))
		if bytes.HasPrefix(text, []byte("-----BEGIN ")) {
			// PKCS7 and CMS are the labels of the standard; programs write others, so what
			// comes after the label decides.
			_, text, _ = bytes.Cut(text, []byte{'\n'})
		}
		if len(text) == 0 || text[0] != 'M' {
			return false
		}
		text = base64Letters(text)
		bin, err := base64.RawStdEncoding.DecodeString(string(text[:len(text)&^3]))
		if err != nil {
			return false
		}
		head = bin
	}
	// identifier, length octets, then the identifier of SignedData
	at := 2
	if len(head) > 1 && head[1] > 0x80 {
		at += int(head[1] & 0x7f)
	}
	return len(head) > at && bytes.HasPrefix(head[at:], derOIDSignedData)
}

// Open takes off every envelope and gives the innermost content with the layers, outermost
// first. Nothing is verified. Errors: the first layer's when it does not parse; an inner layer
// that looks like a SignedData but is malformed is left as content.
func Open(raw []byte) (content []byte, layers []*SignedData, err error) {
	content = raw
	for len(layers) < MaxLayers {
		sd, err := Parse(content)
		if err != nil {
			if len(layers) == 0 {
				return nil, nil, err
			}
			return content, layers, nil
		}
		layers = append(layers, sd)
		if sd.Detached {
			return nil, layers, nil
		}
		content = sd.Content()
		if !Looks(content) {
			return content, layers, nil
		}
	}
	return nil, layers, fmt.Errorf("cms: more than %d envelopes inside each other", MaxLayers)
}

package pec

import (
	"bytes"
	"crypto/sha1" // the hash of the rules
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// hashSuffix ends the names of the files that stand for attachments. spec: RFC6109 §3.3.2.2
const hashSuffix = ".hash"

// replaced lists the parts that a brief receipt replaces: leaves and attached messages with a
// name. A signed original keeps its signature, and an opaque one comes back whole.
// spec: RFC6109 §3.3.2.2
func replaced(p *Part) []*Part {
	var out []*Part
	var walk func(q *Part)
	walk = func(q *Part) {
		switch {
		case q.IsMultipart():
			for _, c := range q.Parts {
				walk(c)
			}
		case q.MediaType == "application/pkcs7-signature", q.MediaType == "application/x-pkcs7-signature",
			q.MediaType == "application/pkcs7-mime", q.MediaType == "application/x-pkcs7-mime":
			if q.Parent != nil && q.Parent.IsMultipart() && q.Parent.MediaType != "multipart/signed" {
				out = append(out, q) // an attachment like any other: a signed invoice, say
			}
		case q.FileName() != "":
			out = append(out, q)
		}
	}
	walk(p)
	return out
}

// WriteBreve writes the message in p with each attachment replaced by a text file with its hash:
// SHA-1, in hex, over the body as it stands, still encoded. Everything else is copied.
// spec: RFC6109 §3.3.2.2
func WriteBreve(w io.Writer, p *Part) error {
	at := p.Start
	for _, q := range replaced(p) {
		if err := copyRange(w, p.m, at, q.Start); err != nil {
			return err
		}
		h := sha1.New() // the hash of the rules
		if _, err := io.Copy(h, q.Body()); err != nil {
			return fmt.Errorf("pec: hash attachment: %w", err)
		}
		var b bytes.Buffer
		name := SafeName(q.FileName()) + hashSuffix
		writeParamField(&b, "Content-Type", "text/plain", param{"charset", "us-ascii"}, param{"name", name})
		writeParamField(&b, "Content-Disposition", "attachment", param{"filename", name})
		b.WriteString("Content-Transfer-Encoding: 7bit\r\n\r\n")
		b.WriteString(hex.EncodeToString(h.Sum(nil)))
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
		at = q.End
	}
	return copyRange(w, p.m, at, p.End)
}

func copyRange(w io.Writer, m *Message, from, to int64) error {
	if _, err := io.Copy(w, io.NewSectionReader(m.src, from, to-from)); err != nil {
		return fmt.Errorf("pec: copy message: %w", err)
	}
	return nil
}

// BreveCheck is the comparison of one hash in a brief receipt with the attachment that we sent.
type BreveCheck struct {
	Name    string `json:"name"` // of the attachment
	Hash    string `json:"hash"` // in the receipt, lower-case hex
	Match   bool   `json:"match"`
	Variant string `json:"variant,omitempty"` // what was hashed: "encoded", "encoded-final-crlf", "encoded-lf", "encoded-64" and "encoded-76" (base64 in such lines), "decoded"
}

// BreveReport is what the hashes of a brief receipt prove about the message that we sent.
type BreveReport struct {
	Checks  []BreveCheck
	Missing []string // attachments sent, without a hash in the receipt
	Whole   bool     // nothing to compare: the original has no attachments, or came back whole
}

// Proven says whether every attachment is there with its hash.
func (r *BreveReport) Proven() bool {
	for _, c := range r.Checks {
		if !c.Match {
			return false
		}
	}
	return len(r.Missing) == 0
}

// CheckBreve compares the hashes in the original of a brief receipt with the message as we sent
// it. Providers differ in what exactly they hash, so the variants are tried and the one that
// matched is said. spec: RFC6109 §3.3.2.2
func CheckBreve(receipt, sent *Part) (*BreveReport, error) {
	rep := &BreveReport{}
	ours := replaced(sent)
	used := make([]bool, len(ours))
	var hashes []*Part
	receipt.Walk(func(q *Part) bool {
		if !q.IsMultipart() && strings.HasSuffix(strings.ToLower(q.FileName()), hashSuffix) {
			hashes = append(hashes, q)
		}
		return true
	})
	for _, q := range hashes {
		name := q.FileName()[:len(q.FileName())-len(hashSuffix)]
		text, err := q.Bytes(4 << 10)
		if err != nil {
			return nil, err
		}
		c := BreveCheck{Name: name, Hash: strings.ToLower(firstWord(string(text)))}
		for i, a := range ours {
			if used[i] || !sameFile(a.FileName(), name) {
				continue
			}
			variant, err := hashVariant(a, c.Hash)
			if err != nil {
				return nil, err
			}
			if variant != "" {
				c.Match, c.Variant, used[i] = true, variant, true
				break
			}
		}
		rep.Checks = append(rep.Checks, c)
	}
	for i, a := range ours {
		if !used[i] && len(hashes) > 0 {
			rep.Missing = append(rep.Missing, a.FileName())
		}
	}
	rep.Whole = len(hashes) == 0
	if rep.Whole && len(ours) > 0 && len(replaced(receipt)) < len(ours) {
		for _, a := range ours {
			rep.Missing = append(rep.Missing, a.FileName())
		}
		rep.Whole = false
	}
	return rep, nil
}

func firstWord(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return ""
	}
	return f[0]
}

func sameFile(a, b string) bool {
	return a == b || SafeName(a) == SafeName(b)
}

// hashVariant tries what providers hash until one matches.
func hashVariant(p *Part, want string) (string, error) {
	body, err := p.rawBody()
	if err != nil {
		return "", err
	}
	lf := bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	for _, v := range []struct {
		name string
		data []byte
	}{
		{"encoded", body}, {"encoded-final-crlf", append(bytes.Clone(body), '\r', '\n')}, {"encoded-lf", lf}, {"encoded-lf", append(bytes.Clone(lf), '\n')},
	} {
		if sha1Hex(v.data) == want {
			return v.name, nil
		}
	}
	for _, columns := range []int{64, 76} {
		again := rewrapped(p, body, columns)
		if again != nil && (sha1Hex(again) == want || sha1Hex(append(again, '\r', '\n')) == want) {
			return fmt.Sprintf("encoded-%d", columns), nil
		}
	}
	decoded, err := p.Bytes(0)
	if err != nil && !isLimit(err) {
		return "", err
	}
	if err == nil && sha1Hex(decoded) == want {
		return "decoded", nil
	}
	return "", nil
}

// rewrapped is a body of base64 in lines of another length, for a provider that encodes attachments anew; nil for every other.
func rewrapped(p *Part, body []byte, columns int) []byte {
	if !strings.EqualFold(strings.TrimSpace(p.Header.Get("Content-Transfer-Encoding")), "base64") {
		return nil
	}
	letters := bytes.Join(bytes.Fields(body), nil)
	out := make([]byte, 0, len(letters)+2*len(letters)/columns+2)
	for len(letters) > columns {
		out = append(append(out, letters[:columns]...), '\r', '\n')
		letters = letters[columns:]
	}
	return append(out, letters...)
}

func sha1Hex(b []byte) string {
	sum := sha1.Sum(b) // the hash of the rules
	return hex.EncodeToString(sum[:])
}

// rawBody is the encoded body in memory, under the limit of decoded parts with room for base64.
func (p *Part) rawBody() ([]byte, error) {
	size := p.End - p.BodyStart
	if limit := int64(p.m.lim.Decoded) * 3 / 2; size > limit {
		return nil, &LimitError{"an attachment to be hashed", limit}
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(p.Body(), b); err != nil {
		return nil, fmt.Errorf("pec: read part %d: %w", p.index, err)
	}
	return b, nil
}

package tlog

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"ceralacca.dev/services/format/tsp"
)

const (
	receiptHeader = "c2sp.org/tlog-proof@v1"
	maxReceipt    = 1 << 20
)

// Receipt proves offline that an entry is in the log: the content of a .tlog-proof file.
// spec: C2SP-proof §Format
type Receipt struct {
	Index      int64
	Proof      []Hash
	Checkpoint []byte // the signed note with its cosignatures, verbatim

	// Entry and Stamp travel in the line of extra data, which the format does not authenticate;
	// Verify does: the entry by the proof, the stamp by its signature. Both may be missing.
	Entry []byte // as it stands in the log
	Stamp []byte // RFC 3161 token over the checkpoint's text (without signatures)
}

// extra is what we put into the line of extra data.
type extra struct {
	Entry []byte `json:"entry,omitempty"`
	Stamp []byte `json:"tst,omitempty"`
}

// Marshal gives the text of the receipt. Errors: a checkpoint that is not a signed note.
func (r *Receipt) Marshal() ([]byte, error) {
	if _, _, err := sigLines(r.Checkpoint); err != nil {
		return nil, err
	}
	if r.Index < 0 || len(r.Proof) > maxProof {
		return nil, fmt.Errorf("tlog: receipt: index %d with %d hashes is no proof", r.Index, len(r.Proof))
	}
	var b bytes.Buffer
	b.WriteString(receiptHeader + "\n")
	if len(r.Entry)+len(r.Stamp) > 0 {
		j, err := json.Marshal(extra{r.Entry, r.Stamp})
		if err != nil {
			return nil, fmt.Errorf("tlog: receipt: %w", err)
		}
		b.WriteString("extra " + strict64.EncodeToString(j) + "\n")
	}
	fmt.Fprintf(&b, "index %d\n", r.Index)
	for _, h := range r.Proof {
		fmt.Fprintln(&b, h)
	}
	b.WriteByte('\n')
	b.Write(r.Checkpoint)
	if b.Len() > maxReceipt {
		return nil, fmt.Errorf("tlog: receipt of %d bytes, the limit is %d", b.Len(), maxReceipt)
	}
	return b.Bytes(), nil
}

// ParseReceipt reads a receipt; nothing is verified. Extra data of another make is an error.
func ParseReceipt(raw []byte) (*Receipt, error) {
	if len(raw) > maxReceipt {
		return nil, fmt.Errorf("tlog: receipt of %d bytes, the limit is %d", len(raw), maxReceipt)
	}
	head, checkpoint, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		return nil, errors.New("tlog: receipt: an empty line before the checkpoint is expected")
	}
	lines := strings.Split(string(head), "\n")
	if lines[0] != receiptHeader {
		return nil, fmt.Errorf("tlog: receipt, line 1: %s is expected", receiptHeader)
	}
	lines = lines[1:]
	r := &Receipt{Checkpoint: bytes.Clone(checkpoint)}
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		if err := r.parseExtra(lines[0][len("extra "):]); err != nil {
			return nil, fmt.Errorf("tlog: receipt, extra data: %w", err)
		}
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return nil, errors.New("tlog: receipt: a line index N is expected before the proof")
	}
	var err error
	if r.Index, err = parseSize(lines[0][len("index "):]); err != nil {
		return nil, fmt.Errorf("tlog: receipt: index: %w", err)
	}
	if r.Proof, err = parseProof(lines[1:]); err != nil {
		return nil, fmt.Errorf("tlog: receipt: %w", err)
	}
	if _, _, err := sigLines(checkpoint); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Receipt) parseExtra(b64 string) error {
	raw, err := decode64(b64, -1)
	if err != nil {
		return err
	}
	var x extra
	if err := json.Unmarshal(raw, &x); err != nil {
		return fmt.Errorf("it is not the JSON that we write there: %w", err)
	}
	again, err := json.Marshal(x)
	if err != nil || !bytes.Equal(again, raw) || len(x.Entry)+len(x.Stamp) == 0 {
		return errors.New("it is not the JSON that we write there")
	}
	r.Entry, r.Stamp = x.Entry, x.Stamp
	return nil
}

// Size is how many entries its checkpoint says that the log has; nothing is verified.
func (r *Receipt) Size() (int64, error) {
	text, _, err := sigLines(r.Checkpoint)
	if err != nil {
		return 0, err
	}
	c, err := ParseText(text)
	return c.Size, err
}

// StampPolicy is whom to believe about time.
type StampPolicy struct {
	Required      bool           // a receipt without a stamp is refused
	Roots         *x509.CertPool // nil: the authority's chain is not judged
	Intermediates []*x509.Certificate
	At            time.Time // when the authority's chain must hold; zero: at the stamp's own time
}

// Evidence is what a receipt proved.
type Evidence struct {
	Entry      Entry
	Checkpoint *Signed
	Stamped    time.Time // zero: no stamp. The entry was in the log by then
	Cosigned   time.Time // the latest cosignature; zero: none
}

// ErrStamp: the time stamp of a receipt or checkpoint does not hold, or there is none where one is required.
var ErrStamp = errors.New("tlog: the time stamp does not hold")

// Verify checks the whole receipt offline: signatures and quorum, inclusion, stamp. entry is what
// the caller holds, nil to take the one in the receipt; when both are there they must be equal.
// Errors: those of OpenCheckpoint, ErrProof, ErrStamp, wrapped. spec: C2SP-proof §Verifying
func (r *Receipt) Verify(entry []byte, p Policy, sp StampPolicy) (*Evidence, error) {
	switch {
	case entry == nil && r.Entry == nil:
		return nil, fmt.Errorf("%w: neither the receipt nor the caller has the entry", ErrProof)
	case entry == nil:
		entry = r.Entry
	case r.Entry != nil && !bytes.Equal(entry, r.Entry):
		return nil, fmt.Errorf("%w: the receipt is for another entry", ErrProof)
	}
	signed, err := OpenCheckpoint(r.Checkpoint, p)
	if err != nil {
		return nil, err
	}
	if err := CheckInclusion(r.Proof, signed.Tree, r.Index, LeafHash(entry)); err != nil {
		return nil, err
	}
	ev := &Evidence{Entry: Entry{r.Index, entry}, Checkpoint: signed}
	for _, c := range signed.Cosignatures {
		if c.Time.After(ev.Cosigned) {
			ev.Cosigned = c.Time
		}
	}
	if len(r.Stamp) == 0 {
		if sp.Required {
			return nil, fmt.Errorf("%w: there is none", ErrStamp)
		}
		return ev, nil
	}
	if ev.Stamped, err = CheckStamp(r.Stamp, signed.Signed, sp); err != nil {
		return nil, err
	}
	return ev, nil
}

// CheckStamp judges a time-stamp token over the text of a checkpoint (Signed.Signed), and gives its time. Errors: ErrStamp, wrapped.
func CheckStamp(raw, text []byte, sp StampPolicy) (time.Time, error) {
	tok, err := tsp.ParseToken(raw)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrStamp, err)
	}
	err = tok.Verify(tsp.VerifyOptions{
		Digest: digest(tok.Info.Hash, text), Roots: sp.Roots, At: sp.At, Intermediates: sp.Intermediates,
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrStamp, err)
	}
	return tok.Info.Time.UTC(), nil
}

func digest(h crypto.Hash, b []byte) []byte {
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}

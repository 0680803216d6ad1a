package custody

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ceralacca.dev/services/format/tlog"
)

// SubmissionInvalid: a report of what was taken in charge (rapporto di versamento) does not hold.
const SubmissionInvalid = "SUBMISSION_INVALID"

// largestSubmission is more than any report that is written.
const largestSubmission = 16 << 20

// submissionXML is what a report says that the log can prove.
type submissionXML struct {
	XMLName xml.Name `xml:"https://ceralacca.dev/schemi/rdv/1 RapportoDiVersamento"`
	Name    string   `xml:"Identificativo"`
	Units   []struct {
		Name     string         `xml:"Identificativo"`
		Sequence uint64         `xml:"Sequenza"`
		Files    []submittedXML `xml:"File"`
	} `xml:"UnitaDocumentaria"`
	Log *struct {
		Origin   string   `xml:"Origine"`
		Sequence uint64   `xml:"Sequenza"`
		Proof    string   `xml:"Prova"`
		Leaves   []string `xml:"Foglia"`
	} `xml:"Registro"`
}

type submittedXML struct {
	Role      string `xml:"Ruolo"`
	Sum       string `xml:"ImprontaCrittograficaDelDocumento>Impronta"`
	Algorithm string `xml:"ImprontaCrittograficaDelDocumento>Algoritmo"`
}

// IsSubmission says whether a file is a report of what was taken in charge.
func IsSubmission(raw []byte) bool {
	return len(raw) <= largestSubmission && bytes.HasPrefix(raw, []byte("<?xml ")) && bytes.Contains(raw[:min(len(raw), 512)], []byte("<RapportoDiVersamento "))
}

// SubmissionSize is the size at which the proof of a report shows the log; 0: it has no proof. Nothing is judged.
func SubmissionSize(raw []byte) (int64, error) {
	var s submissionXML
	err := xml.Unmarshal(raw, &s)
	if err != nil {
		return 0, fmt.Errorf("custody: report: %w", err)
	}
	if s.Log == nil {
		return 0, nil
	}
	receipt, err := tlog.ParseReceipt([]byte(s.Log.Proof))
	if err != nil {
		return 0, err
	}
	return receipt.Size()
}

// submitted is what a report proves: leaves that follow each other, the last of them by its place in the log.
type submitted struct {
	leaves  []*tlog.Leaf
	entries [][]byte
	last    fact
}

// VerifySubmission judges the content of a report by the log alone: that its last leaf is in the log, that the leaves follow each
// other, each naming the one before, and that each unit with its files is what its leaf names, neither more nor less. Whose signature and time stamp the
// report carries is for who reads them. Errors: what is no report.
func VerifySubmission(raw []byte, policy tlog.Policy, stamps tlog.StampPolicy) (*Report, error) {
	r, _, err := verifySubmission(raw, policy, stamps)
	return r, err
}

// verifySubmission gives what a report that holds proves too.
func verifySubmission(raw []byte, policy tlog.Policy, stamps tlog.StampPolicy) (*Report, *submitted, error) {
	if len(raw) > largestSubmission {
		return nil, nil, fmt.Errorf("custody: a report of %d bytes, the limit is %d", len(raw), largestSubmission)
	}
	var s submissionXML
	d := xml.NewDecoder(bytes.NewReader(raw))
	d.Strict = true
	err := d.Decode(&s)
	if err != nil {
		return nil, nil, fmt.Errorf("custody: report: %w", err)
	}
	if rest := strings.TrimSpace(string(raw[d.InputOffset():])); rest != "" {
		return nil, nil, errors.New("custody: report: something follows its end")
	}
	r := &Report{}
	err = plainSubmission(raw)
	if err != nil {
		r.bad(SubmissionInvalid, s.Name, "%v", err)
		return r, nil, nil
	}
	if s.Log == nil {
		r.Unshown = append(r.Unshown, "the report has no proof: it was made where no log was kept")
		return r, nil, nil
	}
	got, err := s.leaves(policy, stamps)
	if err != nil {
		r.bad(SubmissionInvalid, s.Name, "%v", err)
		return r, nil, nil
	}
	leaves := got.leaves
	former := s.units(r, leaves)
	if len(r.Problems) > 0 {
		return r, nil, nil
	}
	for _, unit := range former {
		r.holds("%s: its leaf also names the metadata that it had then, which were made anew when a later receipt joined it; the report was written after that and does not list them", unit)
	}
	r.holds("the report: %d documents of %d leaves, numbers %d to %d of their owner, which are in the log", len(s.Units), len(leaves), leaves[0].Seq, leaves[len(leaves)-1].Seq)
	return r, got, nil
}

// units holds each unit against its leaf, and gives those of which the former metadata are not listed.
func (s *submissionXML) units(r *Report, leaves []*tlog.Leaf) (former []string) {
	told := map[uint64]bool{}
	for _, u := range s.Units {
		of := leaves[0]
		if len(s.Log.Leaves) > 0 {
			at := u.Sequence - leaves[0].Seq
			if u.Sequence < leaves[0].Seq || at >= uint64(len(leaves)) {
				r.bad(SubmissionInvalid, u.Name, "its number %d is not among the leaves", u.Sequence)
				continue
			}
			of = leaves[at]
		}
		if told[of.Seq] {
			r.bad(SubmissionInvalid, u.Name, "leaf %d is told of twice", of.Seq)
			continue
		}
		told[of.Seq] = true
		lacks, err := stated(of, u.Name, u.Files)
		switch {
		case err != nil:
			r.bad(SubmissionInvalid, u.Name, "%v", err)
		case lacks && len(s.Log.Leaves) == 0: // nothing joins the unit of a deposit
			r.bad(SubmissionInvalid, u.Name, "its metadata, which leaf %d names, are not listed", of.Seq)
		case lacks:
			former = append(former, u.Name)
		}
	}
	return former
}

// leaves gives the leaves of a report, the last of which the log proves and the others by it.
func (s *submissionXML) leaves(policy tlog.Policy, stamps tlog.StampPolicy) (*submitted, error) {
	receipt, err := tlog.ParseReceipt([]byte(s.Log.Proof))
	if err != nil {
		return nil, err
	}
	ev, err := receipt.Verify(nil, policy, stamps)
	if err != nil {
		return nil, err
	}
	var leaves []*tlog.Leaf
	entries := [][]byte{ev.Entry.Data}
	if len(s.Log.Leaves) > 0 {
		entries = nil
	}
	for _, text := range s.Log.Leaves {
		entry, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("a leaf is no base64: %w", err)
		}
		entries = append(entries, entry)
	}
	if !bytes.Equal(entries[len(entries)-1], ev.Entry.Data) {
		return nil, errors.New("the last leaf is not the one that is proven")
	}
	for i, entry := range entries {
		leaf, err := tlog.ParseLeaf(entry)
		if err != nil {
			return nil, err
		}
		if i > 0 && (leaf.Seq != leaves[i-1].Seq+1 || leaf.Tenant != leaves[i-1].Tenant || leaf.Prev != tlog.LeafHash(entries[i-1])) {
			return nil, fmt.Errorf("leaf %d does not follow leaf %d", leaf.Seq, leaves[i-1].Seq)
		}
		leaves = append(leaves, leaf)
	}
	if last := leaves[len(leaves)-1].Seq; s.Log.Sequence != 0 && s.Log.Sequence != last {
		return nil, fmt.Errorf("it says that its proof is of number %d, and it is of %d", s.Log.Sequence, last)
	}
	if s.Log.Origin != "" && s.Log.Origin != policy.Origin {
		return nil, fmt.Errorf("it says that its proof is of the log %q, and it is of %q", s.Log.Origin, policy.Origin)
	}
	last := fact{leaf: leaves[len(leaves)-1], index: ev.Entry.Index, hash: tlog.LeafHash(ev.Entry.Data), proof: receipt.Proof, tree: ev.Checkpoint.Tree, stamped: ev.Stamped}
	return &submitted{leaves, entries, last}, nil
}

// stated says why a leaf does not tell of a unit with these files and no others. lacks: of what the leaf names only the unit's metadata are
// missing, as in reports that were written when a later receipt had joined the unit and its metadata had been made anew.
func stated(leaf *tlog.Leaf, unit string, files []submittedXML) (lacks bool, err error) {
	if leaf.Type != Taken && leaf.Type != Extended {
		return false, fmt.Errorf("leaf %d is %s", leaf.Seq, leaf.Type)
	}
	id := unit[strings.LastIndexByte(unit, '/')+1:]
	if len(leaf.Objects) == 0 || leaf.Objects[0] != subject("unit", id) {
		return false, fmt.Errorf("leaf %d is of another unit", leaf.Seq)
	}
	if len(files) == 0 {
		return false, errors.New("it has no files")
	}
	left := slices.Clone(leaf.Objects[1:])
	var sums [][32]byte
	for _, f := range files {
		raw, err := base64.StdEncoding.DecodeString(f.Sum)
		if err != nil || len(raw) != 32 || (f.Algorithm != "" && f.Algorithm != "SHA-256") {
			return false, fmt.Errorf("%q is no SHA-256", f.Sum)
		}
		sums = append(sums, [32]byte(raw))
		if Folded(leaf) {
			continue
		}
		i := slices.Index(left, tlog.Hash(raw))
		if i < 0 {
			return false, fmt.Errorf("leaf %d does not name the file %s, or not as often", leaf.Seq, f.Sum)
		}
		left = slices.Delete(left, i, i+1)
	}
	whole, _ := UnitObjects(id, sums)
	switch metadata := leaf.Objects[len(leaf.Objects)-1]; {
	case Folded(leaf) && !slices.Equal(whole, leaf.Objects):
		return false, fmt.Errorf("the files are not those of leaf %d", leaf.Seq)
	case Folded(leaf) || len(left) == 0:
		return false, nil
	case len(left) == 1 && left[0] == metadata && !slices.ContainsFunc(files, func(f submittedXML) bool { return f.Role == "metadati" }):
		return true, nil
	}
	return false, fmt.Errorf("leaf %d names %d files more than the report", leaf.Seq, len(left))
}

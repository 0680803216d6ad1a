package dossier

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"ceralacca.dev/services/format/validation"
)

// Bounds of an archive that is judged.
const (
	maxMembers = 1000
	maxBytes   = 512 << 20 // unpacked, all together
)

// Report is what is true of a dossier.
type Report struct {
	validation.Conclusion
	Request      Request          `json:"request"`
	Participants []Participant    `json:"participants,omitempty"`
	Events       []Event          `json:"events,omitempty"`
	Documents    []DocumentReport `json:"documents,omitempty"`
	// Seal and Stamp are those of the audit trail; nil: there is none.
	Seal  *validation.Report `json:"seal,omitempty"`
	Stamp *validation.Report `json:"stamp,omitempty"`
	// Faults are what does not fit together: any makes the verdict total-failed.
	Faults []string `json:"faults,omitempty"`
}

// DocumentReport is what is true of a signed document.
type DocumentReport struct {
	Path string `json:"path"`
	*validation.Report
}

// Source is where a dossier lies: a file, or a bytes.Reader.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Looks says whether a file may be a dossier: a ZIP with an audit trail.
func Looks(src Source) bool {
	head := make([]byte, 4)
	if _, err := src.ReadAt(head, 0); err != nil || string(head) != "PK\x03\x04" {
		return false
	}
	z, err := zip.NewReader(src, src.Size())
	return err == nil && slices.ContainsFunc(z.File, func(f *zip.File) bool { return f.Name == TrailName })
}

// Verify judges a dossier by o (o.Content is not used). What does not hold is in the report; the errors are of
// an archive that cannot be read, and the context's.
func Verify(ctx context.Context, src Source, o validation.Options) (*Report, error) {
	members, err := unpack(src)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	r.sums(members)
	var trail Trail
	if same, err := canonicalOf(members[TrailName]); err != nil || !bytes.Equal(same, members[TrailName]) {
		r.fault("%s is not canonical JSON", TrailName)
	}
	d := json.NewDecoder(bytes.NewReader(members[TrailName]))
	d.DisallowUnknownFields()
	if err := d.Decode(&trail); err != nil {
		r.fault("%s cannot be read: %v", TrailName, err)
		return r.conclude(), nil
	}
	if trail.Version != Version {
		r.fault("%s has the version %d, and %d is known", TrailName, trail.Version, Version)
		return r.conclude(), nil
	}
	r.Request, r.Participants = trail.Request, trail.Participants
	r.Events, err = Check(trail.Request.Name, trail.Events, trail.Head)
	var broken *BrokenError
	if errors.As(err, &broken) {
		r.fault("the audit trail is broken at line %d: %s", broken.Sequence, broken.Reason)
	}
	r.story(&trail)
	if err := r.judge(ctx, members, &trail, o); err != nil {
		return nil, err
	}
	return r.conclude(), nil
}

func (r *Report) fault(format string, a ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, a...))
}

// unpack reads the members, within bounds.
func unpack(src Source) (map[string][]byte, error) {
	z, err := zip.NewReader(src, src.Size())
	if err != nil {
		return nil, fmt.Errorf("dossier: it is no ZIP that can be read: %w", err)
	}
	if len(z.File) > maxMembers {
		return nil, fmt.Errorf("dossier: %d members: at most %d are read", len(z.File), maxMembers)
	}
	members, left := map[string][]byte{}, int64(maxBytes)
	for _, f := range z.File {
		if path.Clean(f.Name) != f.Name || path.IsAbs(f.Name) || strings.HasPrefix(f.Name, "..") || strings.Contains(f.Name, `\`) || !f.Mode().IsRegular() {
			return nil, fmt.Errorf("dossier: the member %q has a name that no dossier has", f.Name)
		}
		if _, twice := members[f.Name]; twice {
			return nil, fmt.Errorf("dossier: the member %s is there twice", f.Name)
		}
		in, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("dossier: %s: %w", f.Name, err)
		}
		content, err := io.ReadAll(io.LimitReader(in, left+1))
		_ = in.Close() // read to its end or given up
		if err != nil {
			return nil, fmt.Errorf("dossier: %s: %w", f.Name, err)
		}
		if left -= int64(len(content)); left < 0 {
			return nil, fmt.Errorf("dossier: more than %d bytes unpacked", int64(maxBytes))
		}
		members[f.Name] = content
	}
	if members[TrailName] == nil {
		return nil, fmt.Errorf("dossier: there is no %s in it", TrailName)
	}
	return members, nil
}

// sums holds the members against SHA256SUMS: all of them, and no others.
func (r *Report) sums(members map[string][]byte) {
	listed := map[string]bool{SumsName: true}
	for line := range strings.Lines(string(members[SumsName])) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		content, ok := members[name]
		if have := sha256.Sum256(content); !ok || listed[name] || hex.EncodeToString(have[:]) != sum {
			r.fault("%s does not fit %q", SumsName, name)
		}
		listed[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !listed[name] {
			r.fault("%s is not in %s", name, SumsName)
		}
	}
}

// closings are the acts that may end a request, by the state that it has then.
var closings = map[string][]string{
	"COMPLETED": {"SIGNED", "APPROVED"}, "REFUSED": {"REFUSED"}, "WITHDRAWN": {"WITHDRAWN"}, "EXPIRED": {"EXPIRED"},
}

// story holds what the trail says about the request against its own lines.
func (r *Report) story(t *Trail) {
	if len(r.Events) == 0 {
		return // it is broken, and that was said
	}
	first, last := r.Events[0], r.Events[len(r.Events)-1]
	if first.Action != "CREATED" {
		r.fault("the audit trail does not begin with the creation")
	}
	if last.State != t.Request.State || !slices.Contains(closings[last.State], last.Action) {
		r.fault("the audit trail does not end with the closing of the request")
	}
	for _, e := range r.Events[:len(r.Events)-1] {
		if e.State != "OPEN" {
			r.fault("line %d: the request was closed before its last line", e.Sequence)
		}
	}
	if title := sha256.Sum256([]byte(t.Request.Title)); first.Detail["title_sha256"] != hex.EncodeToString(title[:]) {
		r.fault("the title is not that of the creation")
	}
	now := map[int]string{} // what is signed next
	for _, d := range first.Documents {
		now[d.Position] = d.Seen
	}
	if len(first.Documents) != len(t.Documents) {
		r.fault("the documents are not those of the creation")
	}
	signed := map[int]string{}
	for _, doc := range t.Documents {
		if now[doc.Position] != doc.Original.SHA256 {
			r.fault("%s is not the document of the creation", doc.Original.Path)
		}
		for _, e := range r.Events {
			if e.Action == "SIGNED" || e.Action == "APPROVED" {
				r.step(e, doc, now, signed)
			}
		}
		switch {
		case doc.Signed == nil && signed[doc.Position] != "":
			r.fault("%s was signed, and the signed file is not named", doc.Original.Path)
		case doc.Signed != nil && signed[doc.Position] != doc.Signed.SHA256:
			r.fault("%s is not what was signed last", doc.Signed.Path)
		}
	}
	r.people(t)
}

// step follows one document through one act: what was seen is what was there.
func (r *Report) step(e Event, doc Document, now, signed map[int]string) {
	i := slices.IndexFunc(e.Documents, func(d Digest) bool { return d.Position == doc.Position })
	if i < 0 || e.Documents[i].Seen != now[doc.Position] {
		r.fault("line %d: what was seen of %s is not what was there", e.Sequence, doc.Original.Path)
		return
	}
	if e.Action != "SIGNED" {
		return
	}
	signed[doc.Position] = e.Documents[i].Signed
	if doc.Form != "CADES_ATTACHED" { // there everybody signs the original
		now[doc.Position] = e.Documents[i].Signed
	}
}

// people holds who is said to have acted against who acted.
func (r *Report) people(t *Trail) {
	acted := map[string]string{}
	for _, e := range r.Events {
		switch e.Action {
		case "SIGNED", "APPROVED":
			if acted[e.Participant] != "" {
				r.fault("line %d: %s acts twice", e.Sequence, e.Participant)
			}
			acted[e.Participant] = e.Action
		}
	}
	want := map[string]string{"SIGNER": "SIGNED", "APPROVER": "APPROVED"}
	for _, p := range t.Participants {
		if (p.Standing == "DONE") != (acted[p.Name] != "") || (acted[p.Name] != "" && acted[p.Name] != want[p.Role]) {
			r.fault("%s is said to stand as %s, and the lines say otherwise", p.Name, p.Standing)
		}
		delete(acted, p.Name)
	}
	for name := range acted {
		r.fault("%s acted, and is no participant", name)
	}
}

// judge judges the signatures of the documents, the seal and the stamp.
func (r *Report) judge(ctx context.Context, members map[string][]byte, t *Trail, o validation.Options) error {
	of := TrailName
	var err error
	if seal := members[SealName]; seal != nil {
		of = SealName
		if r.Seal, err = validate(ctx, seal, members[TrailName], o); err != nil {
			return err
		}
	}
	if stamp := members[StampName]; stamp != nil {
		if r.Stamp, err = validate(ctx, stamp, members[of], o); err != nil {
			return err
		}
	}
	for _, doc := range t.Documents {
		for _, f := range files(doc) {
			content, ok := members[f.Path]
			if sum := sha256.Sum256(content); !ok || hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(content)) != f.Size {
				r.fault("%s is not the file that the audit trail names", f.Path)
			}
		}
		if doc.Signed == nil {
			continue
		}
		report, err := validate(ctx, members[doc.Signed.Path], nil, o)
		if err != nil {
			return err
		}
		r.Documents = append(r.Documents, DocumentReport{doc.Signed.Path, report})
		r.signers(doc, report)
		if doc.Form == "CADES_ATTACHED" && !bytes.Equal(report.Content, members[doc.Original.Path]) {
			r.fault("%s does not hold %s", doc.Signed.Path, doc.Original.Path)
		}
		if doc.Form == "PADES" && !bytes.HasPrefix(members[doc.Signed.Path], members[doc.Original.Path]) {
			r.fault("%s does not begin with %s", doc.Signed.Path, doc.Original.Path)
		}
	}
	return nil
}

// signers wants a whole signature in the file for each that the trail tells of.
func (r *Report) signers(doc Document, report *validation.Report) {
	have := map[string]int{}
	for _, s := range report.Signatures {
		if s.Certificate != nil && s.Integrity {
			sum := sha256.Sum256(s.Certificate.Raw)
			have[hex.EncodeToString(sum[:])]++
		}
	}
	for _, e := range r.Events {
		if e.Action != "SIGNED" {
			continue
		}
		if by := e.Detail["certificate_sha256"]; have[by] == 0 {
			r.fault("line %d: %s holds no whole signature by the certificate %.16s...", e.Sequence, doc.Signed.Path, by)
		} else {
			have[by]--
		}
	}
}

// validate judges one file; one that holds no signature at all has failed.
func validate(ctx context.Context, raw, content []byte, o validation.Options) (*validation.Report, error) {
	o.Content = content
	report, err := validation.Validate(ctx, raw, o)
	if ctx.Err() != nil || errors.Is(err, validation.ErrNoTime) {
		return nil, err
	}
	if err != nil {
		report = &validation.Report{At: o.At}
		report.Verdict, report.Sub, report.Reason = validation.Failed, validation.FormatFailure, err.Error()
	}
	return report, nil
}

// conclude: the worst of all that was judged.
func (r *Report) conclude() *Report {
	if len(r.Faults) > 0 {
		r.Conclusion = validation.Conclusion{Verdict: validation.Failed, Sub: validation.FormatFailure, Reason: r.Faults[0]}
		return r
	}
	r.Conclusion = validation.Conclusion{Verdict: validation.Passed}
	if r.Seal == nil {
		r.Conclusion = validation.Conclusion{Verdict: validation.Indeterminate, Sub: validation.SignedDataNotFound, Reason: "the audit trail is not sealed: nobody vouches for it as a whole"}
	}
	all := []*validation.Report{r.Seal, r.Stamp}
	for _, d := range r.Documents {
		all = append(all, d.Report)
	}
	for _, one := range all {
		if one == nil {
			continue
		}
		if one.Verdict == validation.Failed || (one.Verdict != validation.Passed && r.Verdict == validation.Passed) {
			r.Conclusion = one.Conclusion
		}
		if one.Verdict == validation.Failed {
			return r
		}
	}
	return r
}

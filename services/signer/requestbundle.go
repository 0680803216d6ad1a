package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/grpc"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/request"
)

// BundleArgs makes the bundle of a closed request.
type BundleArgs struct {
	Tenant  string    `json:"tenant"`
	Request uuid.UUID `json:"request"`
}

// Kind names the job.
func (BundleArgs) Kind() string { return "request-bundle" }

// maxLines bounds the trail of one request.
const maxLines = 100_000

// bundle is what is gathered for the ZIP.
type bundle struct {
	rows  *requestRows
	trail dossier.Trail
	file  dossier.Dossier
	notes []string // what is missing for good
}

// madeBundle is a ZIP with what recording it takes.
type madeBundle struct {
	ref             blob.Ref
	head            []byte // of the trail that is in it
	sealed, stamped bool
	note            string
}

// workBundle makes the bundle: trail checked, sealed, stamped, packed, written down, stored, and recorded. It may run twice: the
// seal has its request_id, what a run before has stored is taken up, and the record takes the first.
func (s *Service) workBundle(ctx context.Context, job *river.Job[BundleArgs]) error {
	err := s.makeBundle(ctx, requestName{tenant: job.Args.Tenant, id: job.Args.Request, full: nameOfRequest(job.Args.Tenant, job.Args.Request)})
	if err == nil || fault.Of(err).Kind != fault.KindUnavailable {
		return err
	}
	// Vault or the authorities are away: that is no attempt.
	wait := min(max(s.now().Sub(job.CreatedAt)/4, time.Second), time.Minute)
	return river.JobSnooze(max(wait, fault.Of(err).RetryAfter))
}

func (s *Service) makeBundle(ctx context.Context, name requestName) error {
	b := &bundle{}
	var lines []db.RequestEventsRow
	var left *madeBundle
	err := s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		q := db.New(tx)
		if b.rows, err = readRequest(ctx, q, name); err != nil {
			return err
		}
		if left, err = bundleLeft(ctx, q, &b.rows.row); err != nil {
			return err
		}
		lines, err = q.RequestEvents(ctx, db.RequestEventsParams{RequestID: name.id, Page: maxLines})
		return err
	})
	if err != nil || b.rows.row.BundledAt != nil {
		return err
	}
	if b.rows.row.State == string(request.Open) {
		return fault.Precondition("REQUEST_OPEN", "the request is open: there is no bundle yet")
	}
	var spoiled blob.Ref
	if left != nil {
		whole, err := s.isStored(ctx, left.ref)
		if err != nil {
			return err
		}
		if whole {
			return s.recordBundle(ctx, name, left)
		}
		spoiled = left.ref
	}
	if err := s.gather(ctx, b, lines); err != nil {
		return err
	}
	if err := s.seal(ctx, b); err != nil {
		return err
	}
	if err := s.stampTrail(ctx, b); err != nil {
		return err
	}
	made, err := s.pack(ctx, b, spoiled)
	if err != nil {
		return err
	}
	return s.recordBundle(ctx, name, made)
}

// bundleLeft is the bundle that a run before wrote down and did not live to record, nil when there is none: it has a time-stamp
// that need not be had twice.
func bundleLeft(ctx context.Context, q *db.Queries, r *db.SigningRequest) (*madeBundle, error) {
	m, err := q.MadeBundle(ctx, db.MadeBundleParams{RequestID: r.ID, Head: r.Head})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // none
	}
	if err != nil {
		return nil, fmt.Errorf("signer: read bundle that is left: %w", err)
	}
	return &madeBundle{ref: refOf(r.TenantID, m.Sha256, m.Size), head: r.Head, sealed: m.Sealed, stamped: m.Stamped, note: m.Note}, nil
}

// isStored reads a file back: it is there, and it is whole. What is damaged is as good as not there.
func (s *Service) isStored(ctx context.Context, ref blob.Ref) (bool, error) {
	in, err := s.blobs.Open(ctx, ref)
	if err == nil {
		_, err = io.Copy(io.Discard, in)
		err = errors.Join(err, in.Close())
	}
	if err != nil && slices.Contains([]string{"BLOB_NOT_FOUND", "BLOB_CORRUPT"}, fault.Of(err).Code) {
		return false, nil
	}
	return err == nil, err
}

// gather writes the trail, from lines that hold together.
func (s *Service) gather(ctx context.Context, b *bundle, lines []db.RequestEventsRow) error {
	r, row := b.rows, &b.rows.row
	text := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	b.trail = dossier.Trail{Version: dossier.Version, Head: hex.EncodeToString(row.Head), Request: dossier.Request{
		Name: r.name(), Title: row.Title, Requester: row.Requester, State: row.State, Reason: row.CloseReason,
		Created: text(row.CreatedAt), Deadline: text(row.Deadline), Closed: text(*row.ClosedAt),
	}}
	for _, l := range lines {
		b.trail.Events = append(b.trail.Events, dossier.Line{Body: l.Body, SHA256: hex.EncodeToString(l.Sha256)})
	}
	events, err := dossier.Check(r.name(), b.trail.Events, b.trail.Head)
	if err != nil {
		return fault.Precondition("TRAIL_BROKEN", "the audit trail of %s does not hold together: it is not sealed: %v", r.name(), err)
	}
	for i := range r.docs {
		b.trail.Documents = append(b.trail.Documents, bundled(&r.docs[i]))
	}
	for i := range r.people {
		p := &r.people[i]
		b.trail.Participants = append(b.trail.Participants, dossier.Participant{
			Name: r.nameOf(p), Role: p.Role, Step: int(p.Step) + 1, Standing: p.Standing, Holder: p.Holder, Email: p.Email,
		})
	}
	raw, err := dossier.Canonical(b.trail)
	if err != nil {
		return err
	}
	b.file = dossier.Dossier{Trail: raw, Documents: b.trail.Documents, Time: *row.ClosedAt, Open: func(f dossier.File) ([]byte, error) {
		sum, err := hex.DecodeString(f.SHA256)
		if err != nil {
			return nil, fmt.Errorf("signer: bundle: %w", err)
		}
		return s.blobs.Get(ctx, refOf(row.TenantID, sum, f.Size))
	}}
	for _, e := range events {
		if e.Action == "SIGNED" {
			if err := s.addChain(ctx, b, e.Detail["credential"]); err != nil {
				return err
			}
		}
	}
	return nil
}

// endings of signed files, where they are not those of the documents.
var endings = map[string]string{"CADES_ATTACHED": ".p7m"}

func bundled(d *db.SigningRequestDocument) dossier.Document {
	out := dossier.Document{Position: int(d.Position), Name: d.Name, Form: d.Form, Original: dossier.File{
		Path: dossier.Path("originals", int(d.Position), d.Name, ""), SHA256: hex.EncodeToString(d.OriginalSha256), Size: d.OriginalSize,
	}}
	if d.SignedSha256 != nil {
		out.Signed = &dossier.File{Path: dossier.Path("signed", int(d.Position), d.Name, endings[d.Form]), SHA256: hex.EncodeToString(d.SignedSha256), Size: *d.SignedSize}
	}
	return out
}

// addChain adds the certificates of a credential, each once.
func (s *Service) addChain(ctx context.Context, b *bundle, credential string) error {
	name, err := parseCredentialName("name", credential)
	if err != nil {
		return err
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return err
	}
	for _, der := range c.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("signer: certificate of %s: %w", credential, err)
		}
		b.add(cert)
	}
	return nil
}

func (b *bundle) add(certs ...*x509.Certificate) {
next:
	for _, c := range certs {
		for _, have := range b.file.Certificates {
			if have.Equal(c) {
				continue next
			}
		}
		b.file.Certificates = append(b.file.Certificates, c)
	}
}

// seal signs the trail under the mandate of the request.
func (s *Service) seal(ctx context.Context, b *bundle) error {
	row := &b.rows.row
	if row.SealMandate == "" {
		b.notes = append(b.notes, "not sealed: the request names no mandate")
		return nil
	}
	credential, _, _ := strings.Cut(row.SealMandate, "/mandates/")
	what := "seal of the audit trail"
	var resp *signv1.SignDocumentsResponse
	var err error
	for again := 1; ; again++ { // one whose hour was over, the key being away so long, is followed by another
		resp, err = s.SignDocuments(ctx, &signv1.SignDocumentsRequest{
			Credential: credential, Mandate: row.SealMandate, Form: signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED,
			Documents: []*signv1.DocumentToSign{{Source: &signv1.DocumentToSign_Content{Content: b.file.Trail}}},
			RequestId: uuid.NewSHA1(row.ID, []byte(what)).String(),
		})
		if err == nil || fault.Of(err).Code != codeSigningOver {
			break
		}
		what = fmt.Sprintf("seal of the audit trail, %d", again)
	}
	if err != nil {
		return b.without("not sealed", err)
	}
	b.file.Seal = resp.GetDocuments()[0].GetContent()
	sd, err := cms.Parse(b.file.Seal)
	if err != nil {
		return fmt.Errorf("signer: seal: %w", err)
	}
	b.add(sd.Certificates...)
	return nil
}

// without notes what cannot be had, however often it is tried; all else is tried again.
func (b *bundle) without(what string, err error) error {
	if !fault.Permanent(err) {
		return err
	}
	f := fault.Of(err)
	b.notes = append(b.notes, what+": "+f.Code+": "+f.Message)
	return nil
}

// stampTrail stamps the seal, or the trail where there is none.
func (s *Service) stampTrail(ctx context.Context, b *bundle) error {
	if len(s.stamps) == 0 {
		return nil
	}
	of := b.file.Seal
	if of == nil {
		of = b.file.Trail
	}
	sum := sha256.Sum256(of)
	token, _, err := s.stampFor(ctx, b.rows.row.TenantID, sum[:])
	if err != nil {
		return b.without("not stamped", err)
	}
	b.add(token.Signed.Certificates...)
	b.file.Stamp, err = (&tsp.Response{Status: tsp.Granted, Token: token.Raw}).Marshal()
	if err != nil {
		return fmt.Errorf("signer: time-stamp: %w", err)
	}
	return nil
}

// pack writes the ZIP into the blob store as it grows. It is made once before for its digest, so that it is written down when it
// comes to be there. Where the same one lies in the store already, and damaged, it takes its place.
func (s *Service) pack(ctx context.Context, b *bundle, spoiled blob.Ref) (*madeBundle, error) {
	row, sum := &b.rows.row, &measure{Hash: sha256.New()}
	if err := dossier.Write(sum, b.file); err != nil {
		return nil, err
	}
	m := &madeBundle{
		ref: refOf(row.TenantID, sum.Sum(nil), sum.size), head: row.Head,
		sealed: b.file.Seal != nil, stamped: b.file.Stamp != nil, note: strings.Join(b.notes, "; "),
	}
	err := s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).NoteMadeBundle(ctx, db.NoteMadeBundleParams{
			TenantID: row.TenantID, Sha256: m.ref.SHA256[:], Size: m.ref.Size, RequestID: row.ID, Head: m.head, Sealed: m.sealed, Stamped: m.stamped, Note: m.note,
			At: pg.Time(s.now()),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("signer: note bundle: %w", err)
	}
	out, in := io.Pipe()
	go func() { _ = in.CloseWithError(dossier.Write(in, b.file)) }() // CloseWithError never fails
	ref := m.ref
	if ref == spoiled {
		err = s.blobs.Mend(ctx, ref, out)
	} else {
		ref, err = s.blobs.PutReader(ctx, row.TenantID, out)
	}
	if err := errors.Join(err, out.CloseWithError(err)); err != nil {
		return nil, err
	}
	if ref != m.ref {
		return nil, fault.Internal("BUNDLE_DIFFERS", "the bundle of %s was made twice and is not the same", b.rows.name())
	}
	return m, nil
}

// measure counts and hashes what is written to it.
type measure struct {
	hash.Hash
	size int64
}

func (m *measure) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	return m.Hash.Write(p)
}

// recordBundle records the first bundle that was made, and says so in the trail, after its sealed part.
func (s *Service) recordBundle(ctx context.Context, name requestName, m *madeBundle) error {
	return s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		r, err := lockRequest(ctx, q, name)
		if err != nil || r.row.BundledAt != nil {
			return err
		}
		if !bytes.Equal(r.row.Head, m.head) {
			return fault.Aborted("TRAIL_GREW", "the audit trail grew while it was sealed")
		}
		detail := map[string]string{"bundle_sha256": m.ref.Hex(), "sealed": fmt.Sprint(m.sealed), "stamped": fmt.Sprint(m.stamped)}
		if err := s.writeLine(ctx, tx, r, deed{action: "SEALED", detail: detail}); err != nil {
			return err
		}
		_, err = q.SaveBundle(ctx, db.SaveBundleParams{
			ID: r.row.ID, BundleSha256: m.ref.SHA256[:], BundleSize: &m.ref.Size, At: ptr(pg.Time(s.now())), Note: m.note,
			Sequence: r.row.Sequence, Head: r.row.Head,
		})
		if err != nil {
			return fmt.Errorf("signer: save bundle: %w", err)
		}
		err = q.ForgetMadeBundle(ctx, db.ForgetMadeBundleParams{TenantID: name.tenant, Sha256: m.ref.SHA256[:]})
		if err != nil {
			return fmt.Errorf("signer: forget bundle: %w", err)
		}
		return nil
	})
}

// DownloadBundle gives the ZIP of a closed request.
func (s *Service) DownloadBundle(req *signv1.DownloadBundleRequest, stream grpc.ServerStreamingServer[signv1.DownloadBundleResponse]) error {
	ctx := stream.Context()
	name, err := parseRequestName(req.GetName())
	if err != nil {
		return err
	}
	var r *requestRows
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		r, err = readRequest(ctx, db.New(tx), name)
		return err
	})
	switch {
	case err != nil:
		return err
	case r.row.State == string(request.Open):
		return fault.Precondition("REQUEST_OPEN", "the request is open: its bundle is made when it is closed")
	case r.row.BundledAt == nil:
		return fault.Unavailable("BUNDLE_NOT_READY", "the bundle is being made: try again in a moment").WithRetryAfter(time.Second)
	}
	in, err := s.blobs.Open(ctx, refOf(name.tenant, r.row.BundleSha256, *r.row.BundleSize))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	buffer := make([]byte, chunk)
	for {
		n, err := io.ReadFull(in, buffer)
		if n > 0 {
			if err := stream.Send(&signv1.DownloadBundleResponse{Data: buffer[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

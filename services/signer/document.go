package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// inlineAnswer is how many bytes of signed documents an answer holds; more are in the blob store only.
const inlineAnswer = 12 << 20

// documents are what a request brings, in order of their digests.
type documents struct {
	mu   sync.Mutex
	made map[[sha256.Size]byte][]byte // files that this request made, by their own digests

	release func() // of the memory that they take

	name   credentialName
	hashes [][]byte                     // sorted
	order  [][]byte                     // as in the request
	bytes  map[[sha256.Size]byte][]byte // none for a document that stays with the caller
}

// SignDocuments signs what a person has authorized or what a mandate allows, in the form that is
// asked for. Nothing is released before all signatures are made, verified and recorded.
func (s *Service) SignDocuments(ctx context.Context, req *signv1.SignDocumentsRequest) (*signv1.SignDocumentsResponse, error) {
	d, err := s.documentsOf(ctx, req)
	if err != nil {
		return nil, err
	}
	defer d.release()
	out, err := outputOf(req)
	if err != nil {
		return nil, err
	}
	if req.GetTimestamp() && len(s.stamps) == 0 {
		return nil, noAuthorities()
	}
	switch person, mandate := req.GetChallenge() != "" || req.GetAuthorization() != "", req.GetMandate() != ""; {
	case person && mandate:
		return nil, fault.Invalid("AUTHORITY_TWICE", "mandate: a challenge and a mandate: a request has one of both")
	case mandate:
		return s.signByMandate(ctx, req, d, out)
	case person:
		return s.signByPerson(ctx, req, d, out)
	}
	return nil, fault.Invalid("AUTHORITY_MISSING", "challenge: name the challenge with its authorization (a person's credential), or a mandate (any other)").
		WithField("challenge", "AUTHORITY_MISSING", "is missing")
}

// keep remembers a file for the answer, so that it need not be read again.
func (d *documents) keep(file []byte, err error) ([]byte, error) {
	if err == nil {
		d.mu.Lock()
		d.made[sha256.Sum256(file)] = file
		d.mu.Unlock()
	}
	return file, err
}

// holdings bounds what documents take of memory, however many requests bring them.
type holdings struct {
	all  int64
	free *semaphore.Weighted
}

// holdPatience is how long a request waits for the memory of others.
const holdPatience = 5 * time.Second

func newHoldings(cfg DocumentsConfig) *holdings {
	all := max(cfg.MaxHeld, cfg.MaxSize)
	return &holdings{all, semaphore.NewWeighted(all)}
}

// hold waits for room for documents of so many bytes, and gives what frees it. Nothing of the request has happened before.
func (h *holdings) hold(ctx context.Context, bytes int64) (release func(), err error) {
	wait, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	if err := h.free.Acquire(wait, bytes); err != nil {
		return nil, fault.Unavailable("DOCUMENTS_BUSY", "documents of %d bytes are being signed, which is all that are at a time: repeat the same request in a moment", h.all).
			WithRetryAfter(time.Second).With(err)
	}
	return func() { h.free.Release(bytes) }, nil
}

// sizeOf is how many bytes the documents of a request have together, and where those are that the store has.
func (s *Service) sizeOf(tenant string, list []*signv1.DocumentToSign) (total int64, refs []blob.Ref, err error) {
	refs = make([]blob.Ref, len(list))
	for i, in := range list {
		size := int64(len(in.GetContent()))
		if b := in.GetBlob(); b != nil {
			if refs[i], err = refFrom(tenant, fmt.Sprintf("documents[%d].blob", i), b); err != nil {
				return 0, nil, err
			}
			size = refs[i].Size
		}
		if total, err = s.withSize(total, size); err != nil {
			return 0, nil, err
		}
	}
	return total, refs, nil
}

// withSize adds the size of one more document, in bytes, which the caller may have made up (a sum of two may be beyond int64). Fault:
// Invalid DOCUMENTS_TOO_LARGE.
func (s *Service) withSize(total, size int64) (int64, error) {
	if size > s.cfg.Documents.MaxSize-total {
		return 0, s.documentsTooLarge()
	}
	return total + size, nil
}

// documentsOf reads the documents and their digests. Whoever has them lets them go with release.
func (s *Service) documentsOf(ctx context.Context, req *signv1.SignDocumentsRequest) (d *documents, err error) {
	name, err := parseCredentialName("name", req.GetCredential())
	if err != nil {
		return nil, err
	}
	total, refs, err := s.sizeOf(name.tenant, req.GetDocuments())
	if err != nil {
		return nil, err
	}
	d = &documents{name: name, bytes: map[[sha256.Size]byte][]byte{}, made: map[[sha256.Size]byte][]byte{}}
	if d.release, err = s.held.hold(ctx, total); err != nil {
		return nil, err
	}
	if err = s.read(ctx, d, req, refs); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

func (s *Service) read(ctx context.Context, d *documents, req *signv1.SignDocumentsRequest, refs []blob.Ref) (err error) {
	for i, in := range req.GetDocuments() {
		field := fmt.Sprintf("documents[%d]", i)
		content := in.GetContent()
		if in.GetBlob() != nil {
			if content, err = s.blobs.Get(ctx, refs[i]); err != nil {
				return err
			}
		}
		if hash := in.GetSha256(); hash != nil {
			if f := req.GetForm(); f == signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED || f == signv1.SignatureForm_SIGNATURE_FORM_PADES {
				return fault.Invalid("DOCUMENT_MISSING", "%s: XAdES and PAdES are inside the document: give it, not its digest", field).
					WithField(field, "DOCUMENT_MISSING", "is a digest only")
			}
			d.order = append(d.order, hash)
			continue
		}
		if len(content) == 0 {
			return fault.Invalid("DOCUMENT_EMPTY", "%s: has no bytes", field).WithField(field, "DOCUMENT_EMPTY", "has no bytes")
		}
		sum := sha256.Sum256(content)
		d.order = append(d.order, sum[:])
		d.bytes[sum] = content
	}
	d.hashes, err = sortedHashes(d.order)
	return err
}

func (s *Service) documentsTooLarge() error {
	return fault.Invalid("DOCUMENTS_TOO_LARGE", "documents: more than %d bytes in one request, the most that is signed at once (documents.max_size)", s.cfg.Documents.MaxSize)
}

// signByPerson uses an authorization as SignHashes does: the documents are exactly those of the
// challenge, and the request that used it first has it.
func (s *Service) signByPerson(ctx context.Context, req *signv1.SignDocumentsRequest, d *documents, out output) (*signv1.SignDocumentsResponse, error) {
	name, id, err := parseChallengeName(req.GetChallenge())
	if err != nil {
		return nil, err
	}
	if err := s.ofCredential(ctx, name, d.name); err != nil {
		return nil, err
	}
	var c db.Credential
	var ch db.Challenge
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		c, ch, err = signing(ctx, q, req.GetChallenge(), name, id)
		if err != nil {
			return err
		}
		c, err = withHolding(ctx, q, c, ch)
		if err != nil {
			return err
		}
		err = covers(ch, req.GetAuthorization(), d.hashes)
		if err != nil {
			return err
		}
		ch, err = s.useAuthorization(ctx, tx, c, ch, req.GetRequestId(), out.key)
		return err
	})
	if err != nil {
		return nil, err
	}
	if ch.State != "SIGNED" {
		ch, err = s.signChallenge(ctx, c, ch, req.GetAuthorization(), func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
			return d.keep(s.makeOne(ctx, hash, d.bytes[[sha256.Size]byte(hash)], by, at, out, s.stamper(c.TenantID)))
		})
		if err != nil {
			return nil, err
		}
	}
	return s.releaseDocuments(ctx, c, d, signedSet{ch.Hashes, ch.SignedSha256, ch.SignedSizes, *ch.SigningTime}, out)
}

// signByMandate counts the documents first, then signs them.
func (s *Service) signByMandate(ctx context.Context, req *signv1.SignDocumentsRequest, d *documents, out output) (*signv1.SignDocumentsResponse, error) {
	name, mandate, err := parseMandateName(req.GetMandate())
	if err != nil {
		return nil, err
	}
	if name != d.name {
		ok, err := s.signsUnder(ctx, req, name, mandate, d.name)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fault.Invalid("MANDATE_MISMATCH", "mandate: it is not of the credential %s", req.GetCredential())
		}
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	if c.CompanyID != name.company {
		return nil, noCredential(name.full())
	}
	row, by, err := s.intendDocuments(ctx, req, c, mandate, d, out)
	if err != nil {
		return nil, err
	}
	if row.State != "SIGNED" {
		row, err = s.signIntended(ctx, c, by, row, d, out)
		if err != nil {
			return nil, err
		}
	}
	return s.releaseDocuments(ctx, by, d, signedSet{row.Hashes, row.SignedSha256, row.SignedSizes, *row.SigningTime}, out)
}

// signsUnder says whether a credential signs under a mandate of another: it has that one's place, or had it when the same request
// came first.
func (s *Service) signsUnder(ctx context.Context, req *signv1.SignDocumentsRequest, of credentialName, mandate uuid.UUID, named credentialName) (ok bool, err error) {
	err = s.db.Tx(ctx, of.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		next, err := successor(ctx, q, of.id, pg.Time(s.now()))
		if err != nil {
			return err
		}
		if ok = next != nil && partsOf(*next) == named; ok {
			return nil
		}
		row, err := q.GetDocumentSigning(ctx, db.GetDocumentSigningParams{TenantID: of.tenant, RequestID: strings.ToLower(req.GetRequestId())})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("signer: read document signing: %w", err)
		}
		ok = row.MandateID == mandate && named == (credentialName{tenant: of.tenant, company: of.company, id: row.CredentialID})
		return nil
	})
	return ok, err
}

// intendDocuments uses the mandate of a credential for a new request, and knows one that comes again. It gives the credential that
// signs: the mandate's, or the one that has its place. Which one that is was decided when the request came first.
func (s *Service) intendDocuments(ctx context.Context, req *signv1.SignDocumentsRequest, c db.Credential, mandate uuid.UUID, d *documents, out output) (row db.DocumentSigning, by db.Credential, err error) {
	id, err := pg.NewID()
	if err != nil {
		return row, by, err
	}
	key := db.GetDocumentSigningParams{TenantID: c.TenantID, RequestID: strings.ToLower(req.GetRequestId())}
	err = s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(s.now())
		row, err = q.GetDocumentSigning(ctx, key)
		if err == nil {
			by, err = s.goOn(ctx, q, c, mandate, row)
			return err
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("signer: read document signing: %w", err)
		}
		use := db.UseMandateParams{
			ID: id, MandateID: mandate, CredentialID: c.ID, RequestID: key.RequestID, Output: out.key, Hashes: d.hashes, Form: out.name(),
			Documents: int32(len(d.hashes)), Today: now.UTC().Format(time.DateOnly), At: now, //nolint:gosec // at most 500
		}
		if by, err = s.useMandate(ctx, q, c, use, out); err != nil {
			return err
		}
		row, err = q.GetDocumentSigning(ctx, key)
		if err != nil {
			return fmt.Errorf("signer: read document signing: %w", err)
		}
		if by.Provider != "" {
			err = s.intendMandated(ctx, q, by, row)
			if err != nil {
				return err
			}
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "mandate.use", Resource: nameOfMandate(c, mandate),
			Detail: map[string]string{
				"documents": fmt.Sprint(len(d.hashes)), "digest": fmt.Sprintf("%x", digestOf(d.hashes)), "form": out.name(), "credential": nameOfCredential(by),
			},
		})
	})
	if err != nil {
		return row, by, err
	}
	if row.MandateID != mandate || row.Output != out.key || !bytes.Equal(digestOf(row.Hashes), digestOf(d.hashes)) {
		return row, by, fault.Conflict("REQUEST_ID_REUSED", "request_id was used for another request: use a new one").
			WithField("request_id", "REQUEST_ID_REUSED", "was used for another request")
	}
	return row, by, nil
}

// useMandate counts the documents of a request, for the mandate's credential or, when that one's place is taken, for the one that has
// it; it gives which.
func (s *Service) useMandate(ctx context.Context, q *db.Queries, c db.Credential, use db.UseMandateParams, out output) (db.Credential, error) {
	by := c
	count := func() (bool, error) {
		use.SignerID = by.ID
		n, err := q.UseMandate(ctx, use)
		if pg.Constraint(err) == "document_signing_request" {
			return false, fault.Unavailable("REQUEST_IN_HAND", "the same request is in hand: repeat it in a moment")
		}
		if err != nil {
			return false, fmt.Errorf("signer: use mandate: %w", err)
		}
		return n == 1, nil
	}
	used, err := count()
	if err != nil || used {
		return by, err
	}
	m, err := q.GetMandate(ctx, db.GetMandateParams{ID: use.MandateID, CredentialID: c.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return by, fault.NotFound("MANDATE_NOT_FOUND", "there is no mandate %s", nameOfMandate(c, use.MandateID))
	}
	if err != nil {
		return by, fmt.Errorf("signer: read mandate: %w", err)
	}
	heir, moved := s.heirUnder(ctx, q, c, m)
	if heir != nil {
		by = *heir
		if used, err = count(); err != nil || used {
			return by, err
		}
	}
	if err := s.refusedBy(c, m, len(use.Hashes), out); err != nil {
		return by, err
	}
	if moved != nil {
		return by, moved
	}
	return by, fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s has no certificate that is valid now: import one", nameOfCredential(by))
}

// goOn says whether a request that comes again may go on, and by which credential. One of another mandate is refused by the caller.
func (s *Service) goOn(ctx context.Context, q *db.Queries, c db.Credential, mandate uuid.UUID, row db.DocumentSigning) (by db.Credential, err error) {
	by = c
	if row.MandateID != mandate {
		return by, nil
	}
	if row.CredentialID != c.ID {
		if by, err = q.GetCredential(ctx, row.CredentialID); err != nil {
			return by, fmt.Errorf("signer: read credential: %w", err)
		}
	}
	if by.Provider != "" {
		return by, nil // whether its provider can be asked is known there, and what it may have signed is said first
	}
	return by, s.mayGoOn(ctx, q, c, row)
}

// codeSigningOver: a request under a mandate was not finished in its hour.
const codeSigningOver = "SIGNING_OVER"

// mayGoOn says whether a request that was counted may still be signed: its mandate holds, and it is not older than an
// authorization of a person would be. What is signed is signed.
func (s *Service) mayGoOn(ctx context.Context, q *db.Queries, c db.Credential, row db.DocumentSigning) error {
	if row.State == "SIGNED" {
		return nil
	}
	m, err := q.GetMandate(ctx, db.GetMandateParams{ID: row.MandateID, CredentialID: c.ID})
	if err != nil {
		return fmt.Errorf("signer: read mandate: %w", err)
	}
	if err := s.inForce(c, m); err != nil {
		return err
	}
	if end := row.CreatedAt.Add(resumeFor); !s.now().Before(end) {
		return fault.Precondition(codeSigningOver, "the request was to be finished by %s, and nothing of it was released: send another, with a new request_id", end.UTC().Format(time.RFC3339))
	}
	return nil
}

// signIntended signs what was counted under a mandate of c, and records it.
func (s *Service) signIntended(ctx context.Context, c, signer db.Credential, row db.DocumentSigning, d *documents, out output) (db.DocumentSigning, error) {
	sign := func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
		return d.keep(s.makeOne(ctx, hash, d.bytes[[sha256.Size]byte(hash)], by, at, out, s.stamper(c.TenantID)))
	}
	by, at, err := s.handOf(ctx, signer, row, sign)
	if err != nil {
		return row, err
	}
	hashes, sizes, err := s.makeAll(ctx, c.TenantID, row.Hashes, withDocuments, func(ctx context.Context, hash []byte) ([]byte, error) {
		return sign(ctx, hash, by, at)
	})
	if err != nil {
		return row, err
	}
	err = s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.RecordDocumentSigning(ctx, db.RecordDocumentSigningParams{
			ID: row.ID, SignedSha256: hashes, SignedSizes: sizes, SigningTime: &at, At: ptr(pg.Time(s.now())),
			Now: pg.Time(s.now()), BegunAfter: pg.Time(s.now().Add(-resumeFor)),
		})
		if err != nil {
			return fmt.Errorf("signer: record document signing: %w", err)
		}
		row, err = q.GetDocumentSigning(ctx, db.GetDocumentSigningParams{TenantID: row.TenantID, RequestID: row.RequestID})
		if err != nil {
			return fmt.Errorf("signer: read document signing: %w", err)
		}
		if row.State != "SIGNED" {
			if err := s.mayGoOn(ctx, q, c, row); err != nil {
				return err
			}
			return fault.Precondition("CREDENTIAL_NOT_ACTIVE", "the credential was suspended or revoked while it signed: nothing is released")
		}
		if n == 0 { // the same request, sent twice, was here first
			return nil
		}
		if err := forgetMade(ctx, q, row.TenantID, hashes); err != nil {
			return err
		}
		if err := q.EndMandatedChallenges(ctx, db.EndMandatedChallengesParams{SigningID: row.ID, At: row.SignedAt}); err != nil {
			return fmt.Errorf("signer: end challenge: %w", err)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "documents.sign", Resource: nameOfMandate(c, row.MandateID),
			Detail: map[string]string{"documents": fmt.Sprint(len(row.Hashes)), "form": out.name(), "digest": fmt.Sprintf("%x", digestOf(row.Hashes))},
		})
	})
	return row, err
}

// withDocuments: the files hold the documents that they are made of, or may.
const withDocuments = true

// storedTogether is how many files of a request are stored at a time: what the disk and the database do once for them
// is done seldom enough, and little is left to store after the last signature.
const storedTogether = 64

// makeAll makes one file for each digest and stores it. So many are in hand at a time that
// the next batches for Vault are ready while it signs the ones before, and that files are stored meanwhile: it never waits
// for us. Files that hold documents are written down first: should the request not be recorded, they can be destroyed with
// their documents all the same.
func (s *Service) makeAll(ctx context.Context, tenant string, digests [][]byte, whole bool, one func(context.Context, []byte) ([]byte, error)) (hashes [][]byte, sizes []int64, err error) {
	hashes, sizes = make([][]byte, len(digests)), make([]int64, len(digests))
	store := func(ctx context.Context, which []int, files [][]byte) error {
		if whole {
			of := make([][]byte, len(which))
			for i, n := range which {
				of[i] = digests[n]
			}
			if err := s.noteMade(ctx, tenant, of, files); err != nil {
				return err
			}
		}
		refs, err := blob.PutAll(ctx, s.blobs, tenant, files)
		if err != nil {
			return err
		}
		for i, n := range which {
			hashes[n], sizes[n] = refs[i].SHA256[:], refs[i].Size
		}
		return nil
	}
	type made struct {
		number int
		file   []byte
	}
	ready := make(chan made, len(digests))
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var which []int
		var files [][]byte
		for left := len(digests); left > 0; left-- {
			select {
			case m := <-ready:
				which, files = append(which, m.number), append(files, m.file)
			case <-gctx.Done():
				return gctx.Err()
			}
			if len(files) == storedTogether || left == 1 {
				if err := store(gctx, which, files); err != nil {
					return err
				}
				which, files = nil, nil
			}
		}
		return nil
	})
	makers, mctx := errgroup.WithContext(gctx)
	makers.SetLimit(s.cfg.Parallel)
	for i, digest := range digests {
		makers.Go(func() error {
			file, err := one(mctx, digest)
			if err == nil {
				ready <- made{i, file}
			}
			return err
		})
	}
	g.Go(makers.Wait)
	return hashes, sizes, g.Wait()
}

func (s *Service) noteMade(ctx context.Context, tenant string, originals, made [][]byte) error {
	note := db.NoteMadeFilesParams{TenantID: tenant, Originals: originals, At: pg.Time(s.now())}
	for _, file := range made {
		sum := sha256.Sum256(file)
		note.Files, note.Sizes = append(note.Files, sum[:]), append(note.Sizes, int64(len(file)))
	}
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return db.New(tx).NoteMadeFiles(ctx, note) })
	if err != nil {
		return fmt.Errorf("signer: note made files: %w", err)
	}
	return nil
}

// forgetMade is for the transaction that names the files in a row.
func forgetMade(ctx context.Context, q *db.Queries, tenant string, files [][]byte) error {
	if err := q.ForgetMadeFiles(ctx, db.ForgetMadeFilesParams{TenantID: tenant, Files: files}); err != nil {
		return fmt.Errorf("signer: forget made files: %w", err)
	}
	return nil
}

// signedSet are the files that were made of documents, in order of their digests.
type signedSet struct {
	of, signed [][]byte
	sizes      []int64
	at         time.Time
}

func (s *Service) releaseDocuments(ctx context.Context, c db.Credential, d *documents, set signedSet, out output) (*signv1.SignDocumentsResponse, error) {
	at := map[[sha256.Size]byte]int{}
	total := int64(0)
	for i, h := range set.of {
		at[[sha256.Size]byte(h)] = i
		total += set.sizes[i]
	}
	resp := &signv1.SignDocumentsResponse{
		Credential: nameOfCredential(c), Level: levelOf(c.Qualified), SigningTime: timestamppb.New(set.at),
	}
	for _, h := range d.order {
		i := at[[sha256.Size]byte(h)]
		ref := refOf(c.TenantID, set.signed[i], set.sizes[i])
		one := &signv1.SignedDocument{DocumentSha256: h, Signed: blobMessage(ref, out.mediaType())}
		if total <= inlineAnswer {
			var err error
			if one.Content = d.made[ref.SHA256]; one.Content != nil {
				resp.Documents = append(resp.Documents, one)
				continue
			}
			if one.Content, err = s.blobs.Get(ctx, ref); err != nil {
				return nil, err
			}
		}
		resp.Documents = append(resp.Documents, one)
	}
	return resp, nil
}

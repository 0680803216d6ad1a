package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/request"
)

// handFor is how long one who signs keeps the others of a request waiting, should they never come back.
const handFor = time.Minute

func challengeElsewhere() error {
	return fault.Precondition("CHALLENGE_USED", "the challenge signed in another place: make another")
}

// signature is one participant's signature of a request, on its way.
type signature struct {
	name       requestName
	req        *signv1.SignSignatureRequestRequest
	credential db.Credential
	challenge  db.Challenge
	holder     string
	rows       *requestRows
	done       bool // it was recorded before: the answer was lost
}

// SignSignatureRequest signs the documents of a request as one participant. First the authorization is used, in
// one transaction that says who signs; then the signatures are made; then they are recorded in the transaction
// that advances the request. A crash between leaves the authorization to the same request_id.
func (s *Service) SignSignatureRequest(ctx context.Context, req *signv1.SignSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	name, err := parseParticipantName(req.GetParticipant())
	if err != nil {
		return nil, err
	}
	credential, id, err := parseChallengeName(req.GetChallenge())
	if err != nil {
		return nil, err
	}
	sig := &signature{name: name, req: req}
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if sig.rows, err = lockRequest(ctx, q, name); err != nil {
			return err
		}
		if sig.credential, err = signatory(ctx, q, credential); err != nil {
			return err
		}
		if sig.challenge, err = ownChallenge(ctx, q, req.GetChallenge(), credential, id); err != nil {
			return err
		}
		if sig.credential, err = withHolding(ctx, q, sig.credential, sig.challenge); err != nil {
			return err
		}
		return s.intendSignature(ctx, tx, sig)
	})
	if err != nil {
		return nil, err
	}
	if !sig.done {
		if err := s.makeSignature(ctx, sig); err != nil {
			return nil, err
		}
	}
	return requestMessage(sig.rows), nil
}

// intendSignature says whether the participant may sign this, now, with this; and uses the authorization.
func (s *Service) intendSignature(ctx context.Context, tx pgx.Tx, sig *signature) error {
	q, r, ch := db.New(tx), sig.rows, sig.challenge
	p := r.person(sig.name.participant)
	if p.ChallengeID != nil && *p.ChallengeID == ch.ID && ch.RequestID != nil && *ch.RequestID == sig.req.GetRequestId() {
		sig.done = true
		return covers(ch, sig.req.GetAuthorization(), ch.Hashes)
	}
	var err error
	if sig.holder, err = holderOf(ctx, q, sig.credential); err != nil {
		return err
	}
	named, err := s.namedOrNext(ctx, q, p.Credential, sig.credential)
	if err != nil {
		return err
	}
	if (p.Holder != "" && p.Holder != sig.holder) || !named {
		return fault.Denied("CREDENTIAL_OF_ANOTHER", "the credential is not the participant's: nobody signs for somebody else")
	}
	digest := hex.EncodeToString(ch.Digest)
	_, _, err = request.Next(r.machine(), request.Act{Verb: request.Sign, Person: p.ID.String(), Seen: r.digest(), At: pg.Time(s.now())})
	switch {
	case err != nil:
		return refusal(err)
	case digest != r.digest():
		return fault.Precondition("CHALLENGE_MISMATCH", "the challenge is not over what was viewed: make one over the digests of the view")
	case p.ViewedAt == nil || ch.CreatedAt.Before(*p.ViewedAt):
		return fault.Precondition("CHALLENGE_MISMATCH", "the challenge was made before the view: make one after it")
	}
	if err := covers(ch, sig.req.GetAuthorization(), r.hashes()); err != nil {
		return err
	}
	now := pg.Time(s.now())
	if r.row.HandUntil != nil && now.Before(*r.row.HandUntil) && r.row.HandRequest != sig.req.GetRequestId() {
		return fault.Unavailable("SIGNATURE_IN_HAND", "another participant signs just now: repeat the call in a moment, the authorization is not used").WithRetryAfter(time.Second)
	}
	sig.challenge, err = s.useAuthorization(ctx, tx, sig.credential, ch, sig.req.GetRequestId(), "request "+p.ID.String())
	if err != nil {
		return err
	}
	hand, err := s.handTime(ctx, q, sig.challenge)
	if err != nil {
		return err
	}
	until := now.Add(hand)
	r.row.Hand, r.row.HandRequest, r.row.HandUntil = &p.ID, sig.req.GetRequestId(), &until
	return saveHand(ctx, q, r)
}

// handTime is how long a signature may take: with a key at a provider as long as its calls, whose signatures would be good
// for nothing if another participant had changed the document meanwhile.
func (s *Service) handTime(ctx context.Context, q *db.Queries, ch db.Challenge) (time.Duration, error) {
	if ch.HoldingID == nil {
		return handFor, nil
	}
	h := &held{challenge: ch}
	err := s.loadHolding(ctx, q, h)
	if err != nil {
		return 0, err
	}
	return handFor + h.budget(len(ch.Hashes)) + h.remote.cfg.Timeout, nil
}

// holderOf is whose credential it is: with a key in Vault it was said with the PIN, with one at a provider when the
// credential was made, if at all.
func holderOf(ctx context.Context, q *db.Queries, c db.Credential) (string, error) {
	if c.Provider != "" {
		holder, err := q.HolderOfHeld(ctx, c.ID)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return "", fmt.Errorf("signer: read holder: %w", err)
		}
		return holder, nil
	}
	pin, err := q.GetPin(ctx, c.ID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("signer: read PIN: %w", err)
	}
	return pin.Holder, nil
}

func saveHand(ctx context.Context, q *db.Queries, r *requestRows) error {
	err := q.SaveHand(ctx, db.SaveHandParams{ID: r.row.ID, Hand: r.row.Hand, HandRequest: r.row.HandRequest, HandUntil: r.row.HandUntil})
	if err != nil {
		return fmt.Errorf("signer: take in hand: %w", err)
	}
	return nil
}

// makeSignature makes the files and records them together with the advance of the request.
func (s *Service) makeSignature(ctx context.Context, sig *signature) error {
	err := s.makeRequestFiles(ctx, sig)
	if err != nil {
		s.letGo(ctx, sig)
	}
	return err
}

func (s *Service) makeRequestFiles(ctx context.Context, sig *signature) error {
	sign := func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
		return s.signRequestDocument(ctx, sig.rows, hash, by, at)
	}
	l := lending{at: s.now().UTC().Truncate(time.Second)} // signing-time has whole seconds
	var err error
	if sig.challenge.HoldingID == nil {
		l.by, err = s.ready.load(ctx, sig.credential)
	} else {
		l, err = s.lent(ctx, sig.credential, sig.challenge, sig.req.GetAuthorization(), sign)
	}
	if err != nil {
		return err
	}
	record := db.RecordChallengeParams{ID: sig.challenge.ID, RequestID: sig.challenge.RequestID, SigningTime: &l.at}
	record.SignedSha256, record.SignedSizes, err = s.makeAll(ctx, sig.name.tenant, sig.challenge.Hashes, withDocuments, func(ctx context.Context, hash []byte) ([]byte, error) {
		return sign(ctx, hash, l.by, l.at)
	})
	if err != nil {
		return err
	}
	err = s.db.Tx(ctx, sig.name.tenant, func(ctx context.Context, tx pgx.Tx) error { return s.recordSignature(ctx, tx, sig, l.by, record) })
	if err == nil && l.held != nil {
		s.closeHeld(ctx, l.held, sig.req.GetAuthorization())
	}
	return err
}

// signRequestDocument adds a signature to the document that hash was viewed of.
func (s *Service) signRequestDocument(ctx context.Context, r *requestRows, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
	i := slices.IndexFunc(r.docs, func(d db.SigningRequestDocument) bool {
		sum, _ := shown(&d)
		return bytes.Equal(sum, hash)
	})
	d := &r.docs[i] // the digests are those of the documents: intendSignature has seen to it
	sum, size := d.OriginalSha256, d.OriginalSize
	out := output{form: signv1.SignatureForm(signv1.SignatureForm_value[formPrefix+d.Form]), stamp: r.row.Stamped}
	if d.SignedSha256 != nil {
		sum, size = d.SignedSha256, *d.SignedSize
		if out.form == signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED {
			out.form = signv1.SignatureForm_SIGNATURE_FORM_CADES_PARALLEL
		}
	}
	content, err := s.blobs.Get(ctx, refOf(r.row.TenantID, sum, size))
	if err != nil {
		return nil, err
	}
	return s.makeOne(ctx, hash, content, by, at, out, s.stamper(r.row.TenantID))
}

// recordSignature is the one step by which a signature comes to be: the challenge is signed, the participant has
// acted, the request goes on, the trail says so. Whatever was done to the request meanwhile decides.
func (s *Service) recordSignature(ctx context.Context, tx pgx.Tx, sig *signature, by *readyCredential, record db.RecordChallengeParams) error {
	q := db.New(tx)
	r, err := lockRequest(ctx, q, sig.name)
	if err != nil {
		return err
	}
	p := r.person(sig.name.participant)
	if p.ChallengeID != nil && *p.ChallengeID == sig.challenge.ID { // the same call, sent twice, was here first
		sig.rows = r
		return nil
	}
	if r.row.HandRequest != sig.req.GetRequestId() && r.row.State == string(request.Open) {
		return fault.Aborted("SIGNATURE_OVERTAKEN", "another participant took the turn: repeat the same call")
	}
	record.At = ptr(pg.Time(s.now()))
	_, err = q.RecordChallenge(ctx, record)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.Precondition("CREDENTIAL_NOT_ACTIVE", "the credential was revoked or the hour passed while it signed: nothing is released")
	}
	if err != nil {
		return fmt.Errorf("signer: record challenge: %w", err)
	}
	d := deed{
		Act:    request.Act{Verb: request.Sign, Person: p.ID.String(), Seen: hex.EncodeToString(sig.challenge.Digest)},
		action: "SIGNED", documents: r.digests(), detail: s.signatureDetail(p, sig, by, *record.SigningTime),
	}
	signed := slices.Clone(r.docs)
	for i, hash := range sig.challenge.Hashes {
		at := slices.IndexFunc(d.documents, func(one dossier.Digest) bool { return one.Seen == hex.EncodeToString(hash) })
		if at < 0 {
			return fault.Precondition(request.CodeChanged, "the documents are not what was viewed: view them again")
		}
		d.documents[at].Signed = hex.EncodeToString(record.SignedSha256[i])
		signed[at].SignedSha256, signed[at].SignedSize = record.SignedSha256[i], &record.SignedSizes[i]
	}
	d.After = (&requestRows{docs: signed}).digest()
	p.ChallengeID = &sig.challenge.ID
	r.row.Hand, r.row.HandRequest, r.row.HandUntil = nil, "", nil
	if err := s.perform(ctx, tx, r, d); err != nil {
		return err
	}
	r.docs, sig.rows = signed, r
	for i := range r.docs {
		doc := &r.docs[i]
		err := q.SaveRequestDocument(ctx, db.SaveRequestDocumentParams{RequestID: r.row.ID, Position: doc.Position, SignedSha256: doc.SignedSha256, SignedSize: doc.SignedSize})
		if err != nil {
			return fmt.Errorf("signer: save document of a request: %w", err)
		}
	}
	if err := forgetMade(ctx, q, sig.name.tenant, record.SignedSha256); err != nil {
		return err
	}
	return telemetry.Audit(ctx, tx, telemetry.Act{
		Action: "challenge.sign", Resource: nameOfChallenge(sig.credential, sig.challenge.ID),
		Detail: map[string]string{"documents": fmt.Sprint(len(signed)), "device": deviceOf(sig.credential, sig.challenge), "request": r.name()},
	})
}

// signatureDetail is the way from the view to the signature, as the trail has it.
func (s *Service) signatureDetail(p *db.SigningRequestParticipant, sig *signature, by *readyCredential, at time.Time) map[string]string {
	ch, text := sig.challenge, func(t *time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	sum := sha256.Sum256(by.signer.Chain[0].Raw)
	return who(p, false, map[string]string{
		"viewed": text(p.ViewedAt), "challenge": nameOfChallenge(sig.credential, ch.ID), "challenged": text(&ch.CreatedAt), "authorized": text(ch.AuthorizedAt),
		"device": deviceOf(sig.credential, ch), "credential": by.name, "holder": sig.holder, "certificate_sha256": hex.EncodeToString(sum[:]),
		"subject": by.signer.Chain[0].Subject.String(), "signing_time": text(&at), "level": levelOf(by.qualified).String()[len("SIGNATURE_LEVEL_"):],
	})
}

// letGo lets the others sign after one who could not. It is tried once: after a minute they may anyway.
func (s *Service) letGo(ctx context.Context, sig *signature) {
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Vault.Timeout)
	defer cancel()
	err := s.db.Tx(back, sig.name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).LetGo(ctx, db.LetGoParams{ID: sig.name.id, HandRequest: sig.req.GetRequestId()})
	})
	if err != nil {
		s.log.WarnContext(ctx, "who signs a request keeps it in hand", "request", sig.name.id, "error", err.Error())
	}
}

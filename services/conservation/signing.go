package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/revocation"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// Who says that nothing can be signed, or stamped.
const (
	saysSigner      = "SIGNER"
	saysIssuer      = "ISSUER"    // of its certificate
	saysAuthorities = "AUTHORITY" // none of them stamps
)

// credentialPause is before a report is tried again that waits for a credential.
const credentialPause = 10 * time.Second

// order is a signature that the signer is asked for.
type order struct {
	tenant, subject, mediaType string
	content                    blob.Ref
	request                    uuid.UUID
	refused                    [][]byte // SHA-256 of certificates that may not sign it
}

// sign has the archive's credential sign what is stored, and reads the answer back before it counts: the bytes inside must be those,
// and the signature must hold. The same request gives the same signature; while the credential cannot sign, the signer keeps no order.
// at is when it was signed, and when it was asked for where it was not.
func (s *Service) sign(ctx context.Context, o order) (signed blob.Ref, p7m []byte, at time.Time, err error) {
	at = s.now()
	answer, err := s.signer.SignBlob(ctx, &signv1.SignBlobRequest{
		Parent: "tenants/" + o.tenant, Credential: s.cfg.Credential, Subject: o.subject,
		Content:   &eventv1.Blob{Uri: o.content.URI(), Sha256: o.content.SHA256[:], Size: o.content.Size, MediaType: o.mediaType},
		RequestId: o.request.String(), RefusedCertificates: o.refused,
	})
	if errors.Is(err, fault.NotFound("CREDENTIAL_NOT_FOUND", "")) {
		// The configuration is to be mended, and nothing else: what is to be signed waits.
		err = fault.Precondition("CREDENTIAL_NOT_FOUND", "the signer has no credential %s: mend conservation.credential", s.cfg.Credential).With(err)
	}
	if err != nil {
		return signed, nil, at, fmt.Errorf("conservation: signer: %w", err)
	}
	signed, err = blob.ParseURI(answer.GetSigned().GetUri())
	if err != nil {
		return signed, nil, at, fmt.Errorf("conservation: signer's answer: %w", err)
	}
	p7m, err = s.blobs.Get(ctx, signed)
	if err != nil {
		return signed, nil, at, err
	}
	sd, report, err := cades.Verify(p7m, cades.VerifyOptions{})
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return signed, nil, at, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signer's answer is no signature of %s", o.subject).With(err)
	}
	if blob.Of(o.tenant, sd.Content()) != o.content {
		return signed, nil, at, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signer signed something else than %s", o.subject)
	}
	return signed, p7m, latest(answer.GetCreateTime().AsTime(), answer.GetSigningTime().AsTime()), nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// signContent signs bytes that are no package's index.
func (s *Service) signContent(ctx context.Context, tenant, subject, mediaType string, request uuid.UUID, content []byte) ([]byte, error) {
	stored, err := s.blobs.Put(ctx, tenant, content)
	if err != nil {
		return nil, err
	}
	_, p7m, at, err := s.sign(ctx, order{tenant: tenant, subject: subject, mediaType: mediaType, content: stored, request: request})
	return p7m, s.outages.heard(ctx, at, err)
}

// signSpace makes the request id of an index's signature from the package's id: a repeat asks for the same.
var signSpace = uuid.MustParse("1d2b8f61-7c0a-4a35-9be5-5a6c1f0e2a77")

// signIndex has the signer sign the index of a package. A signature whose certificate was revoked, as its issuer says, does not count: there
// is one more order for each such certificate, which it may not sign, so that however often it is tried there are no more orders than
// certificates that were used, and the package goes on when the credential has another.
func (s *Service) signIndex(ctx context.Context, p db.Package) (result, error) {
	var revoked error
	var taken [][]byte // certificates that were taken back
	asked := s.now()
	for {
		signed, p7m, at, err := s.sign(ctx, orderOfIndex(p, taken))
		if err != nil && revoked != nil {
			if !cannotSign(err) {
				return result{}, err
			}
			return result{}, s.outages.began(ctx, saysIssuer, revoked, taken[len(taken)-1], asked)
		}
		err = s.outages.heard(ctx, at, err)
		if err != nil {
			return result{}, err
		}
		chain, err := s.signerChain(p7m, s.now())
		if err != nil {
			return result{}, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signer's answer: %v", err)
		}
		sum := sha256.Sum256(chain[0].Raw)
		link, heard := s.revokedNow(ctx, chain)
		if link == nil {
			return result{ref: signed}, s.outages.ended(ctx, saysIssuer, at, sum[:], heard)
		}
		if slices.ContainsFunc(taken, func(t []byte) bool { return bytes.Equal(t, sum[:]) }) {
			return result{}, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signer signed with a certificate that it was told not to use: %s", link.Subject)
		}
		taken = append(taken, sum[:])
		revoked = fault.Precondition(codeCredentialRevoked, "its issuer says that the certificate of the credential (%s) was revoked on %s: revoke it in the signer too and import another; the package is signed anew then",
			link.Subject, link.RevokedAt.UTC().Format(time.RFC3339))
	}
}

// orderOfIndex is the order to sign an index: one for each list of certificates that were taken back.
func orderOfIndex(p db.Package, taken [][]byte) order {
	o := order{
		tenant: p.TenantID, subject: packageName(p.TenantID, p.ID), mediaType: mimeXML, content: refOf(p.TenantID, p.IndexSha256, p.IndexSize),
		request: uuid.NewSHA1(signSpace, p.ID[:]), refused: taken,
	}
	if len(taken) > 0 {
		key := slices.Concat(taken...)
		o.subject = fmt.Sprintf("%s/signatures/without-%x", o.subject, sha256Of(key)[:8])
		o.request = uuid.NewSHA1(signSpace, append(p.ID[:], key...))
	}
	return o
}

// cannotSign says that an error is the credential's, which a person has to mend.
func cannotSign(err error) bool {
	switch fault.Of(err).Code {
	case "CREDENTIAL_NOT_FOUND", "CREDENTIAL_NOT_ACTIVE", "CREDENTIAL_WRONG_KIND", "CERTIFICATE_EXPIRED", "CERTIFICATE_REFUSED", "NO_ACTIVE_CREDENTIAL", codeCredentialRevoked:
		return fault.Of(err).Kind == fault.KindPrecondition
	}
	return false
}

// clocksApart is by how much the clocks of two processes may differ.
const clocksApart = time.Minute

var errOvertaken = errors.New("it was signed since that was asked for")

// outages remember why nothing can be signed or stamped, and tell it once.
type outages struct{ s *Service }

// heard notes what the signer answered, and gives its error on. at is that of sign.
func (o *outages) heard(ctx context.Context, at time.Time, err error) error {
	switch {
	case err == nil:
		return o.ended(ctx, saysSigner, at, nil, at)
	case cannotSign(err):
		return o.began(ctx, saysSigner, err, nil, at)
	}
	return err
}

// stamped notes whether an authority stamped, and gives the error on. Told is only what has lasted for stamp_alarm. spec: DMEF-2014 art. 3 c. 2
func (o *outages) stamped(ctx context.Context, cause error) error {
	now := pg.Time(o.s.now())
	if cause == nil {
		return o.ended(ctx, saysAuthorities, now, nil, now)
	}
	if ctx.Err() != nil {
		return cause // whoever asked went away: it is nobody's fault
	}
	ctx = telemetry.WithActor(ctx, "service:conservation")
	f := fault.Of(cause)
	var since []time.Time
	err := o.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		_, err := q.BeginSigningOutage(ctx, db.BeginSigningOutageParams{Source: saysAuthorities, Since: now, Code: f.Code, Reason: f.Message})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		since, err = q.TellSigningOutage(ctx, db.TellSigningOutageParams{Source: saysAuthorities, Since: now.Add(-o.s.cfg.StampAlarm)})
		if err != nil || len(since) == 0 {
			return err
		}
		return o.tell(ctx, tx, since[0], f)
	})
	if err != nil {
		return fmt.Errorf("conservation: note that nothing can be stamped (%w): %w", cause, err)
	}
	if len(since) > 0 {
		o.s.log.ErrorContext(ctx, "no authority stamps: packages and reports wait", "since", since[0], "code", f.Code, "reason", f.Message)
	}
	return cause
}

// tell writes down and emits that an outage is one to know of.
func (o *outages) tell(ctx context.Context, tx pgx.Tx, since time.Time, f *fault.Fault) error {
	err := telemetry.Audit(ctx, tx, telemetry.Act{Action: "signing.stop", Resource: o.s.cfg.Credential, Detail: map[string]string{"code": f.Code, "reason": f.Message}})
	if err != nil {
		return err
	}
	return o.s.bus.Emit(ctx, tx, &conservationv1.SigningStopped{Since: timestamppb.New(since), Code: f.Code, Reason: f.Message})
}

// began notes an outage, and tells of it when it is new. It gives its cause on. What was asked for before the last outage ended is no new one:
// its answer was overtaken by that of somebody else, and whoever asked for it asks again.
func (o *outages) began(ctx context.Context, source string, cause error, certificate []byte, asked time.Time) error {
	f, at := fault.Of(cause), pg.Time(o.s.now())
	ctx = telemetry.WithActor(ctx, "service:conservation")
	first := false
	err := o.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		first, err = db.New(tx).BeginSigningOutage(ctx, db.BeginSigningOutageParams{Source: source, Since: at, Code: f.Code, Reason: f.Message, Certificate: certificate, Told: true})
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !first {
			return nil // it is known
		}
		if err != nil {
			return err
		}
		// Asked of the database now, when whoever was ending one has done so: the row above waited for that.
		overtaken, err := db.New(tx).SigningResumedSince(ctx, db.SigningResumedSinceParams{Source: source, Asked: asked, Until: at.Add(clocksApart)})
		if err == nil && overtaken {
			err = errOvertaken
		}
		if err != nil {
			return err
		}
		return o.tell(ctx, tx, at, f)
	})
	if errors.Is(err, errOvertaken) {
		return cause
	}
	if err != nil {
		return fmt.Errorf("conservation: note that nothing can be signed (%w): %w", cause, err)
	}
	if first {
		o.s.log.ErrorContext(ctx, "the archive's credential cannot sign: packages and reports wait", "credential", o.s.cfg.Credential, "code", f.Code, "reason", f.Message)
	}
	return cause
}

// ended ends an outage that is older than a signature. What an issuer said is ended by a signature with another certificate, or when the
// issuer says otherwise since: heard is when it was asked last, and zero when it did not answer.
func (o *outages) ended(ctx context.Context, source string, at time.Time, certificate []byte, heard time.Time) error {
	var over []db.EndSigningOutageRow
	ctx = telemetry.WithActor(ctx, "service:conservation")
	err := o.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		q := db.New(tx)
		over, err = q.EndSigningOutage(ctx, db.EndSigningOutageParams{Source: source, At: at, Certificate: certificate, Heard: heard})
		if err == nil && len(over) > 0 {
			err = q.SetSigningResumed(ctx, db.SetSigningResumedParams{Source: source, At: pg.Time(o.s.now())})
		}
		if err != nil || len(over) == 0 || !over[0].Told {
			return err
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "signing.resume", Resource: o.s.cfg.Credential})
		if err != nil {
			return err
		}
		return o.s.bus.Emit(ctx, tx, &conservationv1.SigningResumed{Since: timestamppb.New(over[0].Since)})
	})
	if err != nil {
		return fmt.Errorf("conservation: note that it can be signed again: %w", err)
	}
	if len(over) > 0 && over[0].Told {
		o.s.log.WarnContext(ctx, "it is signed and stamped again: what waited goes on", "credential", o.s.cfg.Credential, "source", source, "since", over[0].Since)
	}
	return nil
}

// list is why nothing can be signed now; nothing: it can.
func (o *outages) list(ctx context.Context) (rows []db.SigningOutage, err error) {
	err = o.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).SigningOutages(ctx)
		return err
	})
	return rows, err
}

// reportNotReady tells for how long it may last: what a person has to mend first is said.
func (s *Service) reportNotReady(ctx context.Context) error {
	stopped, err := s.outages.list(ctx)
	if err != nil {
		return err
	}
	if len(stopped) == 0 {
		return fault.Precondition("SUBMISSION_REPORT_NOT_READY", "the report is being signed: ask again in a second or two").WithRetryAfter(time.Second)
	}
	why := "the archive's credential cannot sign"
	if stopped[0].Source == saysAuthorities {
		why = "no authority stamps"
	}
	return fault.Precondition("SUBMISSION_REPORT_NOT_READY", "the report waits: since %s %s (%s); it is made by itself when that is mended",
		stopped[0].Since.UTC().Format(time.RFC3339), why, stopped[0].Code).WithRetryAfter(time.Minute)
}

// revokedNow says that an issuer takes a certificate back that was just used; nil: nobody says so. heard is when the issuers were asked, and
// zero when not all of them answered.
func (s *Service) revokedNow(ctx context.Context, chain []*x509.Certificate) (link *validation.Link, heard time.Time) {
	said, at := s.issuers.chain(ctx, chain)
	e, err := revocation.Read(said.Files()[revocation.Lists], said.Files()[revocation.Answers])
	if err != nil {
		return nil, time.Time{} // nothing that could be read was said
	}
	now := s.now()
	links := revocation.Judge(chain, e, now)
	if link, ok := revocation.Revoked(links, now); ok {
		return &link, at
	}
	if !revocation.Known(links) {
		return nil, time.Time{}
	}
	return nil, at
}

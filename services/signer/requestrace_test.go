package signer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

func (b *book) create(t testing.TB, r *signv1.SignatureRequest) *signv1.SignatureRequest {
	t.Helper()
	made, err := b.api.CreateSignatureRequest(context.Background(), createOf(r))
	require.NoError(t, err)
	return made
}

// ready is a call that may sign: its challenge is authorized in the table, since a round for each password that
// a phone shows would take minutes.
func (b *book) ready(t testing.TB, participant string, s *signatory) *signv1.SignSignatureRequestRequest {
	t.Helper()
	ch := s.challenge(t, b.view(t, participant))
	secret := sha256.Sum256([]byte(ch.GetName()))
	sum := sha256.Sum256(secret[:])
	b.exec(t, `UPDATE challenge SET state = 'AUTHORIZED', authorization_sha256 = $2, device_id = $3, authorized_at = now(), expires_at = now() + interval '5 minutes' WHERE id = $1`,
		uuid.MustParse(last(ch.GetName())), sum[:], uuid.MustParse(last(s.device)))
	return &signv1.SignSignatureRequestRequest{Participant: participant, Challenge: ch.GetName(), Authorization: base64.RawURLEncoding.EncodeToString(secret[:]), RequestId: uuid.NewString()}
}

func (b *book) sign(req *signv1.SignSignatureRequestRequest) error {
	for {
		_, err := b.api.SignSignatureRequest(context.Background(), req)
		if err == nil || fault.Of(err).Kind != fault.KindUnavailable {
			return err
		}
		time.Sleep(20 * time.Millisecond) // in another's hand: as RetryAfter says, only sooner
	}
}

// whole waits for the bundle of a closed request, and wants its trail to fit together and to tell as many
// signatures as are in the document.
func (b *book) whole(t testing.TB, name string) *dossier.Report {
	t.Helper()
	zipped := b.bundle(t, name)
	r, err := dossier.Verify(context.Background(), bytes.NewReader(zipped), validation.Options{At: time.Now()})
	require.NoError(t, err)
	require.Empty(t, r.Faults)
	signed := 0
	for _, e := range r.Events {
		if e.Action == "SIGNED" {
			signed++
		}
	}
	for _, d := range r.Documents {
		require.Len(t, d.Signatures, signed)
	}
	require.Equal(t, signed > 0, len(r.Documents) > 0)
	return r
}

func contract(i int) []*signv1.RequestDocument {
	return []*signv1.RequestDocument{document("contract.txt", attached, fmt.Appendf(nil, "contract %d of %s", i, uuid.NewString()))}
}

// TestRequestRaces: whoever comes at the same moment, one thing happens, and the trail tells which.
func TestRequestRaces(t *testing.T) {
	t.Parallel()
	b := openBook(t)
	first, second := b.signer(t, user(1)), b.signer(t, user(2))
	const rounds = 5
	outcomes := map[signv1.RequestState]int{}
	for i := range rounds {
		b.approversAtOnce(t, i)
		b.signersAtOnce(t, i, first, second)
		outcomes[b.signatureAgainst(t, i, first, func(r *signv1.SignatureRequest) error {
			_, err := b.api.RefuseSignatureRequest(context.Background(), &signv1.RefuseSignatureRequestRequest{Participant: at(r, 0, 1), Reason: "too dear", RequestId: uuid.NewString()})
			return err
		})]++
		outcomes[b.signatureAgainst(t, i, first, func(r *signv1.SignatureRequest) error {
			_, err := b.api.WithdrawSignatureRequest(context.Background(), &signv1.WithdrawSignatureRequestRequest{Name: r.GetName(), RequestId: uuid.NewString()})
			return err
		})]++
		b.signatureAgainstDeadline(t, i, second)
	}
	t.Logf("outcomes: %v", outcomes)
}

// approversAtOnce: of six one is enough; all approve at once.
func (b *book) approversAtOnce(t *testing.T, i int) {
	t.Helper()
	var people []*signv1.RequestParticipant
	for n := range 6 {
		people = append(people, approverOf(user(100+n)))
	}
	r := b.create(t, draft(contract(i), step(1, people...)))
	var won atomic.Int64
	hashes := make([][][]byte, len(people))
	for n := range people {
		hashes[n] = b.view(t, at(r, 0, n))
	}
	together(len(people), func(n int) {
		_, err := b.approve(at(r, 0, n), hashes[n])
		switch {
		case err == nil:
			won.Add(1)
		case fault.Of(err).Code != "REQUEST_CLOSED":
			t.Error(err)
		}
	})
	require.EqualValues(t, 1, won.Load())
	require.Equal(t, completed, b.get(t, r.GetName()).GetState())
	b.whole(t, r.GetName())
}

// signersAtOnce: both sign the same document at the same time, each call twice; both signatures are in it.
func (b *book) signersAtOnce(t *testing.T, i int, first, second *signatory) {
	t.Helper()
	r := b.create(t, draft(contract(i), step(0, signing(user(1)), signing(user(2)))))
	calls := []*signv1.SignSignatureRequestRequest{b.ready(t, at(r, 0, 0), first), b.ready(t, at(r, 0, 1), second)}
	together(4, func(n int) {
		err := b.sign(calls[n%2])
		for err != nil && fault.Of(err).Kind == fault.KindAborted {
			err = b.sign(calls[n%2])
		}
		if err != nil {
			t.Error(err)
		}
	})
	got := b.get(t, r.GetName())
	require.Equal(t, completed, got.GetState())
	_, report, err := cades.Verify(b.house.get(t, got.GetDocuments()[0].GetSigned()), cades.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, report.Err())
	require.Len(t, report.Signers, 2)
	b.whole(t, r.GetName())
}

// signatureAgainst: the last signature against something that closes the request.
func (b *book) signatureAgainst(t *testing.T, i int, s *signatory, end func(*signv1.SignatureRequest) error) signv1.RequestState {
	t.Helper()
	// Both have to act: the approver has in every second round, so that the signature is the last thing missing.
	r := b.create(t, draft(contract(i), step(2, signing(user(1)), approverOf(user(2)))))
	call := b.ready(t, at(r, 0, 0), s)
	hashes := b.view(t, at(r, 0, 1))
	if i%2 == 1 {
		_, err := b.approve(at(r, 0, 1), hashes)
		require.NoError(t, err)
	}
	b.withdrawOrSign(t, r, call, end)
	b.whole(t, r.GetName())
	return b.get(t, r.GetName()).GetState()
}

func (b *book) withdrawOrSign(t *testing.T, r *signv1.SignatureRequest, call *signv1.SignSignatureRequestRequest, end func(*signv1.SignatureRequest) error) {
	t.Helper()
	var signed, ended error
	together(2, func(n int) {
		if n == 0 {
			signed = b.sign(call)
		} else {
			ended = end(r)
		}
	})
	got := b.get(t, r.GetName())
	require.Equal(t, signed == nil, got.GetDocuments()[0].GetSigned() != nil, "%v", signed)
	if got.GetState() == completed {
		require.NoError(t, signed)
		require.Error(t, ended)
	}
	for _, err := range []error{signed, ended} {
		if err != nil {
			require.Contains(t, []string{"REQUEST_CLOSED", "PARTICIPANT_ACTED"}, fault.Of(err).Code, err)
		}
	}
	require.False(t, signed != nil && ended != nil, "one of both happened: %v", errors.Join(signed, ended))
	if signed != nil { // what was made is not released, nor is the challenge signed
		var state string
		require.NoError(t, pgtest.Admin(t, b.DB("signer")).QueryRow(context.Background(), `SELECT state FROM challenge WHERE id = $1`, uuid.MustParse(last(call.GetChallenge()))).Scan(&state))
		require.NotEqual(t, "SIGNED", state)
	}
}

// signatureAgainstDeadline: the deadline passes while it is signed.
func (b *book) signatureAgainstDeadline(t *testing.T, i int, s *signatory) {
	t.Helper()
	made := b.create(t, draft(contract(i), step(0, signing(user(2)))))
	call := b.ready(t, at(made, 0, 0), s)
	b.exec(t, `UPDATE signing_request SET deadline = now() + interval '1 millisecond' * $2 WHERE id = $1`, last(made.GetName()), 8*i)
	err := b.sign(call)
	if err != nil {
		require.Equal(t, "REQUEST_EXPIRED", fault.Of(err).Code, err)
	}
	b.exec(t, `UPDATE river_job SET scheduled_at = now() WHERE kind = 'request-time' AND state = 'scheduled' AND args->>'request' = $1`, last(made.GetName()))
	if err == nil {
		require.Equal(t, completed, b.get(t, made.GetName()).GetState())
		return
	}
	require.Nil(t, b.get(t, made.GetName()).GetDocuments()[0].GetSigned())
}

// TestRequestRefusals: what nobody may do.
func TestRequestRefusals(t *testing.T) {
	t.Parallel()
	b, ctx := openBook(t), t.Context()
	first, second := b.signer(t, user(1)), b.signer(t, user(2))
	for want, change := range map[string]func(*signv1.SignatureRequest){
		"DEADLINE_RANGE":        func(r *signv1.SignatureRequest) { r.Deadline = timestamppb.New(time.Now().Add(-time.Minute)) },
		"REMIND_INTERVAL":       func(r *signv1.SignatureRequest) { r.RemindInterval = durationpb.New(time.Minute) },
		"STEP_REQUIRED":         func(r *signv1.SignatureRequest) { r.Steps[0].Required = 2 },
		"SIGNER_UNKNOWN":        func(r *signv1.SignatureRequest) { r.Steps[0].Participants[0].Holder = "" },
		"LINK_FOR_APPROVER":     func(r *signv1.SignatureRequest) { r.Steps[0].Participants[0].RequireLink = true },
		"DOCUMENT_NOT_SIGNABLE": func(r *signv1.SignatureRequest) { r.Documents[0].Form = inPDF },
		"DOCUMENT_EMPTY":        func(r *signv1.SignatureRequest) { r.Documents[0].Source = nil },
		"HASH_TWICE":            func(r *signv1.SignatureRequest) { r.Documents = append(r.Documents, r.Documents[0]) },
		"CREDENTIAL_NOT_FOUND": func(r *signv1.SignatureRequest) {
			r.Steps[0].Participants[0].Credential = company + "/credentials/" + uuid.NewString()
		},
		"MANDATE_NOT_FOUND": func(r *signv1.SignatureRequest) {
			r.SealMandate = company + "/credentials/" + uuid.NewString() + "/mandates/" + uuid.NewString()
		},
	} {
		r := draft(contract(1), step(0, signing(user(1))))
		change(r)
		_, err := b.api.CreateSignatureRequest(ctx, createOf(r))
		refusedWith(t, want, err)
	}

	// Two sign a PDF in one step: who comes second has to view what the first has left.
	made := b.create(t, draft([]*signv1.RequestDocument{document("plan.pdf", inPDF, onePage("Plan"))}, step(0, signing(user(1)), signing(user(2)))))
	one, two := at(made, 0, 0), at(made, 0, 1)
	_, err := b.api.SignSignatureRequest(ctx, &signv1.SignSignatureRequestRequest{Participant: one, Challenge: first.challenge(t, [][]byte{bytes.Repeat([]byte{1}, 32)}).GetName(), Authorization: "AAAA", RequestId: uuid.NewString()})
	refusedWith(t, "NOT_VIEWED", err)
	foreign := b.ready(t, one, second)
	_, err = b.api.SignSignatureRequest(ctx, foreign)
	refusedWith(t, "CREDENTIAL_OF_ANOTHER", err)
	other := first.challenge(t, [][]byte{bytes.Repeat([]byte{1}, 32)})
	_, err = b.api.SignSignatureRequest(ctx, &signv1.SignSignatureRequestRequest{Participant: one, Challenge: other.GetName(), Authorization: "AAAA", RequestId: uuid.NewString()})
	refusedWith(t, "CHALLENGE_MISMATCH", err)
	late := b.ready(t, two, second)
	require.NoError(t, b.sign(b.ready(t, one, first)))
	_, err = b.api.SignSignatureRequest(ctx, late)
	refusedWith(t, "DOCUMENT_CHANGED", err)
	require.NoError(t, b.sign(b.ready(t, two, second)))
	require.Len(t, b.whole(t, made.GetName()).Documents[0].Signatures, 2)

	b.delegates(t)
	b.lists(t)
	b.trailIsKept(t)
}

// delegates: the delegate of a signer views, that of an approver may approve; another person takes a place.
func (b *book) delegates(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	made := b.create(t, draft(contract(2), step(0, approverOf(user(3))), step(0, signing(user(1)))))
	approver, signs := at(made, 0, 0), at(made, 1, 0)
	delegate := func(to string, approves bool) error {
		_, err := b.api.DelegateSignatureRequest(ctx, &signv1.DelegateSignatureRequestRequest{Participant: to, Delegate: &signv1.RequestDelegate{Holder: user(9), MayApprove: approves}, RequestId: uuid.NewString()})
		return err
	}
	refusedWith(t, "DELEGATE_MAY_APPROVE", delegate(signs, true))
	require.NoError(t, delegate(signs, false))
	_, err := b.api.ViewSignatureRequest(ctx, &signv1.ViewSignatureRequestRequest{Participant: signs, AsDelegate: true})
	require.NoError(t, err)
	require.Nil(t, b.get(t, made.GetName()).GetSteps()[1].GetParticipants()[0].GetViewTime(), "the delegate's view is not the signer's")
	stream, err := b.api.DownloadRequestDocument(ctx, &signv1.DownloadRequestDocumentRequest{Participant: signs, Position: 1, AsDelegate: true})
	require.NoError(t, err)
	got, err := stream.Recv()
	require.NoError(t, err)
	require.Contains(t, string(got.GetData()), "contract 2")
	_, err = b.api.ViewSignatureRequest(ctx, &signv1.ViewSignatureRequestRequest{Participant: approver, AsDelegate: true})
	refusedWith(t, "NO_DELEGATION", err)
	require.NoError(t, delegate(approver, true))
	v, err := b.api.ViewSignatureRequest(ctx, &signv1.ViewSignatureRequestRequest{Participant: approver, AsDelegate: true})
	require.NoError(t, err)
	_, err = b.approve(approver, seen(v))
	refusedWith(t, "NOT_VIEWED", err) // the principal has not
	_, err = b.api.ApproveSignatureRequest(ctx, &signv1.ApproveSignatureRequestRequest{Participant: approver, DocumentSha256: seen(v), AsDelegate: true, RequestId: uuid.NewString()})
	require.NoError(t, err)
	heir, err := b.api.ReassignSignatureRequest(ctx, &signv1.ReassignSignatureRequestRequest{Participant: signs, Successor: signing(user(2)), RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Equal(t, signv1.ParticipantState_PARTICIPANT_STATE_REPLACED, heir.GetSteps()[1].GetParticipants()[0].GetState())
	require.Equal(t, signv1.ParticipantState_PARTICIPANT_STATE_ASKED, heir.GetSteps()[1].GetParticipants()[1].GetState())
	_, err = b.api.RefuseSignatureRequest(ctx, &signv1.RefuseSignatureRequestRequest{Participant: at(heir, 1, 1), Reason: "not mine", RequestId: uuid.NewString()})
	require.NoError(t, err)
	report := b.whole(t, made.GetName())
	require.Equal(t, "REFUSED", report.Request.State)
	require.Equal(t, "not mine", report.Request.Reason)
}

// lists: what waits for whom; and reminders, by hand and by themselves.
func (b *book) lists(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	r := draft(contract(3), step(0, approverOf(user(41))), step(0, approverOf(user(42))))
	r.RemindInterval = durationpb.New(2 * time.Hour)
	made := b.create(t, r)
	waits := func(person string) int {
		page, err := b.api.ListSignatureRequests(ctx, &signv1.ListSignatureRequestsRequest{Parent: "tenants/acme", Person: person, Waiting: true})
		require.NoError(t, err)
		return len(page.GetSignatureRequests())
	}
	require.Equal(t, 1, waits(user(41)))
	require.Zero(t, waits(user(42)), "their step has not begun")
	_, err := b.approve(at(made, 0, 0), b.view(t, at(made, 0, 0)))
	require.NoError(t, err)
	require.Zero(t, waits(user(41)))
	require.Equal(t, 1, waits(user(42)))
	all, err := b.api.ListSignatureRequests(ctx, &signv1.ListSignatureRequestsRequest{Parent: "tenants/acme", State: isOpen, PageSize: 1})
	require.NoError(t, err)
	require.Equal(t, made.GetName(), all.GetSignatureRequests()[0].GetName())

	b.exec(t, `UPDATE signing_request SET created_at = created_at - interval '3 hours' WHERE id = $1`, last(made.GetName()))
	reminded := func() (n int) {
		require.NoError(t, pgtest.Admin(t, b.DB("signer")).QueryRow(ctx, `SELECT count(*) FROM signing_request_event WHERE request_id = $1 AND body LIKE '%"REMINDED"%'`, last(made.GetName())).Scan(&n))
		return n
	}
	b.Suspend("acme", "unpaid")
	due := `UPDATE river_job SET scheduled_at = now(), state = 'available' WHERE kind = 'request-time' AND args->>'request' = $1`
	b.exec(t, due, last(made.GetName()))
	eventually(t, "the job lets the suspended tenant's people be", func() (later bool) {
		require.NoError(t, pgtest.Admin(t, b.DB("signer")).QueryRow(ctx, `SELECT bool_and(scheduled_at > now() + interval '50 minutes') FROM river_job
			WHERE kind = 'request-time' AND args->>'request' = $1`, last(made.GetName())).Scan(&later))
		return later
	})
	require.Zero(t, reminded())
	b.Resume("acme")
	b.exec(t, due, last(made.GetName()))
	eventually(t, "the job reminds", func() bool { return reminded() == 1 })
	_, err = b.api.RemindSignatureRequest(ctx, &signv1.RemindSignatureRequestRequest{Name: made.GetName()})
	refusedWith(t, "REMINDED_TOO_OFTEN", err)
	b.exec(t, `UPDATE signing_request SET deadline = now() WHERE id = $1`, last(made.GetName()))
	b.exec(t, due, last(made.GetName()))
	eventually(t, "the job expires it", func() bool {
		return b.get(t, made.GetName()).GetState() == signv1.RequestState_REQUEST_STATE_EXPIRED
	})
	require.Equal(t, "EXPIRED", b.whole(t, made.GetName()).Request.State)
}

// trailIsKept: the service cannot change or remove a line, and a line that somebody else removed is seen.
func (b *book) trailIsKept(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	made := b.create(t, draft(contract(4), step(0, approverOf(user(5)))))
	err := b.DB("signer").System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, sql := range []string{`DELETE FROM signing_request_event`, `UPDATE signing_request_event SET sequence = sequence + 1000`} {
			tag, err := tx.Exec(ctx, sql)
			if err != nil {
				return err
			}
			if tag.RowsAffected() != 0 {
				return fmt.Errorf("%s: %d rows", sql, tag.RowsAffected())
			}
		}
		return nil
	})
	require.NoError(t, err)
	b.view(t, at(made, 0, 0))
	b.exec(t, `DELETE FROM signing_request_event WHERE request_id = $1 AND sequence = 2`, last(made.GetName()))
	_, err = b.api.WithdrawSignatureRequest(ctx, &signv1.WithdrawSignatureRequestRequest{Name: made.GetName(), RequestId: uuid.NewString()})
	require.NoError(t, err)
	eventually(t, "the bundle is not made", func() bool {
		var n int
		require.NoError(t, pgtest.Admin(t, b.DB("signer")).QueryRow(ctx, `SELECT count(*) FROM parked_event WHERE consumer = 'request-bundle'`).Scan(&n))
		return n == 1
	})
	require.Nil(t, b.get(t, made.GetName()).GetBundleTime())
}

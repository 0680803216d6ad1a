package signer_test

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/signer"
	"ceralacca.dev/services/signer/internal/db"
)

const crowd = 1000

// patient bounds calls that a crowd makes at the same moment, or that have five hundred signatures made: against a hang, and
// no more, for it may be a loaded machine with the race detector on.
func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// together runs fn from n goroutines, as near to the same moment as can be.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}

// TestOneCodeOneWinner: one code on a thousand challenges at the same time, with nothing else in the
// way: not Vault's memory, not the counters. The statement decides.
func TestOneCodeOneWinner(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), context.Background()
	s := h.signatory(t, p256)
	_, hashes := hashesOf(1)
	s.challenge(t, hashes)
	h.exec(t, `INSERT INTO challenge (id, tenant_id, credential_id, caller, hashes, digest, state, expires_at, created_at)
		SELECT gen_random_uuid(), tenant_id, credential_id, caller, hashes, digest, state, expires_at, created_at
		FROM challenge, generate_series(2, $1::int)`, crowd)
	store := h.DB("signer")
	rows, err := pgtest.Admin(t, store).Query(ctx, `SELECT id FROM challenge`)
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	require.Len(t, ids, crowd)
	var caller string
	require.NoError(t, pgtest.Admin(t, store).QueryRow(ctx, `SELECT caller FROM challenge LIMIT 1`).Scan(&caller))
	mac := sha256.Sum256([]byte("the same code"))
	// The same six digits were another password, hours ago: it does not spend this one.
	h.exec(t, `INSERT INTO otp_spent (tenant_id, device_id, mac, spent_at) VALUES ('acme', $1, $2, now() - interval '2 hours')`, last(s.device), mac[:])
	var won, errs atomic.Int32
	together(crowd, func(i int) {
		now := pg.Time(time.Now())
		secret := sha256.Sum256(ids[i][:])
		err := store.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			n, err := db.New(tx).Authorize(ctx, db.AuthorizeParams{
				ID: ids[i], Caller: caller, AuthorizationSha256: secret[:], At: &now, ExpiresAt: now.Add(time.Minute),
				PinRight: true, OtpRight: true, PinVersion: 1, DeviceID: uuid.MustParse(last(s.device)), Mac: mac[:], Forget: now.Add(-time.Hour),
			})
			won.Add(int32(n)) //nolint:gosec // 0 or 1
			return err
		})
		if err != nil {
			errs.Add(1)
		}
	})
	require.Zero(t, errs.Load())
	require.EqualValues(t, 1, won.Load())
	var authorized int
	require.NoError(t, pgtest.Admin(t, store).QueryRow(ctx, `SELECT count(*) FROM challenge WHERE state = 'AUTHORIZED'`).Scan(&authorized))
	require.Equal(t, 1, authorized)
}

// TestOneCodeThroughTheAPI: a thousand calls with one right PIN and code against one challenge, in the
// way that everybody has to go. What decides here is the challenge's state as much as the code, which
// TestOneCodeOneWinner lets decide alone.
func TestOneCodeThroughTheAPI(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), patient(t)
	s := h.signatory(t, p256)
	_, hashes := hashesOf(1)
	ch, otp := s.challenge(t, hashes), s.phone.code()
	var won atomic.Int32
	var other sync.Map
	together(crowd, func(int) {
		_, err := s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: otp})
		if err == nil {
			won.Add(1)
			return
		}
		other.Store(fault.Of(err).Code, true)
	})
	require.EqualValues(t, 1, won.Load())
	other.Range(func(code, _ any) bool {
		require.Contains(t, []any{"CHALLENGE_CLOSED", "AUTHENTICATION_FAILED", "AUTHENTICATION_LOCKED"}, code)
		return true
	})
}

// TestOneAuthorizationOneWinner: a thousand requests bring one authorization; one of them has it.
func TestOneAuthorizationOneWinner(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), patient(t)
	s := h.signatory(t, p256)
	_, hashes := hashesOf(3)
	ch := s.challenge(t, hashes)
	secret := s.authorize(t, ch)
	var won, used atomic.Int32
	var other sync.Map
	together(crowd, func(int) {
		_, err := s.auth.SignHashes(ctx, &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: secret, DocumentSha256: hashes, RequestId: uuid.NewString()})
		switch {
		case err == nil:
			won.Add(1)
		case fault.Of(err).Code == "AUTHORIZATION_USED":
			used.Add(1)
		default:
			other.Store(err.Error(), true)
		}
	})
	other.Range(func(err, _ any) bool { t.Error(err); return true })
	require.EqualValues(t, 1, won.Load())
	require.EqualValues(t, crowd-1, used.Load())
}

// TestNoCodeTwiceAcrossRestarts: Vault forgets which codes it saw when it restarts; we do not, also
// when we restart too.
func TestNoCodeTwiceAcrossRestarts(t *testing.T) {
	t.Parallel()
	ownVault(t)
	h, ctx := open(t), context.Background()
	s := h.signatory(t, p256)
	_, hashes := hashesOf(1)
	for time.Now().Unix()%30 > 10 { // all of it within one step
		time.Sleep(100 * time.Millisecond)
	}
	first, second := s.challenge(t, hashes), s.challenge(t, hashes)
	step := time.Now().Unix() / 30
	otp := s.phone.at(step + 1) // right for the longest time
	_, err := s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: first.GetName(), Pin: goodPIN, Otp: otp})
	require.NoError(t, err)

	h.Stop()
	require.NoError(t, h.vault.Stop())
	require.NoError(t, h.vault.Restart(ctx))
	store := pgtest.Again(t, h.DB("signer"))
	process := runtest.Start(t, runtest.Options{
		Targets: []run.Target{signer.Target}, Config: h.config, DB: map[string]*pg.DB{"signer": store},
	})
	var caller string
	require.NoError(t, pgtest.Admin(t, store).QueryRow(ctx, `SELECT caller FROM challenge LIMIT 1`).Scan(&caller))
	key := process.Key(auth.Caller{ID: caller[len("key:"):], Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
	api := signv1.NewAuthorizationServiceClient(process.DialKey("signer", key))
	_, err = api.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: second.GetName(), Pin: goodPIN, Otp: otp})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")

	// Vault alone would have taken it.
	require.NoError(t, h.vault.Stop())
	require.NoError(t, h.vault.Restart(ctx))
	root, err := h.vault.Client()
	require.NoError(t, err)
	answer, err := root.Logical().Write("totp/code/ceralacca-otp-"+last(s.device), map[string]any{"code": otp})
	require.NoError(t, err)
	require.Equal(t, true, answer.Data["valid"])
}

func TestLockOutAndItsEnd(t *testing.T) {
	t.Parallel()
	h, ctx := openWith(t, nil, "  authorization: {lock: 1h}\n"), context.Background()
	s := h.signatory(t, p256)
	_, hashes := hashesOf(1)
	ch := s.challenge(t, hashes)
	try := func(pin, otp string) error {
		_, err := s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: pin, Otp: otp})
		return err
	}
	burnt := s.phone.code()
	wrongPIN, wrongOTP := try("40718361", burnt), try(goodPIN, "000000")
	code(t, wrongPIN, fault.KindDenied, "AUTHENTICATION_FAILED")
	code(t, wrongOTP, fault.KindDenied, "AUTHENTICATION_FAILED")
	require.Equal(t, fault.Of(wrongPIN).Message, fault.Of(wrongOTP).Message, "one text for both")
	code(t, try(goodPIN, burnt), fault.KindDenied, "AUTHENTICATION_FAILED")
	var spent int
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT count(*) FROM otp_spent`).Scan(&spent))
	require.Equal(t, 2, spent, "the one of the enrolment, and the right one beside the wrong PIN")
	code(t, try(goodPIN, s.phone.at(0)), fault.KindPrecondition, "CHALLENGE_CLOSED") // three on one challenge
	ch = s.challenge(t, hashes)
	otp := s.phone.code()
	code(t, try("40718361", "000000"), fault.KindDenied, "AUTHENTICATION_FAILED")
	code(t, try("40718361", "000001"), fault.KindDenied, "AUTHENTICATION_FAILED")
	ch = s.challenge(t, hashes)
	err := try(goodPIN, otp)
	code(t, err, fault.KindExhausted, "AUTHENTICATION_LOCKED")
	require.Positive(t, fault.Of(err).RetryAfter)
	_, err = s.auth.SetPin(ctx, &signv1.SetPinRequest{Name: s.name, NewPin: "59260471", Pin: goodPIN, Otp: otp})
	code(t, err, fault.KindExhausted, "AUTHENTICATION_LOCKED")                                   // by no other door
	h.exec(t, `UPDATE authentication_guard SET locked_until = locked_until - interval '1 hour'`) // the hour passes
	require.NoError(t, try(goodPIN, otp), "the lock has ended, and judged nothing meanwhile")

	var failures, locks int
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT failures, locks FROM authentication_guard WHERE subject = $1`, s.name).Scan(&failures, &locks))
	require.Zero(t, failures+locks, "a success clears the credential")
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT failures FROM authentication_guard WHERE subject = $1`, holder).Scan(&failures))
	require.Equal(t, 5, failures, "and not what the holder did elsewhere")

	// Guesses at the same time are not more than guesses one after the other.
	h.exec(t, `UPDATE authentication_guard SET failures = 0, locks = 0, locked_until = NULL`)
	var judged atomic.Int32
	challenges := make([]string, 50)
	for i := range challenges {
		challenges[i] = s.challenge(t, hashes).GetName()
	}
	together(len(challenges), func(i int) {
		_, err := s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: challenges[i], Pin: "40718361", Otp: "000000"})
		if fault.Of(err).Code == "AUTHENTICATION_FAILED" {
			judged.Add(1)
		}
	})
	require.EqualValues(t, 5, judged.Load())
}

func TestVaultGoesAwayWhileAPersonSigns(t *testing.T) {
	t.Parallel()
	ownVault(t)
	vaultOf(t).patience = 20 * time.Second // a batch of RSA takes its time on a loaded machine
	h, ctx := open(t), context.Background()
	s := h.signatory(t, rsa3072)
	documents, hashes := hashesOf(300)
	ch := s.challenge(t, hashes)
	secret := s.authorize(t, ch)
	root, err := h.vault.Client()
	require.NoError(t, err)
	unjudged := s.challenge(t, hashes)

	require.NoError(t, root.Sys().Seal())
	req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: secret, DocumentSha256: hashes, RequestId: uuid.NewString()}
	_, err = s.auth.SignHashes(ctx, req)
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind, "%v", err)
	_, err = s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: unjudged.GetName(), Pin: goodPIN, Otp: "000000"})
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind, "%v", err)
	require.NoError(t, h.vault.Stop())
	require.NoError(t, h.vault.Restart(ctx))

	// In the middle: some batches are signed, the others never come back.
	_, before := h.batches(t, 0)
	broken := make(chan error, 1)
	go func() {
		_, err := s.auth.SignHashes(patient(t), req)
		broken <- err
	}()
	eventually(t, "a batch is signed", func() bool {
		b, _ := h.batches(t, before)
		return b.signed > 0
	})
	require.NoError(t, h.vault.Pause())
	b, _ := h.batches(t, before)
	require.NotZero(t, b.signed)
	require.Less(t, b.signed, len(hashes), "not all were signed yet")
	require.NoError(t, h.vault.Kill())
	require.Equal(t, fault.KindUnavailable, fault.Of(<-broken).Kind)
	now, err := s.auth.GetChallenge(ctx, &signv1.GetChallengeRequest{Name: ch.GetName()})
	require.NoError(t, err)
	require.Equal(t, signv1.ChallengeState_CHALLENGE_STATE_SIGNING, now.GetState())
	var released int
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT count(*) FROM challenge WHERE signed_sha256 IS NOT NULL`).Scan(&released))
	require.Zero(t, released, "nothing half signed")

	require.NoError(t, h.vault.Restart(ctx))
	stranger := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: secret, DocumentSha256: hashes, RequestId: uuid.NewString()}
	_, err = s.auth.SignHashes(ctx, stranger)
	code(t, err, fault.KindPrecondition, "AUTHORIZATION_USED")
	var signed *signv1.SignHashesResponse
	eventually(t, "the same request goes on", func() bool {
		signed, err = s.auth.SignHashes(ctx, req)
		return err == nil
	})
	require.Len(t, signed.GetSignatures(), len(hashes))
	h.opensslAcceptsDetached(t, signed.GetSignatures()[299].GetCms(), documents[299])
	var failures int
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT failures FROM authentication_guard WHERE subject = $1`, s.name).Scan(&failures))
	require.Zero(t, failures, "what Vault could not judge is not held against anybody")
}

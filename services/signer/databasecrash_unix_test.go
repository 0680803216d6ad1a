//go:build unix

package signer_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// lazyLog is a database server whose log goes to disk only with a commit that waits for it: the process that writes it
// from time to time is halted. What such a commit has not brought to disk is gone when the server is killed.
type lazyLog struct {
	*postgres.Cluster
	pool   *pgxpool.Pool // of the service
	writer int
}

func (l *lazyLog) halt(t *testing.T) {
	t.Helper()
	eventually(t, "the server has started what writes its log", func() bool {
		return l.look(t, `SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'`, &l.writer) == nil
	})
	require.NoError(t, syscall.Kill(l.writer, syscall.SIGSTOP))
}

// look reads one value with a connection of its own, since those before a crash are dead.
func (l *lazyLog) look(t *testing.T, query string, to any, args ...any) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), l.URL(pgtest.DurableName))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	return conn.QueryRow(t.Context(), "SELECT * FROM ("+query+") q", args...).Scan(to)
}

// crash kills the server, and starts it again.
func (l *lazyLog) crash(t *testing.T) {
	t.Helper()
	require.NoError(t, l.Kill())
	require.NoError(t, syscall.Kill(l.writer, syscall.SIGKILL))
	err := l.Restart(t.Context())
	for range 100 { // the memory of a process that was killed is given back a moment after it has gone
		if err == nil {
			break
		}
		require.ErrorContains(t, err, "pre-existing shared memory block")
		time.Sleep(20 * time.Millisecond)
		err = l.Restart(t.Context())
	}
	require.NoError(t, err)
	l.pool.Reset() // its connections are dead, and no call shall be the one that finds it
	l.halt(t)
}

func (l *lazyLog) number(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, l.look(t, query, &n, args...))
	return n
}

// TestDatabaseKilledAroundAnAuthorization: commits that do not wait for the disk lose nothing that anybody was told the
// outcome of. A challenge may be lost, and its caller is told to make another; an attempt is still counted when its
// outcome was answered, right, wrong or an error.
func TestDatabaseKilledAroundAnAuthorization(t *testing.T) {
	t.Parallel()
	server := &lazyLog{Cluster: durable(t)}
	ownVault(t) // it refuses us at the end
	h := open(t)
	s := h.signatory(t, p256)
	server.pool = h.DB("signer").Pool()
	server.halt(t)
	t.Cleanup(func() { _ = syscall.Kill(server.writer, syscall.SIGCONT) })
	_, hashes := hashesOf(2)
	try := func(ch *signv1.Challenge, pin, otp string) (string, error) {
		given, err := s.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: pin, Otp: otp})
		return given.GetAuthorization(), err
	}
	const failures = `SELECT failures FROM signer.authentication_guard WHERE subject = $1`
	const attempts = `SELECT attempts FROM signer.challenge WHERE id = $1`
	const outcomes = `SELECT count(*) FROM signer.audit_entry WHERE action = 'challenge.authorize' AND resource = $1 AND outcome = $2`
	id := func(ch *signv1.Challenge) uuid.UUID { return uuid.MustParse(ch.GetName()[len(ch.GetName())-36:]) }

	t.Run("a challenge that was answered, and nothing after it", func(t *testing.T) {
		lost := false
		for range 5 {
			ch := s.challenge(t, hashes)
			server.crash(t)
			_, err := s.auth.GetChallenge(t.Context(), &signv1.GetChallengeRequest{Name: ch.GetName()})
			if err == nil {
				continue // another commit of the service brought it to disk
			}
			lost = true
			code(t, err, fault.KindNotFound, "CHALLENGE_NOT_FOUND")
			_, err = try(ch, goodPIN, "000000")
			code(t, err, fault.KindNotFound, "CHALLENGE_NOT_FOUND")
			require.Contains(t, fault.Of(err).Message, "make another")
			require.Zero(t, server.number(t, failures, s.name), "nothing was judged")
			break
		}
		require.True(t, lost, "it does not wait for the disk")
	})
	t.Run("a wrong attempt that was answered", func(t *testing.T) {
		ch := s.challenge(t, hashes)
		_, err := try(ch, "40718361", "000000")
		code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
		server.crash(t)
		require.Equal(t, 1, server.number(t, failures, s.name))
		require.Equal(t, 1, server.number(t, failures, holder))
		require.Equal(t, 1, server.number(t, attempts, id(ch)))
		require.Equal(t, 1, server.number(t, outcomes, ch.GetName(), "AUTHENTICATION_FAILED"))
	})
	t.Run("the wrong attempt that locks", func(t *testing.T) {
		for n := range 4 {
			_, err := try(s.challenge(t, hashes), "40718361", "000000")
			code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
			server.crash(t)
			require.Equal(t, 2+n, server.number(t, failures, s.name))
		}
		ch := s.challenge(t, hashes)
		_, err := try(ch, goodPIN, "000000")
		code(t, err, fault.KindExhausted, "AUTHENTICATION_LOCKED")
		h.exec(t, `UPDATE authentication_guard SET failures = 0, locks = 0, locked_until = NULL`)
	})
	t.Run("a right attempt that was answered", func(t *testing.T) {
		ch, password := s.challenge(t, hashes), s.phone.code()
		given, err := try(ch, goodPIN, password)
		require.NoError(t, err)
		server.crash(t)
		require.Equal(t, 1, server.number(t, outcomes, ch.GetName(), "ok"))
		req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given, DocumentSha256: hashes, RequestId: uuid.NewString()}
		signed, err := s.auth.SignHashes(t.Context(), req)
		require.NoError(t, err)
		server.crash(t)
		repeated, err := s.auth.SignHashes(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, signed.GetSignatures()[0].GetCms(), repeated.GetSignatures()[0].GetCms())
		req.RequestId = uuid.NewString()
		_, err = s.auth.SignHashes(t.Context(), req)
		code(t, err, fault.KindPrecondition, "AUTHORIZATION_USED")
		_, err = try(s.challenge(t, hashes), goodPIN, password)
		code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	})
	t.Run("an attempt whose error was answered", func(t *testing.T) {
		before := server.number(t, failures, s.name)
		root, err := h.vault.Client()
		require.NoError(t, err)
		require.NoError(t, root.Sys().PutPolicyWithContext(t.Context(), "signer", `path "sys/health" { capabilities = ["read"] }`))
		ch := s.challenge(t, hashes)
		_, err = try(ch, goodPIN, "000000")
		code(t, err, fault.KindInternal, "VAULT_DENIED")
		server.crash(t)
		require.Equal(t, before+1, server.number(t, failures, s.name))
		require.Equal(t, 1, server.number(t, attempts, id(ch)))
		require.Equal(t, 1, server.number(t, outcomes, ch.GetName(), "VAULT_DENIED"))
	})
}

package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
	"ceralacca.dev/services/signer/internal/db"
)

// batches are the calls for signatures in Vault's audit log.
type batches struct {
	asked  []int // digests of each call
	signed int   // digests of the calls that were answered
	most   int   // calls under way at the same time
}

// batches reads the audit log from line after on, and says how many lines there are.
func (h *house) batches(t testing.TB, after int) (b batches, lines int) {
	t.Helper()
	raw, err := os.ReadFile(h.audit)
	require.NoError(t, err)
	all := bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))
	flying := 0
	for _, line := range all[min(after, len(all)):] {
		if !bytes.Contains(line, []byte(`"path":"transit/sign/`)) {
			continue
		}
		var entry struct {
			Type    string
			Error   string
			Request struct {
				Data struct {
					Batch []any `json:"batch_input"`
				}
			}
		}
		if json.Unmarshal(line, &entry) != nil {
			continue // it is being written
		}
		n := len(entry.Request.Data.Batch)
		switch {
		case entry.Type == "request":
			b.asked = append(b.asked, n)
			flying++
			b.most = max(b.most, flying)
		case entry.Type == "response" && entry.Error == "":
			b.signed += n
			flying--
		}
	}
	return b, len(all)
}

func (b batches) digests() (n int) {
	for _, one := range b.asked {
		n += one
	}
	return n
}

// TestAbandonedDigestsAreNotSigned: what waits for Vault when its caller goes away is not sent any more.
func TestAbandonedDigestsAreNotSigned(t *testing.T) {
	t.Parallel()
	ownVault(t)
	vaultOf(t).patience = 20 * time.Second // it is not away here
	h := openWith(t, nil, "  parallel: 400\n")
	s := h.signatory(t, p256)
	_, hashes := hashesOf(400)
	warm := s.challenge(t, hashes[:1]) // the key is looked at before its first signature
	_, err := s.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: warm.GetName(), Authorization: s.authorize(t, warm), DocumentSha256: hashes[:1], RequestId: uuid.NewString()})
	require.NoError(t, err)
	ch := s.challenge(t, hashes)
	secret := s.authorize(t, ch)
	_, before := h.batches(t, 0)
	require.NoError(t, h.vault.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = s.auth.SignHashes(ctx, &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: secret, DocumentSha256: hashes, RequestId: uuid.NewString()})
	require.Error(t, err)
	require.NoError(t, h.vault.Resume())
	eventually(t, "what was under way comes back", func() bool {
		b, _ := h.batches(t, before)
		return len(b.asked) > 0 && b.signed == b.digests()
	})
	_, err = s.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: hashes[:1]})
	require.NoError(t, err, "it lives")
	b, _ := h.batches(t, before)
	require.LessOrEqual(t, b.digests(), 2*16, "two batches were under way, and nobody wants the others")
	require.NotZero(t, b.digests())
}

// TestDocumentsInMemoryAreBounded: requests that bring more than fits together wait for each other, and are told to come
// again when that takes too long; nothing of theirs has happened.
func TestDocumentsInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	roots := filepath.Join(t.TempDir(), "tsa.pem")
	require.NoError(t, os.WriteFile(roots, authority.CertPEM(), 0o600))
	stamps, err := tsa.New(tsa.Options{CA: authority, Name: "slow"})
	require.NoError(t, err)
	asked, open := make(chan struct{}, 16), make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		asked <- struct{}{}
		<-open
		r.Body = io.NopCloser(bytes.NewReader(body))
		stamps.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	d := &desk{house: openWith(t, nil, fmt.Sprintf("  documents: {max_size: 1048576, max_held: 1048576}\n  tsa: [{name: slow, url: %q, ca_file: %q, timeout: 1m}]\n", web.URL, roots))}
	d.api = signv1.NewDocumentServiceClient(d.Tenant("signer", "acme", "documents.sign", "documents.stamp", "credentials.write", "credentials.read"))
	d.cred = d.credential(t, company, seal, p256).GetName()
	m := d.mandate(t, 10, 10, attached)
	large := d.request(m, attached, bytes.Repeat([]byte("a"), 700<<10))
	large.Timestamp = true
	first, ctx := make(chan error, 1), patient(t)
	go func() {
		_, err := d.api.SignDocuments(ctx, large)
		first <- err
	}()
	<-asked
	other := d.request(m, attached, bytes.Repeat([]byte("b"), 700<<10))
	_, err = d.api.SignDocuments(patient(t), other)
	require.Error(t, err)
	require.Equal(t, "DOCUMENTS_BUSY", fault.Of(err).Code)
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
	require.Positive(t, fault.Of(err).RetryAfter)
	_, err = d.api.SignDocuments(patient(t), d.request(m, attached, []byte("a small one")))
	require.NoError(t, err, "what fits beside it need not wait")
	got, err := d.api.GetMandate(t.Context(), &signv1.GetMandateRequest{Name: m.GetName()})
	require.NoError(t, err)
	require.EqualValues(t, 2, got.GetUsedDocuments(), "who was told to come again was not counted")
	close(open)
	require.NoError(t, <-first)
	_, err = d.api.SignDocuments(patient(t), other)
	require.NoError(t, err)
}

// TestMandateEndsWhileItSigns: what was counted is signed while the mandate holds, and for an hour; then nothing of it is
// released any more, and what it would have been for is not held back.
func TestMandateEndsWhileItSigns(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	m := d.mandate(t, 10, 10, attached)
	doc := []byte("contract")
	req := d.request(m, attached, doc)
	req.Timestamp = true
	for _, s := range []*tsa.Server{d.first, d.next} {
		require.NoError(t, s.SetFault(tsa.Fault{Mode: tsa.FaultUnavailable}))
	}
	refusedWith := func(want string) {
		t.Helper()
		_, err := d.api.SignDocuments(t.Context(), req)
		require.Error(t, err)
		require.Equal(t, want, fault.Of(err).Code, "%v", err)
	}
	refusedWith("TSA_UNAVAILABLE") // counted, not signed
	for _, s := range []*tsa.Server{d.first, d.next} {
		require.NoError(t, s.SetFault(tsa.Fault{}))
	}
	id := last(m.GetName())
	d.exec(t, `UPDATE mandate SET valid_until = now() - interval '1 second' WHERE id = $1`, id)
	refusedWith("MANDATE_REFUSED")
	d.exec(t, `UPDATE mandate SET valid_until = now() + interval '1 hour' WHERE id = $1`, id)
	d.exec(t, `UPDATE document_signing SET created_at = created_at - interval '1 hour' WHERE mandate_id = $1`, id)
	refusedWith("SIGNING_OVER")

	d.exec(t, `UPDATE document_signing SET created_at = created_at + interval '1 hour' WHERE mandate_id = $1`, id)

	// The same at the record, for what was begun in time and took long.
	store, undone := d.DB("signer"), errors.New("undone")
	var row uuid.UUID
	require.NoError(t, pgtest.Admin(t, store).QueryRow(t.Context(), `SELECT id FROM document_signing WHERE mandate_id = $1`, id).Scan(&row))
	record := func(at, begunAfter time.Time) (n int64) {
		now := pg.Time(at)
		require.ErrorIs(t, store.Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			var err error
			n, err = db.New(tx).RecordDocumentSigning(ctx, db.RecordDocumentSigningParams{
				ID: row, SignedSha256: [][]byte{hashOf(doc)}, SignedSizes: []int64{8}, SigningTime: &now, At: &now, Now: now, BegunAfter: pg.Time(begunAfter),
			})
			require.NoError(t, err)
			return undone
		}), undone)
		return n
	}
	now := time.Now()
	require.EqualValues(t, 1, record(now, now.Add(-time.Hour)))
	require.Zero(t, record(now.Add(2*time.Hour), now.Add(-time.Hour)), "the mandate is over")
	require.Zero(t, record(now, now.Add(time.Second)), "the hour is over")
	needed := func(begunAfter time.Time) (n int) {
		require.NoError(t, store.Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			rows, err := db.New(tx).NeedsOf(ctx, db.NeedsOfParams{TenantID: "acme", Sums: [][]byte{hashOf(doc)}, Now: pg.Time(time.Now()), BegunAfter: pg.Time(begunAfter)})
			n = len(rows)
			return err
		}))
		return n
	}
	require.Equal(t, 1, needed(now.Add(-time.Hour)))
	require.Zero(t, needed(now.Add(time.Second)), "nobody finishes it any more")
	_, err := d.api.SignDocuments(t.Context(), req)
	require.NoError(t, err)
	got, err := d.api.GetMandate(t.Context(), &signv1.GetMandateRequest{Name: m.GetName()})
	require.NoError(t, err)
	require.EqualValues(t, 1, got.GetUsedDocuments())
}

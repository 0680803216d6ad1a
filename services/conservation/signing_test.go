package conservation

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
)

// books are the databases of archive and signer, each by one connection.
type books struct{ archive, signer *pgx.Conn }

func (h *house) openBooks(t testing.TB) books {
	return books{pgtest.Admin(t, h.DB("conservation")), pgtest.Admin(t, h.DB("signer"))}
}

// count counts rows of the archive.
func (b books) count(t testing.TB, from string) (n int) {
	t.Helper()
	require.NoError(t, b.archive.QueryRow(context.Background(), "SELECT count(*) FROM "+from).Scan(&n))
	return n
}

// orders are those that the signer has of a subject and what is below it; of all for none.
func (b books) orders(t testing.TB, subject string) (n int) {
	t.Helper()
	require.NoError(t, b.signer.QueryRow(context.Background(), `SELECT count(*) FROM signature WHERE starts_with(subject, $1)`, subject).Scan(&n))
	return n
}

// told counts what was said of signing.
func (h *house) told() (stopped, resumed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.unsigned), h.signedAgain
}

func idOf(t testing.TB, name string) uuid.UUID {
	t.Helper()
	id, err := uuid.Parse(path.Base(name))
	require.NoError(t, err)
	return id
}

func (h *house) credentials(t testing.TB) (names []string) {
	t.Helper()
	list, err := h.sign.ListCredentials(context.Background(), &signv1.ListCredentialsRequest{Parent: platform})
	require.NoError(t, err)
	for _, c := range list.GetCredentials() {
		if c.GetState() == signv1.CredentialState_CREDENTIAL_STATE_ACTIVE {
			names = append(names, c.GetName())
		}
	}
	return names
}

// TestSigningStops: while the credential cannot sign, packages, reports, distributions and exports wait; however often they are tried the
// signer keeps no order of them, what they say of the log may have changed meanwhile; it is told once, and goes on by itself.
func TestSigningStops(t *testing.T) {
	t.Parallel()
	h, _ := openLogged(t)
	ctx, s, tenant, b := telemetry.WithActor(context.Background(), "test"), h.service, "acme", h.openBooks(t)
	shelve(t, h)
	first := h.units(t, "")[0].GetName()
	manage := signv1.NewCredentialServiceClient(h.Operator("signer"))
	api, operator := h.producer(), h.storageClient()
	transfer := conservationv1.NewTransferServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	ways := map[string]struct {
		stop, mend func(t *testing.T, credential string)
	}{
		"suspended": {
			func(t *testing.T, credential string) {
				_, err := manage.SuspendCredential(ctx, &signv1.SuspendCredentialRequest{Name: credential, Reason: "lost"})
				require.NoError(t, err)
			},
			func(t *testing.T, credential string) {
				_, err := manage.ReactivateCredential(ctx, &signv1.ReactivateCredentialRequest{Name: credential})
				require.NoError(t, err)
			},
		},
		"revoked": {
			func(t *testing.T, credential string) {
				_, err := h.sign.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: credential})
				require.NoError(t, err)
			},
			func(t *testing.T, _ string) { h.certify(t) },
		},
		"expired": {
			func(t *testing.T, credential string) {
				_, err := b.signer.Exec(ctx, `UPDATE credential SET not_after = now() WHERE id = $1`, idOf(t, credential))
				require.NoError(t, err)
			},
			func(t *testing.T, _ string) { h.certify(t) },
		},
	}
	for n, name := range []string{"suspended", "revoked", "expired"} {
		t.Run(name, func(t *testing.T) {
			active := h.credentials(t)
			require.Len(t, active, 1)
			ways[name].stop(t, active[0])
			before := b.orders(t, "")

			key := "lettera-" + name
			content := []byte(strings.Replace(string(aPDF), "%%EOF", "% "+name+"\n%%EOF", 1))
			deposit := hand(t, api, headOf(key, key+".pdf", content), content)
			h.settle(t, ctx, h.invoice(t, 100+n))
			taken := 3 + 7*n + 2
			h.await(t, "taken", func() bool { return b.count(t, "unit") == taken })
			pack := h.closePackage(t)
			shown, err := h.reader().CreateDistribution(ctx, &conservationv1.CreateDistributionRequest{Parent: "tenants/acme", Units: []string{first}})
			require.NoError(t, err)
			export, err := transfer.CreateExport(ctx, &conservationv1.CreateExportRequest{Parent: "tenants/acme"})
			require.NoError(t, err)
			checked, err := conservationv1.NewCheckServiceClient(h.Operator("conservation")).RunCheck(ctx, &conservationv1.RunCheckRequest{Kind: conservationv1.CheckKind_CHECK_KIND_INVENTORY})
			require.NoError(t, err)
			h.await(t, "checked", func() bool {
				row, err := s.report(ctx, idOf(t, checked.GetName()))
				require.NoError(t, err)
				return row.State != "RUNNING"
			})
			attempts := []func() error{
				func() error { return s.seal(ctx, &river.Job[SealArgs]{Args: sealArgs(t, pack.GetName())}) },
				func() error {
					return s.reportDeposit(ctx, &river.Job[rdvArgs]{Args: rdvArgs{Tenant: tenant, Deposit: idOf(t, deposit.GetName())}})
				},
				func() error {
					return s.buildDistribution(ctx, &river.Job[exhibitArgs]{Args: exhibitArgs{Tenant: tenant, Distribution: idOf(t, shown.GetName())}})
				},
				func() error {
					return s.buildExport(ctx, &river.Job[exportArgs]{Args: exportArgs{Tenant: tenant, Export: idOf(t, export.GetName())}})
				},
				func() error {
					return s.keepReport(ctx, &river.Job[reportArgs]{Args: reportArgs{Tenant: s.keeper(), Report: idOf(t, checked.GetName())}})
				},
				func() error {
					_, err := s.integrity(ctx, tenant, idOf(t, first))
					return err
				},
			}
			for again := range 5 {
				for i, attempt := range attempts {
					require.Error(t, attempt(), "attempt %d of %d", again, i)
				}
				h.settle(t, ctx, h.invoice(t, 1000+10*n+again)) // the log goes on
				h.await(t, "logged", func() bool { return b.count(t, "unit") == taken+again+1 && b.count(t, "log_pending") == 0 })
			}
			require.Equal(t, before, b.orders(t, ""), "no order, however often it is tried")

			board, err := operator.GetStorage(ctx, &conservationv1.GetStorageRequest{})
			require.NoError(t, err)
			require.Len(t, board.GetSigningOutages(), 1)
			require.Equal(t, "NO_ACTIVE_CREDENTIAL", board.GetSigningOutages()[0].GetCode())
			require.Contains(t, h.pack(t, pack.GetName()).GetLastError(), "sign: NO_ACTIVE_CREDENTIAL: ")
			_, err = api.GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: deposit.GetName()})
			require.Equal(t, "SUBMISSION_REPORT_NOT_READY", code(err))
			require.Contains(t, fault.Of(err).Message, "cannot sign (NO_ACTIVE_CREDENTIAL)")
			h.await(t, "told once", func() bool { stopped, resumed := h.told(); return stopped == n+1 && resumed == n })

			ways[name].mend(t, active[0])
			require.NoError(t, attempts[0](), "after so many attempts the package's own job comes within five minutes; the others come by themselves")
			h.judge(t, h.awaitSealed(t, pack.GetName()))
			h.await(t, "reported", func() bool {
				_, err := api.GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: deposit.GetName()})
				return err == nil
			})
			h.await(t, "shown", func() bool {
				d, err := h.reader().GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: shown.GetName()})
				require.NoError(t, err)
				return d.GetState() == conservationv1.DistributionState_DISTRIBUTION_STATE_READY
			})
			h.await(t, "exported", func() bool {
				e, err := transfer.GetExport(ctx, &conservationv1.GetExportRequest{Name: export.GetName()})
				require.NoError(t, err)
				return e.GetState() == conservationv1.ExportState_EXPORT_STATE_READY
			})
			require.NoError(t, attempts[4](), "the report of the check, whose job would come within a minute")
			require.Equal(t, before+5, b.orders(t, ""), "one for each: package, deposit, distribution, export, check")
			h.await(t, "told that it goes on", func() bool { stopped, resumed := h.told(); return stopped == n+1 && resumed == n+1 })
			board, err = operator.GetStorage(ctx, &conservationv1.GetStorageRequest{})
			require.NoError(t, err)
			require.Empty(t, board.GetSigningOutages())
			h.awaitSealed(t, h.closePackage(t).GetName()) // what came in for the log
		})
	}
}

// TestIssuerTakesBack: a certificate that its issuer took back, and that still signs, has one order of a package and no more, however often
// it is tried; another certificate has the second one.
func TestIssuerTakesBack(t *testing.T) {
	t.Parallel()
	h, ctx := open(t, true), context.Background()
	b := h.openBooks(t)
	h.ca.Revoke(h.role, time.Now())
	p := h.sealOne(t, 1)
	h.await(t, "says why", func() bool { return strings.Contains(h.pack(t, p.GetName()).GetLastError(), codeCredentialRevoked) })
	job := &river.Job[SealArgs]{Args: sealArgs(t, p.GetName())}
	for range 10 {
		require.Error(t, h.service.seal(ctx, job))
	}
	require.Equal(t, 1, b.orders(t, p.GetName()))
	board := h.storageState(t)
	require.Len(t, board.GetSigningOutages(), 1)
	require.Equal(t, codeCredentialRevoked, board.GetSigningOutages()[0].GetCode())
	for _, name := range h.credentials(t) { // nor is there another afterwards
		_, err := h.sign.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: name})
		require.NoError(t, err)
	}
	for range 10 {
		require.Error(t, h.service.seal(ctx, job))
	}
	require.Equal(t, 1, b.orders(t, p.GetName()))
	h.await(t, "told once", func() bool { stopped, resumed := h.told(); return stopped == 1 && resumed == 0 })
	require.Contains(t, h.pack(t, p.GetName()).GetLastError(), "sign: "+codeCredentialRevoked+": ")

	h.certify(t)
	require.NoError(t, h.service.seal(telemetry.WithActor(ctx, "test"), job), "after so many attempts the job itself comes within five minutes")
	h.judge(t, h.awaitSealed(t, p.GetName()))
	require.Equal(t, 2, b.orders(t, p.GetName()))
	h.await(t, "told that it goes on", func() bool { _, resumed := h.told(); return resumed == 1 })
	require.Empty(t, h.storageState(t).GetSigningOutages())
}

// TestOldAnswersEndNoOutage: what an issuer was heard to say before it took a certificate back does not take that back again.
func TestOldAnswersEndNoOutage(t *testing.T) {
	t.Parallel()
	h, ctx := open(t, false), context.Background()
	sum := sha256.Sum256([]byte("the certificate"))
	require.Error(t, h.service.outages.began(ctx, saysIssuer, fault.Precondition(codeCredentialRevoked, "taken back"), sum[:], time.Now()))
	stopped := h.storageState(t).GetSigningOutages()
	require.Len(t, stopped, 1)
	since, signed := stopped[0].GetSince().AsTime(), time.Now().Add(time.Minute)
	for _, heard := range []time.Time{{}, since.Add(-time.Millisecond)} {
		require.NoError(t, h.service.outages.ended(ctx, saysIssuer, signed, sum[:], heard))
		require.Len(t, h.storageState(t).GetSigningOutages(), 1, "heard %s", heard)
	}
	require.NoError(t, h.service.outages.ended(ctx, saysIssuer, signed, sum[:], since.Add(time.Millisecond)))
	require.Empty(t, h.storageState(t).GetSigningOutages())
}

// TestOvertakenRefusalsAreNoOutage: somebody asks the signer before the credential is mended, and hears its answer after another has got a
// signature. That is no second outage, which would last until something else is signed; one that is asked for later is.
func TestOvertakenRefusalsAreNoOutage(t *testing.T) {
	t.Parallel()
	h, ctx := open(t, false), context.Background()
	o, refused := h.service.outages, fault.Precondition("NO_ACTIVE_CREDENTIAL", "suspended")
	asked := time.Now()
	require.ErrorIs(t, o.heard(ctx, asked, refused), refused)
	require.Len(t, h.storageState(t).GetSigningOutages(), 1)
	require.NoError(t, o.heard(ctx, time.Now().Add(time.Second), nil))
	require.Empty(t, h.storageState(t).GetSigningOutages())
	require.ErrorIs(t, o.heard(ctx, asked, refused), refused)
	require.Empty(t, h.storageState(t).GetSigningOutages(), "it was signed since that was asked for")
	h.await(t, "told once, both ways", func() bool { stopped, resumed := h.told(); return stopped == 1 && resumed == 1 })
	require.ErrorIs(t, o.heard(ctx, time.Now().Add(time.Second), refused), refused)
	require.Len(t, h.storageState(t).GetSigningOutages(), 1)
	h.await(t, "told again", func() bool { stopped, resumed := h.told(); return stopped == 2 && resumed == 1 })

	require.NoError(t, o.heard(ctx, time.Now().Add(time.Second), nil))
	h.admin(t, `UPDATE signing_resumed SET at = now() + interval '30 days'`)
	require.ErrorIs(t, o.heard(ctx, time.Now(), refused), refused)
	require.Len(t, h.storageState(t).GetSigningOutages(), 1, "it ended by a clock that was a month ahead")
	asked = time.Now()
	require.NoError(t, o.heard(ctx, time.Now().Add(time.Second), nil))
	require.ErrorIs(t, o.heard(ctx, asked, refused), refused)
	require.Empty(t, h.storageState(t).GetSigningOutages(), "the clock is right again")
}

// TestReportIsSignedOnce: a report that was signed and cannot be stamped is not written and signed again, whatever the log says meanwhile.
func TestReportIsSignedOnce(t *testing.T) {
	t.Parallel()
	h, _ := openLogged(t)
	ctx, b := context.Background(), h.openBooks(t)
	for i := range h.skew {
		h.skew[i].Store(int64(2 * time.Minute))
	}
	d := hand(t, h.producer(), headOf("lettera", "lettera.pdf", aPDF), aPDF)
	job := &river.Job[rdvArgs]{Args: rdvArgs{Tenant: "acme", Deposit: idOf(t, d.GetName())}}
	h.await(t, "signed", func() bool { return b.orders(t, d.GetName()) == 1 })
	h.await(t, "held", func() bool { return b.count(t, "deposit WHERE unstamped IS NOT NULL") == 1 })
	for n := range 5 {
		h.settle(t, ctx, h.invoice(t, n))
		h.await(t, "logged", func() bool { return b.count(t, "log_leaf") >= n+2 })
		require.Error(t, h.service.reportDeposit(ctx, job))
	}
	require.Equal(t, 1, b.orders(t, d.GetName()))
	for i := range h.skew {
		h.skew[i].Store(0)
	}
	h.await(t, "reported", func() bool {
		_, err := h.producer().GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: d.GetName()})
		return err == nil
	})
	require.Equal(t, 1, b.orders(t, d.GetName()))
	require.Zero(t, b.count(t, "deposit WHERE unstamped IS NOT NULL"))
}

// TestReportIsSignedOnceThroughDeath: the process is killed between the signature of a report and the row that has it, and the log goes on.
// Who begins anew asks for the signature that there is. The reports are those of what came by event, and of a deposit.
func TestReportIsSignedOnceThroughDeath(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	signer := pgtest.Admin(t, w.DB("signer"))
	orders := func() (n, of int) {
		require.NoError(t, signer.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT subject) FROM signature WHERE subject ~ '/(deposits|submissions)/'`).Scan(&n, &of))
		return n, of
	}
	var d *conservationv1.Deposit
	for n, b := range []boundary{
		{"the report of what came by event was signed", "submission", "UPDATE", "NEW.report IS NOT NULL"},
		{"the report of a deposit was signed", "deposit", "UPDATE", "NEW.report IS NOT NULL"},
	} {
		w.stopAt(b)
		if b.table == "deposit" {
			d = hand(t, conservationv1.NewDepositServiceClient(w.conn), headOf("lettera", "lettera.pdf", aPDF), aPDF)
		} else {
			w.settle(t, t.Context(), w.invoice(t, 1))
		}
		w.await(t, b.name, w.reached)
		before, subjects := orders()
		require.Positive(t, before)
		require.Equal(t, subjects, before)
		leaves := w.count("SELECT max(size) FROM log_checkpoint")
		w.settle(t, t.Context(), w.invoice(t, 10+n))
		w.await(t, "the log goes on", func() bool { return w.count("SELECT max(size) FROM log_checkpoint") > leaves })
		w.die(b)
		w.await(t, "reported", func() bool {
			return w.count("SELECT count(*) FROM "+b.table+" WHERE report IS NULL") == 0 && w.count("SELECT COALESCE(sum(unit_count), 0)::int FROM submission") == 1+n+1
		})
		after, subjects := orders()
		require.Equal(t, subjects, after, "one order for each report, after: "+b.name)
	}
	require.Equal(t, accepted, d.GetState())
	require.Zero(t, w.count("SELECT count(*) FROM submission WHERE report IS NOT NULL AND (written IS NOT NULL OR unstamped IS NOT NULL)")+w.count("SELECT count(*) FROM deposit WHERE report IS NOT NULL AND (written IS NOT NULL OR unstamped IS NOT NULL)"))
}

// TestShownAndHandedOverAreSignedOnce: a distribution and an export that wait for a time stamp alone are not signed again, whatever the log says
// meanwhile. What was held of the distribution until then goes with its documents.
func TestShownAndHandedOverAreSignedOnce(t *testing.T) {
	t.Parallel()
	h, _ := openLogged(t)
	ctx, b := telemetry.WithActor(context.Background(), "test"), h.openBooks(t)
	pkg, events := h.ended(t, 1)
	unit := h.units(t, events[0].GetInvoice())[0].GetName()
	for i := range h.skew {
		h.skew[i].Store(int64(2 * time.Minute))
	}
	api := h.reader()
	shown, err := api.CreateDistribution(ctx, &conservationv1.CreateDistributionRequest{Parent: "tenants/acme", Units: []string{unit}})
	require.NoError(t, err)
	transfer := conservationv1.NewTransferServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	export, err := transfer.CreateExport(ctx, &conservationv1.CreateExportRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	h.await(t, "both wait", func() bool {
		return b.count(t, "distribution WHERE signed_sha256 IS NOT NULL") == 1 && b.orders(t, export.GetName()) == 1
	})
	for n := range 3 {
		leaves := b.count(t, "log_leaf")
		h.settle(t, ctx, h.invoice(t, 20+n))
		h.await(t, "the log goes on", func() bool { return b.count(t, "log_leaf") > leaves && b.count(t, "log_pending") == 0 })
		require.Error(t, h.service.buildDistribution(ctx, &river.Job[exhibitArgs]{Args: exhibitArgs{Tenant: "acme", Distribution: idOf(t, shown.GetName())}}))
		require.Error(t, h.service.buildExport(ctx, &river.Job[exportArgs]{Args: exportArgs{Tenant: "acme", Export: idOf(t, export.GetName())}}))
	}
	// So does a process that is being stopped while it waits for the stamp.
	h.admin(t, `UPDATE distribution SET held_sha256 = NULL, held_size = NULL, signed_sha256 = NULL, signed_size = NULL`)
	ending, end := context.WithCancel(ctx)
	tsa := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body) // only then the server sees that its client leaves
		assert.NoError(t, err)
		end()
		<-r.Context().Done() // it never answers
	}))
	t.Cleanup(tsa.Close)
	stopped := *h.service
	stopped.stamps = []*authority{newAuthority(TSAConfig{Name: "slow", URL: tsa.URL}, x509.NewCertPool(), time.Minute,
		run.NewBreaker("slow", run.BreakerConfig{Failures: 5, Open: time.Second}, time.Now), time.Now)}
	require.ErrorIs(t, stopped.buildDistribution(ending, &river.Job[exhibitArgs]{Args: exhibitArgs{Tenant: "acme", Distribution: idOf(t, shown.GetName())}}), context.Canceled)
	require.Equal(t, 1, b.count(t, "distribution WHERE held_sha256 IS NOT NULL AND signed_sha256 IS NOT NULL"))
	require.Equal(t, 2, b.orders(t, shown.GetName()), "what was held was taken away")
	h.settle(t, ctx, h.invoice(t, 30))
	for i := range h.skew {
		h.skew[i].Store(0)
	}
	h.await(t, "both are ready", func() bool {
		d, err := api.GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: shown.GetName()})
		require.NoError(t, err)
		e, err := transfer.GetExport(ctx, &conservationv1.GetExportRequest{Name: export.GetName()})
		require.NoError(t, err)
		return d.GetState() == conservationv1.DistributionState_DISTRIBUTION_STATE_READY && e.GetState() == conservationv1.ExportState_EXPORT_STATE_READY
	})
	require.Equal(t, 2, b.orders(t, shown.GetName()))
	require.Equal(t, 1, b.orders(t, export.GetName()))
	stream, err := api.DownloadDistribution(ctx, &conservationv1.DownloadDistributionRequest{Name: shown.GetName()})
	require.NoError(t, err)
	dir, files := unpack(t, drain(t, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err }))
	said, ok := script(t, dir, filepath.Join(h.dir, "ca.pem"))
	require.True(t, ok, said)
	require.Contains(t, fmt.Sprint(slices.Collect(maps.Keys(files))), "PdD.xml.p7m.tsr")

	require.Zero(t, b.count(t, "distribution WHERE held_sha256 IS NOT NULL OR signed_sha256 IS NOT NULL"))
	made := h.madeFor(t)
	require.Len(t, made, 5, "two that were held with their signatures, and what is given")
	name := h.release(t, pkg)
	h.destroy(t, name)
	for _, path := range made {
		require.NoFileExists(t, path)
	}
	require.Zero(t, b.count(t, "distribution_blob"))
}

// madeFor gives the files that are noted for distributions.
func (h *house) madeFor(t testing.TB) (paths []string) {
	t.Helper()
	var list string
	h.rowsOf(t, `SELECT COALESCE(string_agg(encode(sha256, 'hex'), ' '), '') FROM distribution_blob`, &list)
	for _, sum := range strings.Fields(list) {
		raw, err := hex.DecodeString(sum)
		require.NoError(t, err)
		paths = append(paths, h.blobPath(blob.Ref{Tenant: "acme", SHA256: [32]byte(raw)}))
	}
	return paths
}

// TestShownOnceThroughDeath: the process is killed between the signature of a distribution and the row that has it, and before that between the bytes
// that are to be signed and their row; and the log goes on. Who begins anew asks for the signature that there is, and what the dead left in the
// platform's store goes with the eraser's next run, and nothing else.
func TestShownOnceThroughDeath(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	signer := pgtest.Admin(t, w.DB("signer"))
	w.settle(t, t.Context(), w.invoice(t, 1))
	w.await(t, "stated", func() bool {
		return w.count("SELECT count(*) FROM search_entry") == 1 && w.count("SELECT count(*) FROM log_pending") == 0
	})
	name := ""
	for n, b := range []boundary{
		{"what is to be signed is stored", "distribution", "UPDATE", "NEW.held_sha256 IS NOT NULL AND OLD.held_sha256 IS NULL"},
		{"it was signed and stamped", "distribution", "UPDATE", "NEW.state = 'READY'"},
	} {
		w.stopAt(b)
		if name == "" {
			d, err := conservationv1.NewExhibitionServiceClient(w.conn).CreateDistribution(t.Context(), &conservationv1.CreateDistributionRequest{
				Parent: "tenants/acme", Query: &conservationv1.SearchQuery{},
			})
			require.NoError(t, err)
			name = d.GetName()
		}
		w.await(t, b.name, w.reached)
		leaves := w.count("SELECT max(size) FROM log_checkpoint")
		w.settle(t, t.Context(), w.invoice(t, 10+n))
		w.await(t, "the log goes on", func() bool { return w.count("SELECT max(size) FROM log_checkpoint") > leaves })
		w.die(b)
		if n == 0 {
			w.await(t, "held", func() bool {
				return w.count("SELECT count(*) FROM distribution WHERE held_sha256 IS NOT NULL OR state = 'READY'") == 1
			})
		}
	}
	w.await(t, "ready", func() bool { return w.count("SELECT count(*) FROM distribution WHERE state = 'READY'") == 1 })
	orders := 0
	require.NoError(t, signer.QueryRow(t.Context(), `SELECT count(*) FROM signature WHERE starts_with(subject, $1)`, name).Scan(&orders))
	require.Equal(t, 1, orders)
}

// TestSpareOfDistributions: what was stored on the way to a distribution goes an hour later, also of one that failed; of one that is being built, and
// what is given, nothing goes.
func TestSpareOfDistributions(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx, b := context.Background(), h.openBooks(t)
	h.settle(t, ctx, h.invoice(t, 1))
	h.await(t, "found", func() bool { return b.count(t, "search_entry") == 1 })
	d, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{})
	made := h.madeFor(t)
	require.Len(t, made, 2)
	spared := func(want int) {
		t.Helper()
		done, err := h.eraser(t).Run(ctx)
		require.NoError(t, err)
		require.Equal(t, want, done.Spare)
	}
	spared(0)
	h.admin(t, `UPDATE distribution_blob SET noted_at = now() - interval '2 hours'`)
	h.admin(t, `CREATE TABLE test_ready AS SELECT * FROM distribution`)
	h.admin(t, `UPDATE distribution SET state = 'BUILDING', sha256 = NULL, size = NULL, ready_at = NULL`)
	spared(0)
	h.admin(t, `UPDATE distribution d SET state = r.state, sha256 = r.sha256, size = r.size, ready_at = r.ready_at FROM test_ready r`)
	spared(1)
	require.Equal(t, 1, b.count(t, "distribution_blob"))
	left := h.madeFor(t)
	require.FileExists(t, left[0])
	for _, path := range made {
		if path != left[0] {
			require.NoFileExists(t, path)
		}
	}
	stream, err := h.reader().DownloadDistribution(ctx, &conservationv1.DownloadDistributionRequest{Name: d.GetName()})
	require.NoError(t, err)
	require.Equal(t, raw, drain(t, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err }))
	h.admin(t, `UPDATE distribution SET state = 'FAILED', sha256 = NULL, size = NULL, ready_at = NULL`)
	spared(1)
	require.NoFileExists(t, left[0])
	spared(0)
}

// TestDistributionsExpire: a distribution is kept for its term. Then it is said to have expired, and its bytes go an hour later; its
// documents stay, and are given in another one.
func TestDistributionsExpire(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx, b := context.Background(), h.openBooks(t)
	h.settle(t, ctx, h.invoice(t, 1))
	h.await(t, "found", func() bool { return b.count(t, "search_entry") == 1 })
	d, _ := h.exhibit(t, &conservationv1.CreateDistributionRequest{})
	ready, err := h.reader().GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: d.GetName()})
	require.NoError(t, err)
	require.Equal(t, 30*24*time.Hour, ready.GetExpireTime().AsTime().Sub(ready.GetReadyTime().AsTime()))
	sum := blob.Ref{Tenant: "acme", SHA256: [32]byte(ready.GetSha256())}
	require.FileExists(t, h.blobPath(sum))
	e := h.eraser(t)
	run := func(expired, erased int) {
		t.Helper()
		done, err := e.Run(ctx)
		require.NoError(t, err)
		require.Equal(t, [2]int{expired, erased}, [2]int{done.Expired, done.Spare})
	}
	h.admin(t, `UPDATE distribution_blob SET noted_at = now() - interval '40 days'`)
	run(0, 1) // what was stored on the way; without a term it is kept
	e.KeepDistributions = 30 * 24 * time.Hour
	run(0, 0)
	h.admin(t, `UPDATE distribution SET ready_at = now() - interval '31 days'`)
	h.admin(t, `DELETE FROM distribution_blob`) // one of before these were noted
	run(1, 0)
	require.FileExists(t, h.blobPath(sum), "who is downloading it comes to its end")
	got, err := h.reader().GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: d.GetName()})
	require.NoError(t, err)
	require.Equal(t, conservationv1.DistributionState_DISTRIBUTION_STATE_EXPIRED, got.GetState())
	require.Equal(t, ready.GetSha256(), got.GetSha256())
	require.Equal(t, ready.GetSize(), got.GetSize())
	require.Nil(t, got.GetExpireTime())
	stream, err := h.reader().DownloadDistribution(ctx, &conservationv1.DownloadDistributionRequest{Name: d.GetName()})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, "DISTRIBUTION_EXPIRED", fault.Of(err).Code, "%v", err)
	h.admin(t, `UPDATE distribution_blob SET noted_at = now() - interval '2 hours'`)
	run(0, 1)
	require.NoFileExists(t, h.blobPath(sum))
	run(0, 0)
	require.Equal(t, 1, b.count(t, "audit_entry WHERE action = 'distribution.expired'"))
	again, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{})
	require.NotEqual(t, d.GetName(), again.GetName())
	require.NotEmpty(t, raw)
}

// TestExpiredAndDestroyed: the same bytes stay while another distribution that is given has them; what an expired one still has in the store is destroyed
// with its documents, and the report calls it what it was.
func TestExpiredAndDestroyed(t *testing.T) {
	t.Parallel()
	h, _ := openLogged(t)
	ctx, ev := context.Background(), h.old(t, 1, 2010)
	h.settle(t, ctx, ev)
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 1 })
	sealed := h.closed(t, 2010, "FISC")
	d, _ := h.exhibit(t, &conservationv1.CreateDistributionRequest{Units: []string{h.units(t, ev.GetInvoice())[0].GetName()}})
	sum := blob.Ref{Tenant: "acme", SHA256: [32]byte(d.GetSha256())}
	e := h.eraser(t)
	e.KeepDistributions = time.Hour
	expired := func(want int) {
		t.Helper()
		done, err := e.Run(ctx)
		require.NoError(t, err)
		require.Equal(t, want, done.Expired)
	}
	h.admin(t, `UPDATE distribution SET ready_at = now() - interval '2 hours'`)
	h.admin(t, `INSERT INTO distribution (id, tenant_id, state, purpose, units, terms, asked_by, asked_at, ready_at, sha256, size)
		SELECT gen_random_uuid(), tenant_id, state, purpose, units, terms, asked_by, asked_at, now(), sha256, size FROM distribution`)
	expired(1)
	h.admin(t, `UPDATE distribution_blob SET noted_at = now() - interval '2 hours'`)
	expired(0)
	require.Zero(t, h.counted(t, "distribution_blob"))
	require.FileExists(t, h.blobPath(sum), "another one is given that has these bytes")
	h.admin(t, `UPDATE distribution SET ready_at = now() - interval '2 hours'`)
	expired(1)
	require.FileExists(t, h.blobPath(sum))
	said := h.destroy(t, h.release(t, sealed))
	require.NoFileExists(t, h.blobPath(sum))
	what := map[string]string{}
	for _, o := range said.Packages[0].Destroyed {
		what[o.SHA256] = o.What
	}
	require.Equal(t, "distribution", what[hex.EncodeToString(sum.SHA256[:])])
}

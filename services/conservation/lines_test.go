package conservation

import (
	"context"
	"math/bits"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/run/runtest"
)

// Test23_ExpiredOrRevoked: with a certificate that has ended, or whose credential was revoked, nothing is signed: the package stays as
// it is and says why, and goes on with a good one.
func Test23_ExpiredOrRevoked(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // of the archive's and the signer's clock
	h, ctx := openWith(t, false, "", func(o *runtest.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}), context.Background()
	h.certifyUntil(t, time.Now().Add(time.Hour))
	for n, stop := range []func(){
		func() { // a certificate that ends, and not a row that says so
			ahead.Store(int64(2 * time.Hour))
			for i := range h.skew {
				h.skew[i].Store(int64(2 * time.Hour))
			}
		},
		func() {
			list, err := h.sign.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: platform})
			require.NoError(t, err)
			require.Len(t, list.GetCredentials(), 2)
			for _, c := range list.GetCredentials() {
				_, err = h.sign.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: c.GetName()})
				require.NoError(t, err)
			}
		},
	} {
		stop()
		h.settleAll(t, []*invoicev1.InvoiceSettled{h.invoice(t, 100+n)})
		h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken >= n+1 })
		p := h.closePackage(t)
		h.await(t, "says why", func() bool { return strings.Contains(h.pack(t, p.GetName()).GetLastError(), "NO_ACTIVE_CREDENTIAL") })
		left := h.pack(t, p.GetName())
		require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_INDEXED, left.GetState())
		require.Empty(t, left.GetSignedIndex().GetSha256(), "nothing was signed")
		h.certify(t)
		h.judge(t, h.awaitSealed(t, p.GetName()))
	}
}

// Test25_ClockOff: when the authorities' clocks and ours are two minutes apart nothing is stamped, whoever of them is right: the package
// waits and says so, and goes on when they agree.
func Test25_ClockOff(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{2 * time.Minute, -2 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			h := open(t, true)
			for i := range h.skew {
				h.skew[i].Store(int64(off))
			}
			h.intake(t, 1)
			p := h.closePackage(t)
			h.await(t, "says why", func() bool { return strings.Contains(h.pack(t, p.GetName()).GetLastError(), "away from our clock") })
			left := h.pack(t, p.GetName())
			require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SIGNED, left.GetState())
			require.Empty(t, left.GetTimeStamp().GetSha256(), "nothing was stamped")
			_, preserved, _ := h.counts()
			require.Zero(t, preserved)
			for i := range h.skew {
				h.skew[i].Store(int64(off / 4)) // within the tolerance of a minute
			}
			h.judge(t, h.awaitSealed(t, p.GetName()))
		})
	}
}

// Test26_YearsInRome: a message of certified mail belongs to the day and the year that it was in Rome, whatever the machine's zone: at
// the turn of the year, on the nights when the clocks change, and on a leap day. Of an invoice the date in it counts.
func Test26_YearsInRome(t *testing.T) {
	t.Parallel()
	rome, err := time.LoadLocation("Europe/Rome")
	require.NoError(t, err)
	s := &Service{rome: rome}
	for at, want := range map[string]string{
		"2026-12-31T22:59:59Z": "2026-12-31", "2026-12-31T23:00:00Z": "2027-01-01", // a second before and at midnight
		"2027-01-01T00:30:00Z": "2027-01-01",
		"2026-03-28T22:59:59Z": "2026-03-28", "2026-03-28T23:00:00Z": "2026-03-29", // the night to summer time is an hour short
		"2026-03-29T01:00:00Z": "2026-03-29", "2026-03-29T21:59:59Z": "2026-03-29", "2026-03-29T22:00:00Z": "2026-03-30",
		"2026-10-24T22:00:00Z": "2026-10-25", "2026-10-25T00:30:00Z": "2026-10-25", "2026-10-25T01:30:00Z": "2026-10-25", // 02:30 twice
		"2026-10-25T22:59:59Z": "2026-10-25", "2026-10-25T23:00:00Z": "2026-10-26",
		"2028-02-28T23:00:00Z": "2028-02-29", "2028-02-29T22:59:59Z": "2028-02-29", "2028-02-29T23:00:00Z": "2028-03-01",
	} {
		moment, err := time.Parse(time.RFC3339, at)
		require.NoError(t, err)
		for _, zone := range []*time.Location{time.UTC, rome, time.FixedZone("far", -11*3600), time.FixedZone("ahead", 14*3600)} {
			in := s.mailIntake("acme", "tenants/acme/mailboxes/m/messages/x", &mailFacts{Message: "x"}, moment.In(zone))
			require.Equal(t, want, in.facts.Bodies[0].Date, "%s in %s", at, zone)
			require.EqualValues(t, want[:4], time.Date(int(in.year), 1, 1, 0, 0, 0, 0, rome).Format("2006"), "%s in %s", at, zone)
		}
	}
	h := open(t, true)
	edge := h.invoice(t, 1)
	edge.FiscalYear, edge.Bodies[0].IssueDate = 2028, "2028-02-29"
	h.settleAll(t, []*invoicev1.InvoiceSettled{edge})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 1 })
	require.EqualValues(t, 2028, h.units(t, edge.GetInvoice())[0].GetFiscalYear())
}

// idsTellNothing is the last part of test 54: who asks for what is another's gets the answer of what is nobody's, and ids have nothing
// in them that counts. Their time is in them on purpose: it orders rows, and is in the answers anyway.
func idsTellNothing(t *testing.T, h *house, api conservationv1.DepositServiceClient) {
	ctx := context.Background()
	own := hand(t, api, headOf("segreta-1", "a.txt", []byte("uno\n")), []byte("uno\n"))
	beta := auth.Caller{Role: auth.RoleTenant, Tenant: "beta", Scopes: []string{"archive.read", "archive.write"}}
	foreign, units := conservationv1.NewDepositServiceClient(h.DialKey("conservation", h.Key(beta))), conservationv1.NewConservationServiceClient(h.DialKey("conservation", h.Key(beta)))
	asked := func(id string) (deposit, unit string) {
		_, err := foreign.GetDeposit(ctx, &conservationv1.GetDepositRequest{Name: "tenants/beta/deposits/" + id})
		require.Error(t, err)
		deposit = strings.ReplaceAll(err.Error(), id, "ID")
		_, err = units.GetUnit(ctx, &conservationv1.GetUnitRequest{Name: "tenants/beta/units/" + id})
		require.Error(t, err)
		return deposit, strings.ReplaceAll(err.Error(), id, "ID")
	}
	nobody, err := uuid.NewV7()
	require.NoError(t, err)
	wantDeposit, wantUnit := asked(nobody.String())
	for _, name := range []string{own.GetName(), own.GetUnit()} {
		deposit, unit := asked(lastOf(name))
		require.Equal(t, wantDeposit, deposit)
		require.Equal(t, wantUnit, unit)
	}
	// Sixty-two bits of each id are chance: of two that follow on each other about half of them differ, however many came between.
	var ids []uuid.UUID
	for n := range 8 {
		head := headOf("segreta-"+string(rune('a'+n)), "a.txt", []byte{'b', byte('a' + n), '\n'})
		ids = append(ids, uuid.MustParse(lastOf(hand(t, api, head, []byte{'b', byte('a' + n), '\n'}).GetName())))
	}
	differ := 0
	for i := 1; i < len(ids); i++ {
		require.EqualValues(t, 7, ids[i].Version())
		for b := 8; b < 16; b++ {
			differ += bits.OnesCount8(ids[i][b] ^ ids[i-1][b])
		}
	}
	require.Greater(t, differ, 7*12, "of 7 pairs, 31 bits each are expected")
	require.Less(t, differ, 7*50)
}

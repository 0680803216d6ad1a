package sdigateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/sdi"
)

// at reads a time of the wall clock in Italy.
func at(t *testing.T, s string) time.Time {
	t.Helper()
	when, err := time.ParseInLocation("2006-01-02 15:04:05", s, sdi.Roma())
	require.NoError(t, err)
	return when
}

func TestDeadlineOf(t *testing.T) {
	for _, c := range []struct {
		name, format, state, sent, rc, mc, ns string
		kind, due                             string
	}{
		{name: "receipt", format: "FPR12", state: stateSent, sent: "2026-06-01 10:00:00", kind: dueReceipt, due: "2026-06-06 23:59:59"},
		{name: "the day begins in Italy", format: "FPR12", state: stateSent, sent: "2026-06-01 00:30:00", kind: dueReceipt, due: "2026-06-06 23:59:59"},
		{name: "over the change of clocks", format: "FPR12", state: stateSent, sent: "2026-10-22 23:59:59", kind: dueReceipt, due: "2026-10-27 23:59:59"},
		{name: "over the end of the year", format: "FPR12", state: stateSent, sent: "2026-12-28 09:00:00", kind: dueReceipt, due: "2027-01-02 23:59:59"},
		{name: "resend", format: "FPR12", state: stateRejected, sent: "2026-06-01 10:00:00", ns: "2026-06-03 08:00:00", kind: dueResend, due: "2026-06-08 23:59:59"},
		{name: "resend, public", format: "FPA12", state: stateRejected, ns: "2026-06-03 08:00:00", kind: dueResend, due: "2026-06-08 23:59:59"},
		{name: "private, delivered", format: "FPR12", state: stateDelivered, rc: "2026-06-01 10:00:00"},
		{name: "private, available", format: "FPR12", state: stateAvailable, mc: "2026-06-01 10:00:00"},
		{name: "public, delivered", format: "FPA12", state: stateDelivered, rc: "2026-06-01 10:00:00", kind: dueOutcome, due: "2026-06-16 23:59:59"},
		{name: "public, delivered after a failure", format: "FPA12", state: stateDelivered, mc: "2026-06-01 10:00:00", rc: "2026-06-04 10:00:00", kind: dueOutcome, due: "2026-06-16 23:59:59"},
		{name: "public, a failure that came late", format: "FPA12", state: stateDelivered, mc: "2026-06-04 10:00:00", rc: "2026-06-01 10:00:00", kind: dueOutcome, due: "2026-06-16 23:59:59"},
		{name: "public, not delivered", format: "FPA12", state: statePending, mc: "2026-06-01 10:00:00", kind: dueAttestation, due: "2026-06-11 23:59:59"},
		{name: "public, accepted", format: "FPA12", state: stateAccepted, rc: "2026-06-01 10:00:00"},
		{name: "public, silent", format: "FPA12", state: stateTermExpired, rc: "2026-06-01 10:00:00"},
		{name: "reserved", format: "FPR12", state: stateReserved},
		{name: "sent, nobody knows when", format: "FPR12", state: stateSent},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m moments
			for _, x := range []struct {
				to   *time.Time
				from string
			}{{&m.sent, c.sent}, {&m.rc, c.rc}, {&m.mc, c.mc}, {&m.ns, c.ns}} {
				if x.from != "" {
					*x.to = at(t, x.from).UTC()
				}
			}
			kind, due, ok := deadlineOf(c.format, c.state, m)
			require.Equal(t, c.kind, kind)
			require.Equal(t, c.kind != "", ok)
			if ok {
				require.Equal(t, c.due, due.In(sdi.Roma()).Format("2006-01-02 15:04:05"))
			}
		})
	}
}

func TestSendBy(t *testing.T) {
	for _, c := range []struct{ tipo, date, want string }{
		{"TD01", "2026-06-10", "2026-06-22"},
		{"TD04", "2026-12-25", "2027-01-06"},
		{"TD24", "2026-06-10", "2026-07-15"},
		{"TD25", "2026-12-31", "2027-01-15"},
		{"TD17", "2026-01-31", "2026-02-15"},
		{"TD28", "2026-06-01+02:00", "2026-07-15"},
	} {
		got, ok := sendBy(c.tipo, c.date)
		require.True(t, ok)
		require.Equal(t, c.want+" 23:59:59", got.Format("2006-01-02 15:04:05"), c.tipo+" "+c.date)
	}
	for _, bad := range []string{"", "2026", "10/06/2026", "2026-13-01"} {
		_, ok := sendBy("TD01", bad)
		require.False(t, ok, bad)
	}
}

// A term is told once of each: near (the customer's own only) and passed; and whatever was missed, the passing is told.
func TestTell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{dueReceipt, dueResend, dueOutcome, dueAttestation}).Draw(t, "kind")
		due := time.Date(2026, 6, 8, 23, 59, 59, 0, time.UTC)
		now := due.Add(-5 * 24 * time.Hour)
		var told int16
		count := map[int16]int{}
		for now.Before(due.Add(48 * time.Hour)) {
			now = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "hours")) * time.Hour)
			if news := tell(kind, due, told, now, 24*time.Hour); news != toldNothing {
				if news <= told {
					t.Fatalf("told %d after %d", news, told)
				}
				told = news
				count[news]++
			}
		}
		if count[toldPassed] != 1 || count[toldNear] > 1 || kind != dueResend && count[toldNear] > 0 {
			t.Fatalf("%s was told %v", kind, count)
		}
	})
}

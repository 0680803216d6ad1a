package sdigateway

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// Terms run from the earliest time of reception that SdI states, in whatever order its statements come; what cannot
// be true is not believed, and then our own time counts.
func TestTermsRunFromSdIsTime(t *testing.T) {
	reserved := time.Date(2026, 11, 22, 23, 30, 0, 0, sdi.Roma())
	sent := reserved.Add(40 * time.Minute) // we hear of it after midnight
	now := sent.Add(time.Minute)
	row := func(said ...time.Time) *db.LockTransmissionsRow {
		r := &db.LockTransmissionsRow{Format: "FPR12", State: stateSent, CreatedAt: reserved, SentAt: &sent}
		for _, at := range said {
			markTaken(r, at, now)
		}
		setTerm(r)
		return r
	}
	said := reserved.Add(5 * time.Minute) // still the day before
	for name, c := range map[string]struct {
		said []time.Time
		from time.Time
	}{
		"nothing said":         {nil, sent},
		"said":                 {[]time.Time{said}, said},
		"the earliest counts":  {[]time.Time{sent, said}, said},
		"in any order":         {[]time.Time{said, sent}, said},
		"before it was there":  {[]time.Time{reserved.AddDate(0, 0, -2)}, sent},
		"in a far future":      {[]time.Time{now.AddDate(1, 0, 0)}, sent},
		"zero":                 {[]time.Time{{}}, sent},
		"doubtful beside good": {[]time.Time{now.AddDate(0, 0, -9), said}, said},
	} {
		require.True(t, endOfDay(c.from, receiptDays).Equal(*row(c.said...).DueAt), name)
	}
}

// A message is as old as the signature that holds says, never younger than its arrival.
func TestMessageIsAsOldAsItsSignature(t *testing.T) {
	came := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	reserved := came.AddDate(0, 0, -3)
	at := func(d time.Duration) *time.Time { v := came.Add(d); return &v }
	for name, c := range map[string]struct {
		seal sealReport
		want time.Time
	}{
		"holds":                 {sealReport{Verdict: "HOLDS", SigningTime: at(-30 * time.Hour)}, came.Add(-30 * time.Hour)},
		"no signature":          {sealReport{Verdict: "ABSENT"}, came},
		"broken":                {sealReport{Verdict: "BROKEN", SigningTime: at(-30 * time.Hour)}, came},
		"after it came":         {sealReport{Verdict: "HOLDS", SigningTime: at(time.Hour)}, came},
		"before the invoice":    {sealReport{Verdict: "HOLDS", SigningTime: at(-20 * 24 * time.Hour)}, came},
		"holds, and no time":    {sealReport{Verdict: "HOLDS"}, came},
		"as old as the invoice": {sealReport{Verdict: "HOLDS", SigningTime: at(-72 * time.Hour)}, came.Add(-72 * time.Hour)},
	} {
		r := reading{ReadMessagesRow: db.ReadMessagesRow{ID: uuid.New(), ReceivedAt: came}, seal: c.seal}
		require.True(t, c.want.Equal(r.madeAt(reserved)), name)
	}
}

// An SE is about the outcome whose identifier it states, else the document, else the only one that stands.
func TestRefusedAnswer(t *testing.T) {
	a, b := uuid.New(), uuid.New()
	one, two := "1", "2"
	rows := []db.AnswersAboutRow{{ID: a, Position: 1, State: outcomePending, Number: &one}, {ID: b, Position: 2, State: outcomeTaken, Number: &two}}
	for name, c := range map[string]struct {
		se   sdi.ScartoEsitoCommittente
		rows []db.AnswersAboutRow
		want uuid.UUID
	}{
		"by identifier":       {sdi.ScartoEsitoCommittente{MessageIDCommittente: outcomeMessageID(b)}, rows, b},
		"strange identifier":  {sdi.ScartoEsitoCommittente{MessageIDCommittente: "X"}, rows, uuid.Nil},
		"by document":         {sdi.ScartoEsitoCommittente{RiferimentoFattura: &sdi.RiferimentoFattura{NumeroFattura: "2"}}, rows, b},
		"whole file, unknown": {sdi.ScartoEsitoCommittente{}, rows, uuid.Nil},
		"the only one":        {sdi.ScartoEsitoCommittente{}, rows[:1], a},
		"none":                {sdi.ScartoEsitoCommittente{}, nil, uuid.Nil},
	} {
		got, ok := refusedAnswer(&c.se, c.rows)
		require.Equal(t, c.want != uuid.Nil, ok, name)
		require.Equal(t, c.want, got.ID, name)
	}
}

package fatturapa_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/fatturapa"
)

func TestIssueDeadline(t *testing.T) {
	for _, c := range []struct {
		tipo string
		day  fatturapa.Date
		want fatturapa.Date // "" when there is no term
	}{
		{"TD01", "2026-03-16", "2026-03-28"},
		{"TD01", "2026-12-25", "2027-01-06"},
		{"TD02", "2024-02-20", "2024-03-03"}, // a leap year
		{"TD03", "2026-02-20", "2026-03-04"},
		{"TD06", "2026-03-01", "2026-03-13"},
		{"TD07", "2026-03-31", "2026-04-12"},
		{"TD26", "2026-03-16", "2026-03-28"},
		{"TD27", "2026-03-16", "2026-03-28"},
		{"TD24", "2026-03-01", "2026-04-15"},
		{"TD24", "2026-03-31", "2026-04-15"},
		{"TD24", "2026-01-31", "2026-02-15"},
		{"TD24", "2026-12-31", "2027-01-15"},
		{"TD25", "2026-01-10", "2026-02-28"},
		{"TD25", "2024-01-31", "2024-02-29"},
		{"TD25", "2026-12-02", "2027-01-31"},
		{"TD17", "2026-03-31", "2026-04-15"},
		{"TD18", "2026-03-31", "2026-04-15"},
		{"TD19", "2026-11-30", "2026-12-15"},
		{"TD28", "2026-12-01", "2027-01-15"},
		{"TD20", "2026-11-10", "2027-02-15"},
		{"TD29", "2026-01-01", "2026-04-01"},
		{"TD29", "2026-03-28", "2026-06-26"},
		{"TD04", "2026-03-16", ""},
		{"TD05", "2026-03-16", ""},
		{"TD08", "2026-03-16", ""},
		{"TD16", "2026-03-16", ""},
		{"TD21", "2026-03-16", ""},
		{"TD22", "2026-03-16", ""},
		{"TD99", "2026-03-16", ""},
		{"TD01", "2026-02-29", ""},
		{"TD01", "", ""},
		{"TD01", "16/03/2026", ""},
	} {
		got, ok := fatturapa.IssueDeadline(c.tipo, c.day)
		require.Equal(t, c.want != "", ok, c)
		require.Equal(t, c.want, got.Day, c)
		if ok {
			require.Equal(t, fatturapa.DeadlineIssue, got.Kind)
			require.NotEmpty(t, got.Law)
			require.NotEmpty(t, got.Basis.IT)
			require.NotEmpty(t, got.Basis.EN)
		}
	}
}

func TestOtherDeadlines(t *testing.T) {
	resend, ok := fatturapa.ResendDeadline("2026-02-26")
	require.True(t, ok)
	require.Equal(t, fatturapa.Date("2026-03-03"), resend.Day)
	outcome, ok := fatturapa.OutcomeDeadline("2026-12-20")
	require.True(t, ok)
	require.Equal(t, fatturapa.Date("2027-01-04"), outcome.Day)
	_, ok = fatturapa.ResendDeadline("no date")
	require.False(t, ok)
	for quarter, want := range map[int]fatturapa.Date{1: "2027-05-31", 2: "2027-09-30", 3: "2027-11-30", 4: "2028-02-29"} {
		got, ok := fatturapa.StampDutyDeadline(2027, quarter)
		require.True(t, ok)
		require.Equal(t, want, got.Day, quarter)
	}
	for _, wrong := range [][2]int{{2027, 0}, {2027, 5}, {1999, 1}} {
		_, ok := fatturapa.StampDutyDeadline(wrong[0], wrong[1])
		require.False(t, ok)
	}
}

// A deadline never comes before its day, and never earlier for a later day.
func TestDeadlinesFollowTheirDay(t *testing.T) {
	types := []string{"TD01", "TD07", "TD17", "TD18", "TD19", "TD20", "TD24", "TD25", "TD27", "TD28", "TD29"}
	rapid.Check(t, func(t *rapid.T) {
		first := time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 30_000).Draw(t, "day"))
		second := first.AddDate(0, 0, rapid.IntRange(0, 100).Draw(t, "later"))
		tipo := rapid.SampledFrom(types).Draw(t, "type")
		a, ok1 := fatturapa.IssueDeadline(tipo, fatturapa.Date(first.Format(time.DateOnly)))
		b, ok2 := fatturapa.IssueDeadline(tipo, fatturapa.Date(second.Format(time.DateOnly)))
		require.True(t, ok1 && ok2)
		require.Greater(t, a.Day.Ordinal(), fatturapa.Date(first.Format(time.DateOnly)).Ordinal())
		require.GreaterOrEqual(t, b.Day.Ordinal(), a.Day.Ordinal())
	})
}

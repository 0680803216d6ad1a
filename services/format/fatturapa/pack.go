package fatturapa

import "time"

// rulePack is a set of rules with the day from which SdI applies it.
type rulePack struct {
	name string
	from int
}

// rulePacks are named after the version of Allegato A, the newest first. Versions
// that changed no control that is decided here are not listed apart.
//
// spec: AllA-1.9 and AllA-1.9.1, change logs
var rulePacks = []rulePack{
	{"1.9.1", 20260515}, // 00327
	{"1.9", 20250401},   // TD29, RF20; RF19 and RF20 beyond 400 euro in simplified invoices
	{"1.7", 20221001},   // TD28
	{"1.6", 20210101},   // plain N2, N3 and N6 end; TD16 to TD27
	{"1.5", 0},
}

// packAt returns the rules in force on a day; 0 means the newest.
func packAt(day int) rulePack {
	for _, p := range rulePacks {
		if day == 0 || day >= p.from {
			return p
		}
	}
	return rulePacks[len(rulePacks)-1]
}

// romeDay is the calendar day in Italy as an ordinal: SdI lives in that time. The
// rule of summer time is computed here, for a library without files has no time
// zone database.
func romeDay(t time.Time) int {
	if t.IsZero() {
		return 0
	}
	u := t.UTC()
	offset := time.Hour
	if start, end := lastSunday(u.Year(), time.March), lastSunday(u.Year(), time.October); !u.Before(start) && u.Before(end) {
		offset = 2 * time.Hour
	}
	y, m, d := u.Add(offset).Date()
	return y*10000 + int(m)*100 + d
}

// lastSunday is 01:00 UTC of the last Sunday of a month of 31 days.
func lastSunday(year int, month time.Month) time.Time {
	t := time.Date(year, month, 31, 1, 0, 0, 0, time.UTC)
	return t.AddDate(0, 0, -int(t.Weekday()))
}

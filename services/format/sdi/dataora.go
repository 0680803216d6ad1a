package sdi

import (
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // the zone below must exist on hosts without zoneinfo (distroless)
)

// Roma is the zone in which SdI writes times and counts days.
var Roma = sync.OnceValue(func() *time.Location {
	loc, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		panic("sdi: embedded time zone data lacks Europe/Rome: " + err.Error())
	}
	return loc
})

// layouts of xsd:dateTime, with and without zone; Go accepts fractions after the seconds
// without being told.
var layouts = [...]string{
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02T15:04:05",
	"2006-01-02Z07:00",
	"2006-01-02",
}

// ParseDataOra reads an xsd:dateTime or xsd:date. Without a zone it is Italian time: official
// examples of attestations and failed deliveries carry none.
func ParseDataOra(s string) (time.Time, error) {
	for _, l := range layouts {
		t, err := time.ParseInLocation(l, s, Roma())
		if err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date and time (2006-01-02T15:04:05.000+01:00)", clip(s, 40))
}

// FormatDataOra writes t as SdI does: Italian time, milliseconds, offset.
func FormatDataOra(t time.Time) string {
	return t.In(Roma()).Format("2006-01-02T15:04:05.000-07:00")
}

// FormatData writes the Italian calendar day of t.
func FormatData(t time.Time) string {
	return t.In(Roma()).Format("2006-01-02")
}

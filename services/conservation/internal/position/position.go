// Package position names the marks by which the replicas of the archive tell how far its database had come: objects of a few bytes with
// ascending numbers. The number is written into the database first, so one that is older than a mark was put back from a backup.
//
// It owns the names and nothing else: who writes marks and what is held back is the archive's matter.
package position

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// root is apart from what belongs to tenants.
const root = "position/"

var keyPattern = regexp.MustCompile(`^position/\d{4}-\d{2}-\d{2}/(\d{18})\.json$`)

// Key names the mark of a number.
func Key(at time.Time, number int64) string {
	return fmt.Sprintf("%s%s/%018d.json", root, at.UTC().Format(time.DateOnly), number)
}

// Number reads it from the name; 0: it is no mark.
func Number(key string) int64 {
	m := keyPattern.FindStringSubmatch(key)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // eighteen digits
	return n
}

// Prefixes are where marks lie that are newer than what the database was told last; never told: all of them. A day more on either
// side, for clocks.
func Prefixes(told *time.Time, now time.Time) []string {
	if told == nil {
		return []string{root}
	}
	var list []string
	for day := told.UTC().AddDate(0, 0, -1); !day.After(now.UTC().AddDate(0, 0, 1)); day = day.AddDate(0, 0, 1) {
		list = append(list, root+day.Format(time.DateOnly)+"/")
	}
	return list
}

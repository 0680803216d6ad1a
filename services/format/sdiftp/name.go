package sdiftp

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/format/sdi"
)

// Kind is the first part of a name.
type Kind string

// The five kinds of file.
const (
	FI Kind = "FI" // support from the node to SdI
	FO Kind = "FO" // support from SdI to the node
	EO Kind = "EO" // outcome of a support FI, in clear
	ER Kind = "ER" // refusal of a support FI that could not be opened, in clear
	ST Kind = "ST" // daily report of supports, in clear
)

// First and last numbers of supports.
// spec: SDIFTP-4.3 §3.1
const (
	FirstNumber, LastNumber         = 1, 899
	FirstTestNumber, LastTestNumber = 900, 999
)

// Name is the name of a file of the channel:
//
//	FI.<node>.<yyyyddd>.<hhmm>.<nnn>.zip                 signed and encrypted, under no other ending
//	FO.<node>.<yyyyddd>.<hhmm>.<nnn>.zip[.p7m.enc]       the ending says that it has arrived whole
//	EO.<node>.<yyyyddd>.<hhmm>.<nnn>.xml[.run]           about the FI of the same numbers
//	ER.<node>.<yyyyddd>.<hhmm>.<nnn>[.run]               the same
//	ST.<node>.<FI or FO>.<yyyyddd>.<hhmm>.csv[.run]
//
// spec: SDIFTP-4.3 §3.1, §3.2
type Name struct {
	Kind     Kind
	Flow     Kind   // ST only: which supports it reports
	Node     string // fiscal identifier under which the node is registered
	Year     int
	Day      int // of the year, from 1
	Hour     int
	Minute   int
	Number   int    // of the support within its minute; 0 in an ST
	Inner    string // ER only: an ending before .run, "" as a rule
	Complete bool   // the sender has marked the file as whole; an FI has no mark and always is
}

// NewName names support number n that node makes at the given time, counted in Italian time.
func NewName(kind Kind, node string, at time.Time, n int) Name {
	at = at.In(sdi.Roma())
	name := Name{Kind: kind, Node: node, Year: at.Year(), Day: at.YearDay(), Hour: at.Hour(), Minute: at.Minute(), Number: n}
	name.Complete = kind == FI
	return name
}

// ParseName reads a name strictly. Errors wrap ErrName and say which part is wrong.
func ParseName(s string) (Name, error) {
	fail := func(format string, args ...any) (Name, error) {
		return Name{}, fmt.Errorf("%w %q: %s", ErrName, clip(s, 60), fmt.Sprintf(format, args...))
	}
	if len(s) > 64 {
		return fail("longer than 64 characters")
	}
	parts := strings.Split(s, ".")
	if len(parts) < 5 {
		return fail("must look like FI.<node>.<yyyyddd>.<hhmm>.<nnn>.zip")
	}
	n := Name{Kind: Kind(parts[0]), Node: parts[1]}
	rest := parts[2:]
	switch n.Kind {
	case FI, FO, EO, ER:
	case ST:
		n.Flow, rest = Kind(rest[0]), rest[1:]
		if n.Flow != FI && n.Flow != FO {
			return fail("a report is about FI or FO")
		}
	default:
		return fail("must begin with FI, FO, EO, ER or ST")
	}
	if reason := n.readMoment(rest); reason != "" {
		return fail("%s", reason)
	}
	rest = rest[2:]
	if n.Kind != ST {
		if len(rest) == 0 {
			return fail("has no number")
		}
		var ok bool
		n.Number, ok = digits(rest[0], 3)
		if !ok {
			return fail("the number of the support is not three digits")
		}
		rest = rest[1:]
	}
	if !n.readEnding(strings.Join(rest, ".")) {
		return fail("the ending is not that of a file %s", n.Kind)
	}
	if reason := n.problem(); reason != "" {
		return fail("%s", reason)
	}
	return n, nil
}

func (n *Name) readMoment(parts []string) string {
	if len(parts) < 2 {
		return "has no day and time"
	}
	day, ok := digits(parts[0], 7)
	if !ok {
		return "the day is not year and day of the year (yyyyddd)"
	}
	clock, ok := digits(parts[1], 4)
	if !ok {
		return "the time is not hour and minute (hhmm)"
	}
	n.Year, n.Day, n.Hour, n.Minute = day/1000, day%1000, clock/100, clock%100
	return ""
}

func (n *Name) readEnding(ending string) bool {
	var rest string
	var complete bool
	switch n.Kind {
	case FI:
		n.Complete = true
		return ending == "zip"
	case FO:
		rest, complete = strings.CutSuffix(ending, ".p7m.enc")
		n.Complete = complete
		return rest == "zip"
	case EO, ST:
		rest, complete = strings.CutSuffix(ending, ".run")
		n.Complete = complete
		return rest == map[Kind]string{EO: "xml", ST: "csv"}[n.Kind]
	}
	if ending == "run" {
		n.Complete = true
		return true
	}
	n.Inner, n.Complete = strings.CutSuffix(ending, ".run")
	switch n.Inner { // the text gives none; seen with and without
	case "", "xml", "zip", "txt":
		return true
	}
	return false
}

func digits(s string, n int) (int, bool) {
	if len(s) != n || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	v, err := strconv.Atoi(s)
	return v, err == nil
}

// Validate checks every part. Errors wrap ErrName.
func (n Name) Validate() error {
	if reason := n.problem(); reason != "" {
		return fmt.Errorf("%w %q: %s", ErrName, n.String(), reason)
	}
	return nil
}

func (n Name) problem() string {
	if len(n.Node) < 11 || len(n.Node) > 16 {
		return fmt.Sprintf("the node has %d characters, a fiscal identifier has 11 to 16", len(n.Node))
	}
	for i := range len(n.Node) {
		if c := n.Node[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return "the node may have digits and upper-case letters only"
		}
	}
	days := time.Date(n.Year, 12, 31, 0, 0, 0, 0, time.UTC).YearDay()
	switch {
	case n.Year < 2000 || n.Year > 9999:
		return fmt.Sprintf("year %d", n.Year)
	case n.Day < 1 || n.Day > days:
		return fmt.Sprintf("day %d of a year with %d", n.Day, days)
	case n.Hour > 23 || n.Hour < 0 || n.Minute > 59 || n.Minute < 0:
		return fmt.Sprintf("time %02d:%02d", n.Hour, n.Minute)
	case n.Kind != ST && (n.Number < FirstNumber || n.Number > LastTestNumber):
		return fmt.Sprintf("number %d is not %d to %d", n.Number, FirstNumber, LastTestNumber)
	}
	return ""
}

// String formats the name without validating it.
func (n Name) String() string {
	stem := n.Stem()
	switch n.Kind {
	case FO:
		if n.Complete {
			return stem + ".zip.p7m.enc"
		}
		return stem + ".zip"
	case EO:
		stem += ".xml"
	case ST:
		stem += ".csv"
	case ER:
		if n.Inner != "" {
			stem += "." + n.Inner
		}
	default:
		return stem + ".zip"
	}
	if n.Complete {
		return stem + ".run"
	}
	return stem
}

// Stem is the name without any ending: what a support and the count inside it share.
func (n Name) Stem() string {
	if n.Kind == ST {
		return fmt.Sprintf("ST.%s.%s.%04d%03d.%02d%02d", n.Node, n.Flow, n.Year, n.Day, n.Hour, n.Minute)
	}
	return fmt.Sprintf("%s.%s.%04d%03d.%02d%02d.%03d", n.Kind, n.Node, n.Year, n.Day, n.Hour, n.Minute, n.Number)
}

// Support is the name of the ZIP, as counts and outcomes write it, without the mark of a whole FO.
func (n Name) Support() string { return n.Stem() + ".zip" }

// Count is the name of the file of counts inside the support.
func (n Name) Count() string { return n.Stem() + ".xml" }

// About is the FI that an EO or an ER is about.
func (n Name) About() Name {
	n.Kind, n.Inner, n.Complete = FI, "", true
	return n
}

// Test says whether the support is one of the test environment.
func (n Name) Test() bool { return n.Number >= FirstTestNumber }

// Whole is the same name with the mark that its sender puts after the last byte.
func (n Name) Whole() Name {
	n.Complete = true
	return n
}

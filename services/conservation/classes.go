package conservation

import (
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/internal/fault"
)

// Classes of documents. The class is a retention rule: packages never mix classes.
const (
	classPrivate = "FISC"    // invoices between private parties, and received ones: ten years
	classPublic  = "FISC-PA" // issued to public bodies: ten years, with the body's outcome
	classMail    = "PEC"     // certified mail: ten years
	classBooks   = "REG"     // registers and books
	classOther   = "ALTRO"   // whatever else a producer hands over
)

// class is what holds for one class of documents. Years run from the end of the year after the fiscal year; least is what the
// law demands, which nobody can shorten.
type class struct {
	name, description, basis string
	years, least             int32
}

// classes by name, in the order in which they are shown. spec: CC art. 2220; DPR 600/1973 art. 22
var classes = []class{
	{classPrivate, "Fatture tra privati e fatture ricevute, con le ricevute di SdI", "art. 2220 c.c.", 10, 10},
	{classPublic, "Fatture verso la pubblica amministrazione, con il loro esito", "art. 2220 c.c.", 10, 10},
	{classMail, "Messaggi di posta elettronica certificata e loro ricevute", "art. 2220 c.c. (corrispondenza)", 10, 10},
	{classBooks, "Registri e libri contabili", "art. 2220 c.c.", 10, 10},
	{classOther, "Altri documenti", "contratto di servizio", 10, 1},
}

func findClass(name string) (class, bool) {
	i := slices.IndexFunc(classes, func(c class) bool { return c.name == name })
	if i < 0 {
		return class{}, false
	}
	return classes[i], true
}

func unknownClass(name string) error {
	var names []string
	for _, c := range classes {
		names = append(names, c.name)
	}
	return fault.Invalid("CLASS_UNKNOWN", "class: %q is none of %s", name, strings.Join(names, ", ")).WithField("class", "CLASS_UNKNOWN", "no such class")
}

// yearsOf is the term of a class where nobody lengthened it.
func yearsOf(name string) int32 {
	if c, ok := findClass(name); ok {
		return c.years
	}
	return retentionYears
}

// retainUntil is the end of the last year of the term: it runs from the end of the year in which the documents of a fiscal year that
// ended in a year are declared. spec: CC art. 2220
func retainUntil(ended, years int32) time.Time {
	return time.Date(int(ended+1+years), time.December, 31, 23, 59, 59, 0, time.UTC)
}

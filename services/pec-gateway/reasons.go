package pecgateway

import (
	"bytes"
	_ "embed" // what providers mean by their errors
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/run"
)

//go:embed receipts.json
var knownReceipts []byte

// habit is what a provider means by its receipts where it differs from what everybody means.
type habit struct {
	Issuer  string      `json:"issuer"` // regular expression over its name in the trust list
	Reasons pec.Reasons `json:"reasons"`
}

// meanings are the habits of all providers whose receipts differ, in the order of their names.
type meanings []struct {
	issuer  *regexp.Regexp
	reasons pec.Reasons
}

// of gives the table for the receipts of a provider: the rows of each habit whose name fits.
func (l meanings) of(provider string) pec.Reasons {
	var out pec.Reasons
	for _, m := range l {
		if m.issuer.MatchString(provider) {
			out = append(out, m.reasons...)
		}
	}
	return out
}

// loadMeanings reads the habits that the program brings and those of a file, whose rows come first.
func loadMeanings(file string) (meanings, error) {
	all := map[string]habit{}
	err := readHabits(knownReceipts, all)
	if err != nil {
		return nil, fmt.Errorf("receipts.json: %w", err)
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			err = readHabits(text, all)
		}
		if err != nil {
			return nil, run.BadField("receipts_file", "%v", err)
		}
	}
	out := make(meanings, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		h := all[name]
		issuer, err := regexp.Compile(h.Issuer)
		if err == nil && h.Issuer == "" {
			err = errors.New("issuer is missing: a regular expression over the name in the trust list")
		}
		if err == nil {
			err = h.Reasons.Check()
		}
		if err != nil {
			return nil, run.BadField("receipts_file", "provider %s: %v", name, err)
		}
		out = append(out, struct {
			issuer  *regexp.Regexp
			reasons pec.Reasons
		}{issuer, h.Reasons})
	}
	return out, nil
}

// readHabits adds the providers of a text. Of one that is there already the issuer stays unless it is named, and its earlier
// rows come after.
func readHabits(text []byte, all map[string]habit) error {
	var given map[string]habit
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&given)
	for name, h := range given {
		before := all[name]
		all[name] = habit{Issuer: or(h.Issuer, before.Issuer), Reasons: slices.Concat(h.Reasons, before.Reasons)}
	}
	return err
}

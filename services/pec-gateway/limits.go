package pecgateway

import (
	"bytes"
	_ "embed" // the limits of the providers
	"encoding/json"
	"fmt"
	"os"
	"regexp"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/pec-gateway/internal/submit"
)

//go:embed limits.json
var knownLimits []byte

// limit is what one provider allows, and how its words are to be read. What a provider does not say
// comes from "generic": the least that the law makes every provider allow.
// spec: DM-2005-11-02 art. 12 c. 2
type limit struct {
	Recipients      *int     `json:"recipients"`
	Volume          *int64   `json:"volume"`     // bytes, size times recipients
	Reserve         *int64   `json:"reserve"`    // bytes that the provider may add to each copy
	PerMinute       *int     `json:"per_minute"` // messages of a mailbox in a minute; 0: no limit is known
	NoPrograms      *bool    `json:"no_programs"`
	Throttled       []string `json:"throttled"` // regular expressions over SMTP answers, added to those of generic
	Suspended       []string `json:"suspended"`
	PasswordExpired []string `json:"password_expired"`
}

// limits are those of one provider, complete.
type limits struct {
	pec.SubmissionLimits
	perMinute int
	rules     submit.Rules
}

// loadLimits reads the limits that the program brings and, over them, those of a file.
func loadLimits(file string) (map[string]limits, error) {
	all := map[string]limit{}
	if err := readLimits(knownLimits, all); err != nil {
		return nil, fmt.Errorf("limits.json: %w", err)
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			err = readLimits(text, all)
		}
		if err != nil {
			return nil, run.BadField("sending.limits_file", "%v", err)
		}
	}
	out := map[string]limits{}
	for name, l := range all {
		full, err := complete(l, all["generic"])
		if err != nil {
			return nil, run.BadField("sending.limits_file", "provider %s: %v", name, err)
		}
		out[name] = full
	}
	return out, nil
}

// readLimits adds the providers of a file; a provider's field that is not named stays.
func readLimits(text []byte, all map[string]limit) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(text, &given); err != nil {
		return err
	}
	for name, raw := range given {
		l := all[name]
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("provider %s: %w", name, err)
		}
		all[name] = l
	}
	return nil
}

func complete(l, generic limit) (limits, error) {
	out := limits{
		SubmissionLimits: pec.SubmissionLimits{
			Recipients: stated(l.Recipients, generic.Recipients), Volume: stated(l.Volume, generic.Volume),
			Reserve: stated(l.Reserve, generic.Reserve), NoPrograms: stated(l.NoPrograms, generic.NoPrograms),
		},
		perMinute: stated(l.PerMinute, generic.PerMinute),
	}
	if out.Recipients < 1 || out.Volume < 1 || out.Reserve < 0 || out.perMinute < 0 {
		return out, fmt.Errorf("recipients and volume have to be positive, reserve and per_minute not negative")
	}
	for _, f := range []struct {
		to   *[]*regexp.Regexp
		from [][]string
	}{
		{&out.rules.Throttled, [][]string{generic.Throttled, l.Throttled}},
		{&out.rules.Suspended, [][]string{generic.Suspended, l.Suspended}},
		{&out.rules.Expired, [][]string{generic.PasswordExpired, l.PasswordExpired}},
	} {
		for _, list := range f.from {
			for _, text := range list {
				re, err := regexp.Compile(text)
				if err != nil {
					return out, err
				}
				*f.to = append(*f.to, re)
			}
		}
	}
	return out, nil
}

func stated[T any](list ...*T) T {
	for _, p := range list {
		if p != nil {
			return *p
		}
	}
	var zero T
	return zero
}

// limitsOf are the limits of a provider, or the least that every one allows.
func (s *Service) limitsOf(provider string) limits {
	if l, ok := s.limits[provider]; ok {
		return l
	}
	return s.limits["generic"]
}

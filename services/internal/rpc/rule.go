package rpc

import (
	"fmt"
	"regexp"
	"strings"

	"buf.build/go/protovalidate"
)

// admitted is what a pattern lets through, for people.
type admitted struct{ words, example string }

// patterns are those of the contracts that are no plain resource names, which nameRule puts into words.
// What may be empty besides (^(...)?$) needs no line of its own.
var patterns = map[string]admitted{
	`^[a-z][a-z0-9-]{0,38}$`:       {"a lower-case letter, then up to 38 lower-case letters, digits and hyphens", "fe-2026"},
	`^[a-z][a-z0-9-]{1,38}$`:       {"a lower-case letter, then 1 to 38 lower-case letters, digits and hyphens", "acme-2"},
	`^[a-z][a-z0-9-]{0,62}$`:       {"a lower-case letter, then up to 62 lower-case letters, digits and hyphens", "rossi-spa"},
	`^[a-z]{0,30}$`:                {"at most 30 lower-case letters", "accounting"},
	`^[A-Z]{0,20}$`:                {"the name of a state as the list shows it, in capital letters", "QUARANTINED"},
	`^[A-Z-]{0,20}$`:               {"the name of a class: at most 20 capital letters and hyphens", "ALTRO"},
	`^[A-Z-]{1,20}$`:               {"the name of a class: 1 to 20 capital letters and hyphens", "ALTRO"},
	`^[A-Z]{4,10}$`:                {"PAUSED, OUTAGE, DRAINING or RETRY", "OUTAGE"},
	`^(FI|FO|EO|ER|ST)?$`:          {"FI, FO, EO, ER or ST, or empty", "FI"},
	`^(it|en)?$`:                   {"it or en, or empty", "it"},
	`^[A-Z]{3}$`:                   {"a currency in three capital letters (ISO 4217)", "EUR"},
	`^TD[0-9]{2}$`:                 {"TD and two digits (TipoDocumento)", "TD01"},
	`^-?[0-9]+(\.[0-9]{1,8})?$`:    {"a number with a decimal point and at most 8 decimals, no thousands separator", "1234.50"},
	`^#[0-9a-fA-F]{6}$`:            {"a colour: # and six hexadecimal digits", "#1f4e79"},
	`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`: {"a date, year-month-day", "2026-03-31"},
	`^[0-9a-fA-F-]{36}$`:           {"a UUID, which the caller makes", "01a2000d-c732-77fa-a682-a7bffdea44ad"},
	`^[0-9a-f]{64}$`:               {"a SHA-256 digest: 64 hexadecimal digits in lower case", strings.Repeat("0f", 32)},
	`^[0-9a-f]{40}|[0-9a-f]{64}$`:  {"the SHA-1 or SHA-256 digest of a certificate: 40 or 64 hexadecimal digits in lower case, no colons", strings.Repeat("0f", 20)},
	`^[A-Z0-9]{6,7}$`:              {"a recipient code (CodiceDestinatario): 6 or 7 capital letters and digits", "ABC1234"},
	`^[A-Z]{2}[A-Za-z0-9]{2,28}$`:  {"a VAT number with its country: two capital letters, then 2 to 28 letters and digits", "IT01234567897"},
	`^[A-Z0-9]{11}|[A-Z0-9]{16}$`:  {"a tax code (codice fiscale): 11 digits, or 16 capital letters and digits", "RSSMRA80A01H501U"},
	`^[A-Z0-9]{11,16}$`:            {"a tax code (codice fiscale): 11 to 16 capital letters and digits", "RSSMRA80A01H501U"},
	`^[^@ ]{1,128}@[^@ ]{1,127}$`:  {"an address with one @ and no blank", "fatture@pec.example.it"},
	`^(\*|[a-z]+\.[a-z]+)$`:        {"a scope: two words in lower case with a point between them, or * for all that the owner may do", "invoices.read"},
	`^[a-z_]+\.([a-z_]+|\*)$`:      {"a type of event: two words in lower case with a point between them, or * for the second", "invoice.delivered"},
	`^(key|oidc):[^\s]{1,200}$`:    {"key: and the id of an API key, or oidc: and the subject of a person, without a blank", "key:0123456789abcdef"},
	`^[^\x00-\x1f\x7f]{1,100}$`:    {"1 to 100 characters without line breaks, tabs and other control characters", "Fatture 2026"},
	`^[^/\\\x00-\x1f\x7f]+$`:       {"a file name without folders (/ and \\) and control characters", "contratto.pdf"},
	`^[A-Za-z0-9._-]{1,64}$`:       {"1 to 64 letters, digits, points, underscores and hyphens", "TK-0012345"},
	`^[A-Za-z0-9_.-]{0,16}$`:       {"at most 16 letters, digits, underscores, points and hyphens", "REG-01"},
	`^resellers/[a-z][a-z0-9-]{1,38}$`: {
		"resellers/ and the reseller's id: a lower-case letter, then 1 to 38 lower-case letters, digits and hyphens", "resellers/north"},
	`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`: {
		"a letter or digit, then up to 62 letters, digits, underscores and hyphens", "seal-2026"},
	`^[A-Za-z0-9][A-Za-z0-9._:/#-]{0,119}$`: {
		"a letter or digit, then up to 119 letters, digits and the characters . _ : / # -", "contracts/2026/0042"},
	`^[^\p{Cc}]*[^\p{Cc}\s][^\p{Cc}]*$`: {
		"one line of text that is not blank, without control characters", "invoices unpaid since March"},
	`^trustWithdrawals/[0-9a-f-]{36}$`: {
		"trustWithdrawals/{withdrawal}, as the list of withdrawals shows it", "trustWithdrawals/01a2000d-c732-77fa-a682-a7bffdea44ad"},
}

// names are examples of ids in resource names; all others are UUIDs.
var names = map[string]string{
	"tenants": "acme", "resellers": "north", "companies": "rossi", "operators": "anna", "services": "invoice", "series": "fe",
	"mailboxes": "fatture@pec.example.it", "users": "maria", "documents": "signed", "contacts": "bianchi", "items": "consulting",
}

var (
	choice     = regexp.MustCompile(`\(([a-zA-Z]+)(\|[a-zA-Z]+)+\)`)
	plainName  = regexp.MustCompile(`^[a-zA-Z]+(/[a-zA-Z{}_]+)*$`)
	optional   = regexp.MustCompile(`^\^\((.*)\)\?\$$`)
	collection = regexp.MustCompile(`([a-zA-Z]+)/\[\^/\](?:\+|\{1,64\})`)
	capital    = regexp.MustCompile(`[A-Z]`)
)

// ruleText says what is wrong with a field. What a pattern wants is said in words and by an example: users of an API
// should not have to read a regular expression.
func ruleText(v *protovalidate.Violation) string {
	switch v.Proto.GetRuleId() {
	case "string.email":
		return "must be an e-mail address; for example anna@example.com"
	case "string.uri":
		return "must be an address with its scheme; for example https://example.com/hook"
	case "string.min_len", "bytes.min_len":
		if v.RuleValue.IsValid() && v.RuleValue.Uint() == 1 {
			return "must not be empty"
		}
	}
	if !strings.HasSuffix(v.Proto.GetRuleId(), ".pattern") || !v.RuleValue.IsValid() {
		return v.Proto.GetMessage()
	}
	a, ok := inWords(v.RuleValue.String())
	if !ok {
		return v.Proto.GetMessage()
	}
	return fmt.Sprintf("must be %s; for example %s", a.words, a.example)
}

func inWords(pattern string) (admitted, bool) {
	if a, ok := patterns[pattern]; ok {
		return a, true
	}
	if inner := optional.FindStringSubmatch(pattern); inner != nil {
		a, ok := inWords("^" + inner[1] + "$")
		a.words += ", or empty"
		return a, ok
	}
	return nameRule(pattern)
}

// nameRule puts the pattern of a resource name into words: tenants/{tenant}/companies/{company}.
func nameRule(pattern string) (admitted, bool) {
	text := strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$")
	var forms, examples []string
	for _, one := range alternatives(text) {
		form := collection.ReplaceAllStringFunc(one, func(part string) string {
			name, _, _ := strings.Cut(part, "/")
			return name + "/{" + singular(name) + "}"
		})
		if !plainName.MatchString(form) {
			return admitted{}, false
		}
		example := collection.ReplaceAllStringFunc(one, func(part string) string {
			name, _, _ := strings.Cut(part, "/")
			id := names[name]
			if id == "" {
				id = "01a2000d-c732-77fa-a682-a7bffdea44ad"
			}
			return name + "/" + id
		})
		forms, examples = append(forms, form), append(examples, example)
	}
	return admitted{"a name of the form " + strings.Join(forms, " or "), examples[0]}, true
}

// alternatives are the names that a pattern admits: of a choice each, with and without an optional part.
func alternatives(text string) []string {
	if at := choice.FindStringIndex(text); at != nil {
		var all []string
		for _, word := range strings.Split(text[at[0]+1:at[1]-1], "|") {
			all = append(all, alternatives(text[:at[0]]+word+text[at[1]:])...)
		}
		return all
	}
	if from, to := strings.LastIndex(text, "("), strings.Index(text, ")?"); from >= 0 && to > from {
		without := text[:from] + text[to+2:]
		with := text[:from] + text[from+1:to] + text[to+2:]
		return append(alternatives(without), alternatives(with)...)
	}
	if strings.HasPrefix(text, "(") && strings.HasSuffix(text, ")") {
		text = text[1 : len(text)-1]
	}
	return strings.Split(text, "|")
}

// singular of a collection as the contracts write it: signature_request for signatureRequests.
func singular(name string) string {
	switch {
	case name == "series":
	case strings.HasSuffix(name, "ies"):
		name = strings.TrimSuffix(name, "ies") + "y"
	case strings.HasSuffix(name, "xes"), strings.HasSuffix(name, "ches"):
		name = strings.TrimSuffix(name, "es")
	default:
		name = strings.TrimSuffix(name, "s")
	}
	return strings.ToLower(capital.ReplaceAllString(name, "_$0"))
}

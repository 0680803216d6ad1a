package fatturapa_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/signature"
)

// notes end RULES.md: what a table cannot say.
const notes = `
00101 and 00106 are never told by this package. 00426, 00446, 00447, 00448 and 00459 of older lists are abolished or not defined.

## State

00002 and 00404 ask ` + "`Options.Ledger`" + `, two functions that the caller gives: ` + "`FileNameUsed(name)`" + ` and ` + "`Issued(key)`" + `, with the keys that ` + "`File.Keys`" + ` makes. Without them the two codes are in ` + "`Report.NeedsAuthority`" + ` alone. 00409 needs no state: it compares the documents of one file. No function here asks the operating system for anything.

## Dates

Rules and schemas are chosen by ` + "`Options.At`" + `, the day of receipt in Italy: pack 1.5 until 2020, 1.6 from 2021-01-01 (plain N2, N3, N6 end), 1.7 from 2022-10-01 (TD28), 1.9 from 2025-04-01 (TD29, RF20, schema 1.2.3), 1.9.1 from 2026-05-15 (00327). In the last quarter of 2020 two schemas are in force side by side.

## Where the structure check differs from libxml2

Compared with the official schemas on all samples and on generated mutants (` + "`go test ./format/fatturapa -run TestStructureAgrees -mutants 6000`" + `, where schemas and xmllint are at hand) two differences show, and in both the text of XML Schema part 2 is followed (SPECS.md beside this package names those that only text outside the schema shows, such as a DOCTYPE):

* ` + "`date-white-space`" + `: xs:date collapses white space, so a date with a space after it is valid; libxml2 refuses it.
* ` + "`base64-foreign-characters`" + `: xs:base64Binary has a closed alphabet; libxml2 passes over characters such as @ and -.
`

// testOf finds the test function in whose body a finding with the code is wanted.
func testOf(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	wanted := regexp.MustCompile(`"(00\d{3}) (?:error|warning)"|"(0020[01])"|"(0030\d)"`)
	out := map[string]string{}
	for _, name := range files {
		src, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, part := range regexp.MustCompile(`(?m)^func `).Split(string(src), -1) {
			fn, _, _ := strings.Cut(part, "(")
			if !strings.HasPrefix(fn, "Test") {
				continue
			}
			for _, m := range wanted.FindAllStringSubmatch(part, -1) {
				if code := m[1] + m[2] + m[3]; out[code] == "" {
					out[code] = fn
				}
			}
		}
	}
	return out
}

// RULES.md lists every rule with the test that shows it; a rule without one fails
// here. Size (00003) is refused by Parse first.
func TestEveryRuleIsShownByATest(t *testing.T) {
	tests := testOf(t)
	tests["00003"] = "TestSizeRule"
	var b strings.Builder
	b.WriteString("# Rules of format/fatturapa\n\nWritten by `go test ./format/fatturapa -run EveryRule -args -update` from the table of rules. Codes are those of SdI and permanent.\n" +
		"A finding is an error where all official texts agree; the disputed side of a rule is a warning that names the texts.\n\n" +
		"| code | decided | formats | severity | in force from | what is wrong | clause | test |\n|---|---|---|---|---|---|---|---|\n" +
		"| 00200 | offline | FPA12 FPR12 FSM10 | error | always | The file does not fit the schema | AllA-1.9 App.1 (00200) | TestStructureViolations, TestStructureAgreesWithTheOfficialSchemas |\n" +
		"| 00201 | offline | FPA12 FPR12 FSM10 | error | always | More than 50 format errors | AllA-1.9 App.1 (00201) | TestStructureStopsAtFifty |\n")
	for _, r := range fatturapa.Rules() {
		from, decided, test := "always", "offline", tests[r.Code]
		if r.From != 0 {
			from = fmt.Sprintf("%d-%02d-%02d", r.From/10000, r.From/100%100, r.From%100)
		}
		if r.NeedsAuthority {
			decided, test = "needs_authority_data", "TestAuthorityByFlow"
		}
		if (r.Code == "00002" || r.Code == "00404") && !r.NeedsAuthority {
			decided = "own ledger"
		}
		if r.Code == "00403" {
			decided = "offline, with the time of receipt"
		}
		if strings.HasPrefix(r.Code, "0030") && !r.NeedsAuthority {
			decided, test = "check digit only", "TestCheckDigitRules"
		}
		require.NotEmpty(t, test, r.Code)
		require.NotEmpty(t, r.Message.IT, r.Code)
		require.NotEmpty(t, r.Message.EN, r.Code)
		require.NotEmpty(t, r.Formats, r.Code)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.Code, decided, strings.Join(r.Formats, " "), r.Severity, from, r.Message.EN, r.Clause, test)
	}
	for _, c := range signature.Controls() {
		fmt.Fprintf(&b, "| %s | offline, package signature | FPA12 FPR12 FSM10 | error, told apart from the invoice | always | %s | AllA-1.9 §1.2.1 (%s), Elenco-2.0 | TestBrokenSignaturesNeverBlockReading |\n", c.Code, c.Message.EN, c.Code)
	}
	b.WriteString("| 00101 | needs_authority_data, package signature | FPA12 FPR12 FSM10 | - | always | Signing certificate revoked | AllA-1.9 §1.2.1 (00101) | TestWhatIsNotJudgedIsNamed |\n" +
		"| 00106 | offline, package signature | FPA12 FPR12 FSM10 | error | always | The file is empty, or its envelope cannot be read | AllA-1.9 App.1 (00106) | TestRefuses |\n")
	b.WriteString(notes)
	if *update {
		require.NoError(t, os.WriteFile("RULES.md", []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile("RULES.md")
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

// The size rule speaks when the caller lets larger files in.
func TestSizeRule(t *testing.T) {
	doc := "<!--" + strings.Repeat(" ", 5_000_000) + "-->" + wrap("")
	f, err := fatturapa.ParseWithin([]byte(doc), fatturapa.Limits{MaxBytes: 6_000_000})
	require.NoError(t, err)
	codes := ""
	for _, x := range fatturapa.Check(f, fatturapa.Options{}).Findings {
		codes += x.Code + " "
	}
	require.Contains(t, codes, "00003")
}

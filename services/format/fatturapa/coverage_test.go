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
)

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

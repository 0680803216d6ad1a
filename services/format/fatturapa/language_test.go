package fatturapa_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
)

// Words that give a language away. Names of elements and codes begin with a
// capital letter and are the same in both.
var (
	italianWords = regexp.MustCompile(`\b(caratter[ei]|cifr[ae]|letter[ae]|divers[oaie]|assente|mancante|paese|numero|decimali|uno fra|valore|indirizzo|testo|una? data|byte estranei|manca|elemento|cedente|oppure|maiuscol[eai]|al massimo|senza|non)\b`)
	englishWords = regexp.MustCompile(`\b(characters?|digits?|letters?|other than|missing|country|number|decimals|one of|value|address|text|the|with|without|must|not|lacks|element|seller|at most|whole|wrong)\b`)
)

// oneLanguage fails when a finding says in one language what belongs to the other.
// Actual holds what the file says, in whatever language, unless it has an Italian
// form of its own.
func oneLanguage(t *testing.T, x *fatturapa.Finding) {
	t.Helper()
	for _, s := range []string{x.Message.EN, x.Hint.EN, x.Expected} {
		require.NotRegexp(t, italianWords, s, "%s in English", x.Code)
	}
	for _, s := range []string{x.Message.IT, x.Hint.IT, x.ExpectedIn("it"), x.ActualIT} {
		require.NotRegexp(t, englishWords, s, "%s in Italian", x.Code)
	}
	if x.ActualIT != "" {
		require.NotRegexp(t, italianWords, x.Actual, x.Code)
	}
	require.Equal(t, x.Expected, x.ExpectedIn("en"))
	require.Equal(t, x.Actual, x.ActualIn("en"))
	require.Equal(t, x.Expected == "", x.ExpectedIn("it") == "")
}

// What the rules say of themselves is in one language at a time too.
func TestRulesSpeakOneLanguageAtATime(t *testing.T) {
	for _, r := range fatturapa.Rules() {
		oneLanguage(t, &fatturapa.Finding{Code: r.Code, Message: r.Message, Hint: r.Hint})
	}
}

package fatturapa_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/signature"
)

// What becomes of each control of the official lists.
const (
	ruled    = "a rule of this package"
	digits   = "check digit here, else needs_authority_data"
	register = "needs_authority_data"
	ledger   = "a rule that asks the caller's ledger, else needs_authority_data"
	schema   = "the structure check"
	signed   = "package signature"
	revoked  = "package signature, needs_authority_data: revocation lists are not looked at"
	refused  = "package signature: a file that cannot be opened"
	none     = "in force no more, or not defined"
	message  = "a code of an answer or message, not of an invoice: package sdi"
)

// controls are all codes that the official texts and their reference list name.
var controls = map[string]string{
	"00001": ruled, "00002": ledger, "00003": ruled,
	"00100": signed, "00101": revoked, "00102": signed, "00103": signed, "00104": signed, "00105": signed, "00106": refused, "00107": signed,
	"00200": schema, "00201": schema,
	"00300": digits, "00301": digits, "00302": digits, "00303": digits, "00304": digits, "00305": digits, "00306": digits,
	"00311": register, "00312": register, "00313": ruled,
	"00320": register, "00321": register, "00322": register, "00323": register, "00324": register, "00325": register, "00326": register, "00327": register,
	"00330": ruled, "00398": register, "00399": register,
	"00400": ruled, "00401": ruled, "00403": ruled, "00404": ledger, "00409": ruled, "00411": ruled, "00413": ruled, "00414": ruled, "00415": ruled,
	"00417": ruled, "00418": ruled, "00419": ruled, "00420": ruled, "00421": ruled, "00422": ruled, "00423": ruled, "00424": ruled, "00425": ruled,
	"00426": none, "00427": ruled, "00428": ruled, "00429": ruled, "00430": ruled, "00437": ruled, "00438": ruled, "00443": ruled, "00444": ruled,
	"00445": ruled, "00446": none, "00447": none, "00448": none, "00459": none, "00460": ruled,
	"00471": ruled, "00472": ruled, "00473": ruled, "00474": ruled, "00475": ruled, "00476": ruled,
	"00477": digits, // the form of the protocol
	"EI01":  message, "EI02": message, "EI03": message, "ER01": message, "ES00": message, "ES01": message, "ES02": message,
	"EN00": message, "EN01": message, "EC01": message, "EC02": message, "ET01": message, "ET02": message,
}

// Every control of the official lists has its place, and it is there.
func TestEveryControlHasItsPlace(t *testing.T) {
	offline, authority := map[string]bool{}, map[string]bool{}
	for _, r := range fatturapa.Rules() {
		if r.NeedsAuthority {
			authority[r.Code] = true
		} else {
			offline[r.Code] = true
		}
		require.Contains(t, controls, r.Code)
	}
	ofSignatures := map[string]bool{}
	for _, c := range signature.Controls() {
		ofSignatures[c.Code] = true
	}
	for code, place := range controls {
		require.Equal(t, place == ruled || place == digits || place == ledger, offline[code], code)
		require.Equal(t, place == register || place == digits || place == ledger, authority[code], code)
		require.Equal(t, place == signed, ofSignatures[code], code)
	}
	raw, err := os.ReadFile(reference + "/sdi_controls.tsv")
	if err != nil {
		t.Log("the reference list is not on this machine: the list above stands alone")
		return
	}
	listed := map[string]bool{}
	for row := range strings.Lines(string(raw)) {
		if code, _, _ := strings.Cut(row, "\t"); code != "code" && code != "" {
			listed[code] = true
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(controls)), slices.Sorted(maps.Keys(listed)))
}

// The controls that only registers decide are named by flow and by date.
func TestWhatNeedsAuthorityIsNamed(t *testing.T) {
	var want []string
	for code, place := range controls {
		if place == register || place == digits || place == ledger {
			want = append(want, code)
		}
	}
	got := map[string]bool{}
	for _, name := range []string{"fpr12.xml", "fpa12.xml", "fsm10.xml"} {
		raw, err := os.ReadFile("testdata/" + name)
		require.NoError(t, err)
		f, err := fatturapa.Parse(raw)
		require.NoError(t, err)
		for _, code := range fatturapa.Check(f, fatturapa.Options{}).NeedsAuthority {
			got[code] = true
		}
	}
	slices.Sort(want)
	require.Equal(t, want, slices.Sorted(maps.Keys(got)))
}

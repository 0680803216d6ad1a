package sdigateway

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/fault"
)

// What SdI answers, and what it means: whether the file may be there, who has to act, and whether it is repeated.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name      string
		answer    sdi.RispostaSdIRiceviFile
		code      string
		permanent bool
	}{
		{"taken", sdi.RispostaSdIRiceviFile{IdentificativoSdI: "30000483337"}, "", false},
		{"EI01: empty file, a repeat changes nothing", sdi.RispostaSdIRiceviFile{IdentificativoSdI: "0", Errore: sdi.EI01}, codeEmptyFile, true},
		{"EI02 with identifier 0 is no success", sdi.RispostaSdIRiceviFile{IdentificativoSdI: "0", Errore: sdi.EI02}, codeUnknownOutcome, false},
		{"EI02 with an identifier is none either", sdi.RispostaSdIRiceviFile{IdentificativoSdI: "30000483337", Errore: sdi.EI02}, codeUnknownOutcome, false},
		{"EI03: not enabled, a person has to act", sdi.RispostaSdIRiceviFile{IdentificativoSdI: "0", Errore: sdi.EI03}, codeNotEnabled, true},
		{"identifier 0 and no error", sdi.RispostaSdIRiceviFile{IdentificativoSdI: "0"}, codeUnknownOutcome, false},
		{"nothing at all", sdi.RispostaSdIRiceviFile{}, codeUnknownOutcome, false},
		{"an error that no text knows", sdi.RispostaSdIRiceviFile{Errore: "EI99"}, codeUnknownOutcome, false},
	} {
		t.Run(c.name, func(t *testing.T) { requireFault(t, answerFault(c.answer), c.code, c.permanent) })
	}
}

func TestCallsThatFail(t *testing.T) {
	for _, c := range []struct {
		name      string
		err       error
		code      string
		permanent bool
	}{
		{"no connection", &sdi.CallError{Err: errors.New("refused")}, codeUnreachable, false},
		{"cut after the request", &sdi.CallError{Sent: true, Err: errors.New("EOF")}, codeUnknownOutcome, false},
		{"a Server fault", &sdi.CallError{Sent: true, Status: 500, Err: &sdi.Fault{Code: "Server"}}, codeUnknownOutcome, false},
		{"a Client fault", &sdi.CallError{Sent: true, Status: 500, Err: &sdi.Fault{Code: "Client"}}, codeRefused, true},
		{"an answer that cannot be read", &sdi.CallError{Sent: true, Status: 200, Err: sdi.ErrXML}, codeUnknownOutcome, false},
		{"503", &sdi.CallError{Sent: true, Status: http.StatusServiceUnavailable, Err: sdi.ErrHTTPStatus}, codeUnknownOutcome, false},
		{"403: the client certificate", &sdi.CallError{Sent: true, Status: http.StatusForbidden, Err: sdi.ErrHTTPStatus}, codeRefused, true},
		{"404: the address", &sdi.CallError{Sent: true, Status: http.StatusNotFound, Err: sdi.ErrHTTPStatus}, codeRefused, true},
		{"413: the size", &sdi.CallError{Sent: true, Status: http.StatusRequestEntityTooLarge, Err: sdi.ErrHTTPStatus}, codeRefused, true},
		{"nothing could be written", sdi.ErrField, codeRefused, true},
	} {
		t.Run(c.name, func(t *testing.T) { requireFault(t, callFault(c.err), c.code, c.permanent) })
	}
}

func requireFault(t *testing.T, err error, code string, permanent bool) {
	t.Helper()
	if code == "" {
		require.NoError(t, err)
		return
	}
	require.Equal(t, code, fault.Of(err).Code)
	require.Equal(t, permanent, fault.Permanent(err))
}

package pecgateway

import (
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/pec-gateway/internal/imap"
	"ceralacca.dev/services/pec-gateway/internal/pop3"
)

// TestA12WhatRefusesALogin: the password is doubted only where the server does not say that it was something else; a password that
// is doubted is left alone for long.
func TestA12WhatRefusesALogin(t *testing.T) {
	for _, c := range []struct {
		err  error
		code string
	}{
		{&imap.ServerError{Command: "LOGIN", Status: "NO", Code: "AUTHENTICATIONFAILED", Text: "[AUTHENTICATIONFAILED] no"}, codeAuth},
		{&imap.ServerError{Command: "LOGIN", Status: "NO", Code: "EXPIRED", Text: "[EXPIRED] change it"}, codeAuth},
		{&imap.ServerError{Command: "LOGIN", Status: "NO", Text: "refused"}, codeAuth},
		{&imap.ServerError{Command: "LOGIN", Status: "NO", Code: "UNAVAILABLE"}, codeAway},
		{&imap.ServerError{Command: "LOGIN", Status: "NO", Code: "LIMIT"}, codeAway},
		{&imap.ServerError{Command: "LOGIN", Status: "NO", Code: "INUSE"}, codeAway},
		{&imap.ServerError{Command: "LOGIN", Status: "NO", Code: "SERVERBUG"}, codeAway},
		{&imap.ServerError{Command: "LOGIN", Status: "BYE", Text: "later"}, codeAway},
		{&pop3.ServerError{Command: "PASS", Text: "[AUTH] no"}, codeAuth},
		{&pop3.ServerError{Command: "PASS", Text: "invalid password"}, codeAuth},
		{&pop3.ServerError{Command: "PASS", Text: "[SYS/PERM] the account is closed"}, codeAuth},
		{&pop3.ServerError{Command: "PASS", Text: "[in-use] another session"}, codeAway},
		{&pop3.ServerError{Command: "PASS", Text: "[LOGIN-DELAY] too soon"}, codeAway},
		{&pop3.ServerError{Command: "USER", Text: "[SYS/TEMP] later"}, codeAway},
	} {
		code, _, grave := diagnose(c.err)
		require.Equal(t, c.code, code, c.err)
		require.Equal(t, c.code == codeAuth, grave, c.err)
	}
}

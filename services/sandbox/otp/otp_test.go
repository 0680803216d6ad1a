package otp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/otp"
)

func TestProviderAnswersAsProvidersDo(t *testing.T) {
	p := otp.New("secret", nil)
	call := func(method, path, token, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w
	}
	const good = `{"id":"1","to":"+393331234567","subject":"s","text":"12345678"}`
	require.Equal(t, http.StatusUnauthorized, call(http.MethodPost, "/", "other", good).Code)
	require.Equal(t, http.StatusBadRequest, call(http.MethodPost, "/", "secret", `{"to":"x"}`).Code)
	require.Equal(t, http.StatusBadRequest, call(http.MethodPost, "/", "secret", "no JSON").Code)
	require.Equal(t, http.StatusUnprocessableEntity, call(http.MethodPost, "/", "secret", `{"id":"9","to":"+390000000","text":"x"}`).Code)
	require.Equal(t, http.StatusMethodNotAllowed, call(http.MethodDelete, "/", "secret", "").Code)
	p.GoAway(1)
	require.Equal(t, http.StatusServiceUnavailable, call(http.MethodPost, "/", "secret", good).Code)
	for range 2 { // the same message twice is one
		require.Equal(t, http.StatusAccepted, call(http.MethodPost, "/", "secret", good).Code)
	}
	var arrived []otp.Message
	require.NoError(t, json.Unmarshal(call(http.MethodGet, "/?to=%2B393331234567", "secret", "").Body.Bytes(), &arrived))
	require.Len(t, arrived, 1)
	require.Equal(t, "12345678", arrived[0].Text)
	require.JSONEq(t, "[]", call(http.MethodGet, "/?to=nobody", "secret", "").Body.String())
}

package csc_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc1"
	"ceralacca.dev/services/format/csc/csc2"
)

// reader makes a request of one method and version out of bytes.
type reader struct {
	name string
	read func(*csc.Reader) (any, error)
}

func as[Q any](name string, read func(*csc.Reader) (*Q, error)) reader {
	return reader{name, func(r *csc.Reader) (any, error) { return read(r) }}
}

func readers() []reader {
	return []reader{
		as("v2/info", csc2.ReadInfo), as("v2/list", csc2.ReadList), as("v2/credential", csc2.ReadCredential),
		as("v2/authorize", csc2.ReadAuthorize), as("v2/check", csc2.ReadCheck), as("v2/challenge", csc2.ReadChallenge),
		as("v2/sendotp", csc2.ReadSendOTP), as("v2/extend", csc2.ReadExtend), as("v2/signhash", csc2.ReadSignHash),
		as("v2/signdoc", csc2.ReadSignDoc), as("v2/signdoc-digests", csc2.ReadSignDoc), as("v2/timestamp", csc2.ReadTimestamp),
		as("v1/list", csc1.ReadList), as("v1/credential", csc1.ReadCredential), as("v1/sendotp", csc1.ReadSendOTP),
		as("v1/authorize", csc1.ReadAuthorize), as("v1/extend", csc1.ReadExtend), as("v1/signhash", csc1.ReadSignHash),
	}
}

// TestRequests: each fixture has every member that the specification gives to a request. What is read
// from it and written again is the same: no member is called otherwise, none is lost.
func TestRequests(t *testing.T) {
	for _, c := range readers() {
		t.Run(c.name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", c.name+".json"))
			require.NoError(t, err)
			r, err := csc.Read(raw)
			require.NoError(t, err)
			req, err := c.read(r)
			require.NoError(t, err)
			again, err := json.Marshal(req)
			require.NoError(t, err)
			require.JSONEq(t, string(raw), string(again))
			if strings.Contains(c.name, "info") {
				return
			}
			var members map[string]any
			require.NoError(t, json.Unmarshal(raw, &members))
			for name := range members { // each member of a wrong type is refused
				wrong := map[string]any{}
				for k, v := range members {
					wrong[k] = v
				}
				wrong[name] = map[string]any{"a": 1}
				body, err := json.Marshal(wrong)
				require.NoError(t, err)
				r, err := csc.Read(body)
				require.NoError(t, err)
				_, err = c.read(r)
				require.Error(t, err, name)
				var e *csc.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, http.StatusBadRequest, e.Status)
				require.Equal(t, csc.CodeInvalidRequest, e.Code)
				require.Contains(t, e.Description, name)
			}
		})
	}
}

// TestResponses: what a client reads of the answers of a server, and writes again, is the same.
func TestResponses(t *testing.T) {
	for name, into := range map[string]any{
		"v2/info-response": &csc2.InfoResponse{}, "v2/list-response": &csc2.ListResponse{}, "v2/credential-response": &csc2.CredentialInfo{},
		"v2/sad-response": &csc2.SADResponse{}, "v2/signhash-response": &csc2.SignHashResponse{}, "v2/signdoc-response": &csc2.SignDocResponse{},
		"v1/info-response": &csc1.InfoResponse{}, "v1/login-response": &csc1.LoginResponse{}, "v1/list-response": &csc1.ListResponse{},
		"v1/credential-response": &csc1.CredentialInfo{}, "v1/sad-response": &csc1.SADResponse{}, "v1/signhash-response": &csc1.SignHashResponse{},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			require.NoError(t, err)
			dec := json.NewDecoder(bytes.NewReader(raw))
			dec.DisallowUnknownFields()
			require.NoError(t, dec.Decode(into))
			again, err := json.Marshal(into)
			require.NoError(t, err)
			require.JSONEq(t, string(raw), string(again))
		})
	}
}

// TestPresence: servers of version 1 write it as a string, as the specification has it, and as a boolean.
func TestPresence(t *testing.T) {
	for raw, want := range map[string]csc1.Presence{`"true"`: "true", `true`: "true", `false`: "false", `"optional"`: "optional"} {
		var p csc1.PIN
		require.NoError(t, json.Unmarshal([]byte(`{"presence":`+raw+`}`), &p))
		require.Equal(t, want, p.Presence)
	}
	var p csc1.PIN
	require.Error(t, json.Unmarshal([]byte(`{"presence":3}`), &p))
}

func TestNullIsAbsent(t *testing.T) {
	r, err := csc.Read([]byte(`{"credentialID":null,"lang":null}`))
	require.NoError(t, err)
	require.Empty(t, r.Optional("lang", 10))
	require.NoError(t, r.Err())
	r.String("credentialID")
	require.EqualError(t, r.Err(), "csc: invalid_request: Missing (or invalid type) string parameter credentialID")
}

func TestErrors(t *testing.T) {
	e := csc.ReadError(400, []byte(`{"error":"invalid_otp","error_description":"The OTP is invalid"}`))
	require.Equal(t, csc.Error{Status: 400, Code: csc.CodeInvalidOTP, Description: "The OTP is invalid"}, *e)
	for _, body := range []string{"", "<html>", `{"error":""}`, `{"error":7}`, `[]`} {
		e := csc.ReadError(502, []byte(body))
		require.Equal(t, csc.CodeServerError, e.Code)
		require.Equal(t, 502, e.Status)
	}
	require.Equal(t, "20261122053000Z", csc.Time(time.Date(2026, 11, 22, 6, 30, 0, 0, time.FixedZone("", 3600))))
}

// FuzzRead: no bytes end the reader; what is accepted is written and read again as the same.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "v[12]", "*.json"))
	require.NoError(f, err)
	for i, name := range files {
		raw, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(i, raw)
	}
	all := readers()
	f.Fuzz(func(t *testing.T, which int, raw []byte) {
		c := all[uint(which)%uint(len(all))]
		r, err := csc.Read(raw)
		if err != nil {
			return
		}
		req, err := c.read(r)
		if err != nil {
			return
		}
		again, err := json.Marshal(req)
		require.NoError(t, err)
		r, err = csc.Read(again)
		require.NoError(t, err)
		same, err := c.read(r)
		require.NoError(t, err, "%s", again)
		once, err := json.Marshal(same)
		require.NoError(t, err)
		require.JSONEq(t, string(again), string(once))
	})
}

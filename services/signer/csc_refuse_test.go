package signer_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/format/pades"
)

// refusals: each row is one thing wrong with a request that is good otherwise, and the answer that the
// tables of the specification have for it.
func (p *cscPerson) refusals(t *testing.T) {
	hash := base64.StdEncoding.EncodeToString(digests("x")[0])
	short := base64.StdEncoding.EncodeToString(digests("x")[0][:31])
	sad := strings.Repeat("A", 64)
	authorize := func(change string) string {
		return `{"credentialID":"` + p.id + `","numSignatures":1,"hashes":["` + hash + `"],"hashAlgorithmOID":"` + csc.SHA256 +
			`","authData":[{"id":"PIN","value":"40718362"},{"id":"OTP","value":"12345678"}]` + change + `}`
	}
	without := func(body, member string) string {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(body), &m))
		delete(m, member)
		out, err := json.Marshal(m)
		require.NoError(t, err)
		return string(out)
	}
	with := func(body, member string, value any) string {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(body), &m))
		m[member] = value
		out, err := json.Marshal(m)
		require.NoError(t, err)
		return string(out)
	}
	hashes := `{"credentialID":"` + p.id + `","SAD":"` + sad + `","hashes":["` + hash + `"],"signAlgo":"` + csc.ECDSASHA256 + `"}`
	doc := func(one string) string {
		return `{"credentialID":"` + p.id + `","SAD":"` + sad + `","documents":[` + one + `]}`
	}
	const good = `{"document":"eA==","signature_format":"C","signAlgo":"1.2.840.10045.4.3.2"`
	const missing = "Missing (or invalid type) "
	for _, c := range []struct{ method, body, code, description string }{
		{csc2.List, `[]`, "invalid_request", "The request is not a JSON object"},
		{csc2.List, `{"certInfo":true,"certInfo":true}`, "invalid_request", `Parameter "certInfo" is repeated`},
		{csc2.List, `{} {}`, "invalid_request", "Something follows the JSON object of the request"},
		{csc2.List, "{\"lang\":\"\xff\"}", "invalid_request", "The request is not UTF-8"},
		{csc2.List, `{"certificates":"all"}`, "invalid_request", "Invalid parameter certificates"},
		{csc2.List, `{"certInfo":"true"}`, "invalid_request", "Invalid parameter certInfo"},
		{csc2.List, `{"userID":"a/b"}`, "invalid_request", "Invalid parameter userID"},
		{csc2.Credential, `{}`, "invalid_request", missing + "string parameter credentialID"},
		{csc2.Credential, `{"credentialID":7}`, "invalid_request", missing + "string parameter credentialID"},
		{csc2.Credential, `{"credentialID":"GX0112348"}`, "invalid_request", "Invalid parameter credentialID"},
		{csc2.Credential, `{"CredentialID":"` + p.id + `"}`, "invalid_request", missing + "string parameter credentialID"},
		{csc2.Challenge, `{"credentialID":"` + p.id + `"}`, "invalid_request", missing + "string parameter authObjectID"},
		{csc2.Challenge, `{"credentialID":"` + p.id + `","authObjectID":"PIN"}`, "invalid_request", "Invalid parameter authObjectID"},
		{csc2.Authorize, without(authorize(""), "numSignatures"), "invalid_request", missing + "integer parameter numSignatures"},
		{csc2.Authorize, with(authorize(""), "numSignatures", "1"), "invalid_request", missing + "integer parameter numSignatures"},
		{csc2.Authorize, with(authorize(""), "numSignatures", 1.5), "invalid_request", missing + "integer parameter numSignatures"},
		{csc2.Authorize, with(authorize(""), "numSignatures", 0), "invalid_request", "Invalid value for parameter numSignatures"},
		{csc2.Authorize, with(authorize(""), "numSignatures", 501), "invalid_request", "Numbers of signatures is too high"},
		{csc2.Authorize, without(authorize(""), "hashes"), "invalid_request", missing + "array parameter hashes"},
		{csc2.Authorize, without(authorize(""), "hashAlgorithmOID"), "invalid_request", missing + "string parameter hashAlgorithmOID"},
		{csc2.Authorize, with(authorize(""), "hashAlgorithmOID", "1.3.14.3.2.26"), "invalid_request", "Invalid parameter hashAlgorithmOID"},
		{csc2.Authorize, with(authorize(""), "hashes", []string{short}), "invalid_request", "Invalid digest value length"},
		{csc2.Authorize, with(authorize(""), "hashes", []string{hash[:40] + "\n" + hash[40:]}), "invalid_request", "Invalid Base64 hash string parameter"},
		{csc2.Authorize, with(authorize(""), "hashes", []string{strings.TrimRight(hash, "=")}), "invalid_request", "Invalid Base64 hash string parameter"},
		{csc2.Authorize, with(with(authorize(""), "hashes", []string{hash, hash}), "numSignatures", 2), "invalid_request", "A hash is there twice: name each once"},
		{csc2.Authorize, without(authorize(""), "authData"), "invalid_request", missing + "array parameter authData"},
		{csc2.Authorize, with(authorize(""), "authData", "x"), "invalid_request", "Invalid parameter authData"},
		{csc2.Authorize, with(authorize(""), "authData", []any{map[string]string{"id": "FACE", "value": "x"}}), "invalid_request", "Invalid parameter authData"},
		{csc2.SignHash, without(hashes, "SAD"), "invalid_request", missing + "string parameter SAD"},
		{csc2.SignHash, hashes, "invalid_request", "Invalid parameter SAD"},
		{csc2.SignHash, with(hashes, "SAD", "x"), "invalid_request", "Invalid parameter SAD"},
		{csc2.SignHash, without(hashes, "hashes"), "invalid_request", missing + "array parameter hashes"},
		{csc2.SignHash, with(hashes, "hashes", hash), "invalid_request", missing + "array parameter hashes"},
		{csc2.SignHash, with(hashes, "hashes", []string{}), "invalid_request", "Empty hash array"},
		{csc2.SignHash, with(hashes, "signAlgo", "1.2.3"), "invalid_request", "Invalid parameter signAlgo"},
		{csc2.SignHash, with(hashes, "signAlgo", csc.SHA256WithRSA), "invalid_request", "Invalid parameter signAlgo"},
		{csc2.SignHash, with(hashes, "signAlgo", csc.RSA), "invalid_request", missing + "string parameter hashAlgorithmOID"},
		{csc2.SignHash, with(hashes, "signAlgoParams", 3), "invalid_request", "Invalid parameter signAlgoParams"},
		{csc2.SignHash, with(hashes, "operationMode", "A"), "invalid_request", "Invalid parameter operationMode"},
		{csc2.SignHash, with(hashes, "operationMode", "B"), "invalid_request", "Invalid parameter operationMode"},
		{csc2.SignHash, with(hashes, "validity_period", -1), "invalid_request", "Out of bounds parameter validity_period"},
		{csc2.SignDoc, doc(``), "invalid_request", "Empty documentDigests and documents objects"},
		{csc2.SignDoc, with(doc(``), "documents", 7), "invalid_request", "Invalid array parameter documents"},
		{csc2.SignDoc, with(doc(good+`}`), "documentDigests", []any{}), "invalid_request", "Both documentDigests and documents parameters passed"},
		{csc2.SignDoc, doc(`{"document":"e","signature_format":"C","signAlgo":"1.2.840.10045.4.3.2"}`), "invalid_request", "Invalid Base64 documents string parameter"},
		{csc2.SignDoc, doc(`{"document":"eA==","signAlgo":"1.2.840.10045.4.3.2"}`), "invalid_request", missing + "string parameter signature_format"},
		{csc2.SignDoc, doc(`{"document":"eA==","signature_format":"J","signAlgo":"1.2.840.10045.4.3.2"}`), "invalid_request", "Invalid parameter signature_format"},
		{csc2.SignDoc, doc(good + `,"signed_envelope_property":"Enveloping"}`), "invalid_request", "Invalid parameter signed_envelope_property"},
		{csc2.SignDoc, doc(good + `,"conformance_level":"AdES-B-LTA"}`), "invalid_request", "Invalid parameter conformance_level"},
		{csc2.SignDoc, doc(good + `,"signed_props":[{"attribute_name":"Reason"}]}`), "invalid_request", "Invalid parameter signed_props (Reason)"},
		{csc2.SignDoc, with(doc(good+`}`), "signatureQualifier", "eu_eidas_qes"), "invalid_request", "Invalid parameter signatureQualifier"},
		{csc2.Timestamp, `{"hash":"` + hash + `","hashAlgo":"1.2"}`, "invalid_request", "Invalid parameter hashAlgo"},
		{csc2.Timestamp, `{"hash":"` + short + `","hashAlgo":"` + csc.SHA256 + `"}`, "invalid_request", "Invalid digest value length"},
		{csc2.Timestamp, `{"hash":"` + hash + `","hashAlgo":"` + csc.SHA256 + `","nonce":"xyz"}`, "invalid_request", "Invalid parameter nonce"},
	} {
		status, head, answer := p.send(t, c.method, p.key, c.body)
		said := csc.ReadError(status, answer)
		require.Equal(t, http.StatusBadRequest, status, "%s %s: %s", c.method, c.body, answer)
		require.Equal(t, c.code+": "+c.description, said.Code+": "+said.Description, "%s %s", c.method, c.body)
		require.Equal(t, "no-store", head.Get("Cache-Control"))
	}
	p.unwelcome(t)
}

// unwelcome: what is wrong with a call before anybody reads it.
func (p *cscPerson) unwelcome(t *testing.T) {
	for _, c := range []struct {
		method, key string
		header      []string
		body        string
		status      int
		code        string
	}{
		{csc2.List, "", nil, `{}`, http.StatusUnauthorized, csc.CodeInvalidToken},
		{csc2.List, "nobody", nil, `{}`, http.StatusUnauthorized, csc.CodeInvalidToken},
		{csc2.List, "", []string{"Authorization", "Basic eDp5"}, `{}`, http.StatusBadRequest, csc.CodeInvalidRequest},
		{csc2.List, p.key, []string{"Content-Type", "text/plain"}, `{}`, http.StatusBadRequest, csc.CodeInvalidRequest},
		{csc2.List, p.key, []string{"Idempotency-Key", "short"}, `{}`, http.StatusBadRequest, csc.CodeInvalidRequest},
		{csc2.List, p.key, nil, `{"clientData":"` + strings.Repeat("x", 1<<20) + `"}`, http.StatusRequestEntityTooLarge, csc.CodeInvalidRequest},
		{csc2.SignPolling, p.key, nil, `{}`, http.StatusNotImplemented, csc.CodeInvalidRequest},
		{"auth/login", p.key, nil, `{}`, http.StatusNotImplemented, csc.CodeInvalidRequest},
	} {
		status, head, answer := p.send(t, c.method, c.key, c.body, c.header...)
		require.Equal(t, c.status, status, "%s: %s", c.method, answer)
		require.Equal(t, c.code, csc.ReadError(status, answer).Code)
		if status == http.StatusUnauthorized {
			require.Contains(t, head.Get("WWW-Authenticate"), "Bearer")
		}
	}
	resp, err := http.Get(p.base + "/" + csc2.Info) //nolint:noctx // of a test
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	resp, err = http.Get(p.base + "/logo.png") //nolint:noctx // of a test
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "image/png", resp.Header.Get("Content-Type"))
}

// descriptions: what is asked for is said of a credential, and no more.
func (p *cscPerson) descriptions(t *testing.T) {
	get := func(body string) map[string]any {
		status, _, answer := p.send(t, csc2.Credential, p.key, body)
		require.Equal(t, http.StatusOK, status, "%s", answer)
		var m map[string]any
		require.NoError(t, json.Unmarshal(answer, &m))
		require.Equal(t, "2", m["SCAL"])
		require.Equal(t, "eu_eidas_aes", m["signatureQualifier"], "Vault is no QSCD")
		require.InDelta(t, 500, m["multisign"], 0)
		return m
	}
	member := func(m map[string]any, name string) map[string]any {
		inner, ok := m[name].(map[string]any)
		require.True(t, ok, name)
		return inner
	}
	plain := get(`{"credentialID":"` + p.id + `","unknown":{"a":[1]}}`)
	require.Len(t, member(plain, "cert")["certificates"], 1)
	require.NotContains(t, member(plain, "cert"), "issuerDN")
	require.Equal(t, map[string]any{"mode": "explicit"}, member(plain, "auth"))
	require.Equal(t, map[string]any{"status": "enabled", "algo": []any{csc.ECDSASHA256}, "len": 256.0, "curve": csc.P256}, member(plain, "key"))
	full := get(`{"credentialID":"` + p.id + `","certificates":"chain","certInfo":true,"authInfo":true,"lang":"it-IT"}`)
	require.Len(t, member(full, "cert")["certificates"], 2)
	require.Regexp(t, `^[0-9]{14}Z$`, member(full, "cert")["validTo"])
	require.Contains(t, fmt.Sprint(member(full, "auth")["objects"]), "Il codice ricevuto per SMS")
	none := get(`{"credentialID":"` + p.id + `","certificates":"none"}`)
	require.NotContains(t, member(none, "cert"), "certificates")

	bare := p.credential(t, company, person, p256)
	seals := p.credential(t, company, seal, p256)
	var list csc2.ListResponse
	require.NoError(t, p.post(t, csc2.List, csc2.ListRequest{CredentialInfo: true}, &list))
	require.Equal(t, []string{last(bare.GetName()), p.id}, list.CredentialIDs, "persons only, newest first")
	require.Equal(t, "disabled", list.CredentialInfos[0].Key.Status, "no PIN yet")
	require.NotContains(t, list.CredentialIDs, last(seals.GetName()))
	list = csc2.ListResponse{}
	require.NoError(t, p.post(t, csc2.List, csc2.ListRequest{OnlyValid: true, UserID: p.to[1:]}, &list))
	require.Equal(t, []string{p.id}, list.CredentialIDs)
	require.True(t, list.OnlyValid)
	_, err := p.client.RevokeCredential(t.Context(), &signv1.RevokeCredentialRequest{Name: bare.GetName()})
	require.NoError(t, err)
	refused(t, p.post(t, csc2.Authorize, &csc2.AuthorizeRequest{
		CredentialID: last(bare.GetName()), NumSignatures: 1, Hashes: digests("x"), HashAlgorithm: csc.SHA256,
		AuthData: []csc2.AuthValue{{ID: "PIN", Value: goodPIN}, {ID: "OTP", Value: "12345678"}},
	}, nil), "invalid_request", "The credential identified by credentialID is disabled")
}

// documents: whole documents and digests of documents, under a SAD for exactly these.
func (p *cscPerson) documents(t *testing.T) {
	pdf, text := onePage("contract"), []byte("a letter")
	sign := func(sad string, req csc2.SignDocRequest) (*csc2.SignDocResponse, error) {
		req.CredentialID, req.SAD = p.id, sad
		var resp csc2.SignDocResponse
		err := p.post(t, csc2.SignDoc, req, &resp)
		return &resp, err
	}
	form := csc2.Form{Format: "P", Level: "AdES-B-T", SignAlgo: csc.ECDSASHA256}
	sad := p.sad(t, digests(string(pdf)), 1)
	_, err := sign(sad, csc2.SignDocRequest{Documents: []csc2.Document{{Document: onePage("another"), Form: form}}})
	var e *csc.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, csc.Error{Status: 403, Code: "invalid_hash", Description: "Document or documentDigest does not match authorized hash"}, *e)
	made, err := sign(sad, csc2.SignDocRequest{Documents: []csc2.Document{{Document: pdf, Form: form}}})
	require.NoError(t, err)
	signed := made.DocumentWithSignature[0]
	report, err := pades.Verify(t.Context(), strings.NewReader(string(signed)), int64(len(signed)), pades.VerifyOptions{})
	require.NoError(t, err)
	require.True(t, report.Signatures[0].Signature.Intact())
	require.Equal(t, pades.FormsAndSigning, report.Certified, "Certification is what the specification has for no property")

	sad = p.sad(t, digests(string(text), "other"), 2)
	mixed := []csc2.Document{{Document: text, Form: csc2.Form{Format: "C", SignAlgo: csc.ECDSASHA256}}, {Document: []byte("other"), Form: form}}
	_, err = sign(sad, csc2.SignDocRequest{Documents: mixed})
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Description, "all documents of a call have one")
	digested := csc2.DocumentDigest{Hashes: digests(string(text), "other"), HashAlgorithm: csc.SHA256, Form: csc2.Form{Format: "C", Level: "AdES-B-T", SignAlgo: csc.ECDSASHA256}}
	inPDF := digested
	inPDF.Format = "P"
	_, err = sign(sad, csc2.SignDocRequest{DocumentDigests: []csc2.DocumentDigest{inPDF}})
	refused(t, err, "invalid_request", "Invalid parameter signed_envelope_property")
	made, err = sign(sad, csc2.SignDocRequest{DocumentDigests: []csc2.DocumentDigest{digested}})
	require.NoError(t, err)
	require.Len(t, made.SignatureObject, 2)
	p.opensslAcceptsDetached(t, made.SignatureObject[0], text)
	require.Empty(t, made.DocumentWithSignature)

	xml := []byte("<letter><p>x</p></letter>")
	sad = p.sad(t, digests(string(xml)), 1)
	made, err = sign(sad, csc2.SignDocRequest{Documents: []csc2.Document{{Document: xml, Form: csc2.Form{Format: "X", SignAlgo: csc.ECDSASHA256}}}})
	require.NoError(t, err)
	require.Contains(t, string(made.DocumentWithSignature[0]), "SignedProperties")

	sad = p.sad(t, digests(string(text)), 1)
	made, err = sign(sad, csc2.SignDocRequest{Documents: []csc2.Document{{
		Document: text, Form: csc2.Form{Format: "C", Level: "Ades-B-T", Envelope: "Detached", SignAlgo: csc.ECDSASHA256},
	}}})
	require.NoError(t, err)
	_, inside, err := cades.Verify(made.SignatureObject[0], cades.VerifyOptions{Content: strings.NewReader(string(text))})
	require.NoError(t, err)
	require.Equal(t, cades.LevelT, inside.Signers[0].Level)
}

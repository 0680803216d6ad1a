package signer_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/otp"
	"ceralacca.dev/services/sandbox/tsa"
	"ceralacca.dev/services/signer"
)

const messagesToken = "sandbox-token"

// rssp is a house that offers the API of the Cloud Signature Consortium.
type rssp struct {
	*house
	base     string
	provider *otp.Provider
	messages string
	tsaCA    string
	log      *syncBuffer
}

// cscPerson is a credential of a person, and the key of the product that asks for them.
type cscPerson struct {
	*rssp
	name, id, key, to string
	auth              signv1.AuthorizationServiceClient
}

func openCSC(t *testing.T, extra string) *rssp {
	t.Helper()
	dir := t.TempDir()
	r := &rssp{provider: otp.New(messagesToken, nil), log: &syncBuffer{}, tsaCA: filepath.Join(dir, "tsa.pem")}
	messages := httptest.NewServer(r.provider)
	t.Cleanup(messages.Close)
	r.messages = messages.URL
	token := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(token, []byte(messagesToken), 0o600))
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.tsaCA, authority.CertPEM(), 0o600))
	stamps, err := tsa.New(tsa.Options{CA: authority, Name: "stamps"})
	require.NoError(t, err)
	web := httptest.NewServer(stamps)
	t.Cleanup(web.Close)
	r.house = openWith(t, r.log, fmt.Sprintf(`  csc: {url: "https://sign.example/csc/v2"%s}
  authorization: {sms: {url: %q, token_file: %q}}
  documents: {max_size: 1048576}
  tsa: [{name: stamps, url: %q, ca_file: %q}]
`, extra, messages.URL, token, web.URL, r.tsaCA))
	r.base = "http://" + r.HTTP + "/csc/v2"
	return r
}

// person makes a credential with a PIN and a telephone of its own.
func (r *rssp) person(t testing.TB, key signv1.KeyType, to string) *cscPerson {
	t.Helper()
	return r.personWith(t, r.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{
		"credentials.write", "credentials.read", "credentials.sign", "documents.sign", "documents.stamp",
	}}), key, to)
}

// personWith is person for a key of the tenant's that is there.
func (r *rssp) personWith(t testing.TB, apiKey string, key signv1.KeyType, to string) *cscPerson {
	t.Helper()
	p := &cscPerson{rssp: r, name: r.credential(t, company, person, key).GetName(), key: apiKey, to: to}
	p.id = last(p.name)
	p.auth = signv1.NewAuthorizationServiceClient(r.DialKey("signer", p.key))
	_, err := p.auth.SetPin(t.Context(), &signv1.SetPinRequest{Name: p.name, Holder: "tenants/acme/users/" + to[1:], NewPin: goodPIN})
	require.NoError(t, err)
	made, err := p.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{
		Parent: p.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: sms, DisplayName: "phone", Address: to},
	})
	require.NoError(t, err)
	_, err = p.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: made.GetOtpDevice().GetName(), Pin: goodPIN, Otp: p.password(t)})
	require.NoError(t, err)
	return p
}

func (p *cscPerson) text(t testing.TB) string {
	t.Helper()
	list := p.provider.Sent(p.to)
	require.NotEmpty(t, list)
	return list[len(list)-1].Text
}

func (p *cscPerson) password(t testing.TB) string {
	t.Helper()
	found := regexp.MustCompile(inMessage).FindString(p.text(t))
	require.NotEmpty(t, found)
	return found
}

// send posts bytes, with further headers, and gives the answer as it is.
func (r *rssp) send(t testing.TB, method, key, body string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, r.base+"/"+method, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, answer
}

// post sends a message and reads the answer into resp; an error of the API is the error.
func (p *cscPerson) post(t testing.TB, method string, req, resp any, header ...string) error {
	t.Helper()
	_, err := p.postFor(t, method, req, resp, header...)
	return err
}

// postFor is post with the status of HTTP.
func (p *cscPerson) postFor(t testing.TB, method string, req, resp any, header ...string) (int, error) {
	t.Helper()
	body, err := json.Marshal(req)
	require.NoError(t, err)
	status, _, answer := p.send(t, method, p.key, string(body), header...)
	switch {
	case status == http.StatusNoContent:
		return status, nil
	case status != http.StatusOK && status != http.StatusAccepted:
		return status, csc.ReadError(status, answer)
	}
	require.NoError(t, json.Unmarshal(answer, resp))
	return status, nil
}

func digests(texts ...string) (out [][]byte) {
	for _, text := range texts {
		sum := sha256.Sum256([]byte(text))
		out = append(out, sum[:])
	}
	return out
}

func (p *cscPerson) ask(hashes [][]byte, n int, otp string) *csc2.AuthorizeRequest {
	return &csc2.AuthorizeRequest{
		CredentialID: p.id, NumSignatures: n, Hashes: hashes, HashAlgorithm: csc.SHA256,
		AuthData: []csc2.AuthValue{{ID: "PIN", Value: goodPIN}, {ID: "OTP", Value: otp}},
	}
}

// sad has a password sent for the digests and gives the SAD.
func (p *cscPerson) sad(t testing.TB, hashes [][]byte, n int) string {
	t.Helper()
	require.NoError(t, p.post(t, csc2.Challenge, csc2.ChallengeRequest{CredentialID: p.id, AuthObjectID: "OTP", Hashes: hashes, HashAlgorithm: csc.SHA256, NumSignatures: n}, nil))
	list := p.provider.Sent(p.to)
	var given csc2.SADResponse
	require.NoError(t, p.post(t, csc2.Authorize, p.ask(hashes, n, regexp.MustCompile(inMessage).FindString(list[len(list)-1].Text)), &given))
	require.InDelta(t, 120, given.ExpiresIn, 2)
	return given.SAD
}

func (p *cscPerson) hashRequest(sad string, hashes [][]byte) *csc2.SignHashRequest {
	return &csc2.SignHashRequest{CredentialID: p.id, SAD: sad, Hashes: hashes, SignAlgo: csc.ECDSASHA256}
}

func (p *cscPerson) signHash(t testing.TB, sad string, hashes [][]byte, header ...string) ([][]byte, error) {
	t.Helper()
	var resp csc2.SignHashResponse
	err := p.post(t, csc2.SignHash, p.hashRequest(sad, hashes), &resp, header...)
	return resp.Signatures, err
}

func refused(t testing.TB, err error, code, description string) {
	t.Helper()
	var e *csc.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code)
	require.Equal(t, description, e.Description)
}

// TestCSCPeer lets a client that is not ours, written from the specification, sign with both kinds of
// key; openssl judges what comes back.
func TestCSCPeer(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	require.NoError(t, err, "python3 is the other client of the CSC API: apt-get install python3")
	_, err = exec.LookPath("openssl")
	require.NoError(t, err, "openssl is what judges the signatures: apt-get install openssl")
	r := openCSC(t, "")
	roots := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(roots, r.ca.CertPEM(), 0o600))
	for i, c := range []struct {
		key       signv1.KeyType
		algorithm string
	}{{p256, csc.ECDSASHA256}, {rsa3072, csc.RSA}} {
		p := r.person(t, c.key, fmt.Sprintf("+39333111111%d", i))
		args, err := json.Marshal(map[string]string{
			"base": r.base, "token": p.key, "credential": p.id, "pin": goodPIN, "ca": roots, "tsa_ca": r.tsaCA,
			"messages": r.messages + "?to=%2B" + p.to[1:], "messages_token": messagesToken,
		})
		require.NoError(t, err)
		cmd := exec.CommandContext(t.Context(), python, "testdata/csc_client.py")
		cmd.Stdin = bytes.NewReader(args)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		var said struct {
			Algorithm string
			Methods   []string
		}
		require.NoError(t, json.Unmarshal(out, &said))
		require.Equal(t, c.algorithm, said.Algorithm)
		require.Equal(t, []string{
			csc2.Authorize, csc2.Check, csc2.Extend, csc2.Challenge, csc2.Credential, csc2.List, csc2.SendOTP, csc2.Info, csc2.SignDoc, csc2.SignHash, csc2.Timestamp,
		}, said.Methods)
	}
}

// TestCSCAuthorizations: what a SAD is good for, and what the signer is told.
func TestCSCAuthorizations(t *testing.T) {
	t.Parallel()
	r := openCSC(t, "")
	p := r.person(t, p256, phone)
	t.Run("password for no digests", func(t *testing.T) { p.namesNothing(t) })
	t.Run("refusals", func(t *testing.T) { p.refusals(t) })
	t.Run("documents", func(t *testing.T) { p.documents(t) })
	t.Run("descriptions", func(t *testing.T) { p.descriptions(t) })
	t.Run("two signatures of one transaction", func(t *testing.T) { p.transaction(t) })
	t.Run("one use", func(t *testing.T) { p.oneUse(t) })
	t.Run("one extension", func(t *testing.T) { p.oneExtension(t) })
	t.Run("answer lost", func(t *testing.T) { p.lost(t) })
	t.Run("codes of an app", func(t *testing.T) { r.app(t) })
	t.Run("foreign hands", func(t *testing.T) { p.foreign(t) })
	t.Run("restart", func(t *testing.T) { p.restart(t) })
}

func (p *cscPerson) verify(t *testing.T, hash, sig []byte) {
	t.Helper()
	var info csc2.CredentialInfo
	require.NoError(t, p.post(t, csc2.Credential, csc2.CredentialRequest{CredentialID: p.id}, &info))
	leaf, err := x509.ParseCertificate(info.Cert.Certificates[0])
	require.NoError(t, err)
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	require.True(t, ok)
	require.True(t, ecdsa.VerifyASN1(public, hash, sig))
}

func (p *cscPerson) transaction(t *testing.T) {
	one, two, three := digests("one"), digests("two"), digests("three")
	first := p.sad(t, one, 2)
	sum := sha256.Sum256(one[0])
	require.Contains(t, p.text(t), fmt.Sprintf("per firmare 1 documenti, impronta %x, e altri 1 che l'applicazione sceglie dopo", sum[:4]), "the signer is told which, and how many more")
	signed, err := p.signHash(t, first, one)
	require.NoError(t, err)
	p.verify(t, one[0], signed[0])

	extend := func(sad string, hashes [][]byte) (string, error) {
		var next csc2.SADResponse
		err := p.post(t, csc2.Extend, csc2.ExtendRequest{CredentialID: p.id, SAD: sad, Hashes: hashes, HashAlgorithm: csc.SHA256}, &next)
		return next.SAD, err
	}
	_, err = extend(first, digests("two", "three"))
	refused(t, err, "invalid_request", "Numbers of signatures is too high")
	second, err := extend(first, two)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	_, err = extend(first, three)
	refused(t, err, "invalid_request", "Numbers of signatures is too high")
	_, err = p.signHash(t, second, three)
	refused(t, err, "invalid_request", "Hash is not authorized by the SAD")

	// A SAD that was not used yet is for its own digests: its signatures do not go over to others.
	_, err = extend(second, three)
	refused(t, err, "invalid_request", "Numbers of signatures is too high")
	signed, err = p.signHash(t, second, two)
	require.NoError(t, err)
	p.verify(t, two[0], signed[0])
	_, err = extend(second, three)
	refused(t, err, "invalid_request", "Numbers of signatures is too high")
	_, err = extend("x"+second[1:], three)
	refused(t, err, "invalid_request", "Invalid parameter SAD")

	// What is left may be extended to before the first use, which stays possible.
	early := p.sad(t, digests("early"), 2)
	late, err := extend(early, digests("late"))
	require.NoError(t, err)
	for sad, hashes := range map[string][][]byte{early: digests("early"), late: digests("late")} {
		signed, err = p.signHash(t, sad, hashes)
		require.NoError(t, err)
		p.verify(t, hashes[0], signed[0])
	}

	var acts int
	require.NoError(t, pgtest.Admin(t, p.DB("signer")).QueryRow(t.Context(),
		`SELECT count(*) FROM audit_entry WHERE action = 'authorization.extend' AND resource LIKE $1`, p.name+"/%").Scan(&acts))
	require.Equal(t, 2, acts)
}

// oneUse: a thousand requests bring one SAD; one of them has it.
func (p *cscPerson) oneUse(t *testing.T) {
	hashes := digests("a", "b", "c")
	sad := p.sad(t, hashes, 3)
	_, err := p.signHash(t, sad, hashes[:2])
	refused(t, err, "invalid_request", "The SAD is used once, for all hashes that it was given for")
	body, err := json.Marshal(p.hashRequest(sad, hashes))
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 100, MaxIdleConnsPerHost: 100}}
	defer client.CloseIdleConnections()
	var won, lost atomic.Int32
	var other sync.Map
	together(crowd, func(int) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, p.base+"/"+csc2.SignHash, bytes.NewReader(body))
		if err != nil {
			other.Store(err.Error(), true)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+p.key)
		resp, err := client.Do(req)
		if err != nil {
			other.Store(err.Error(), true)
			return
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		switch e := csc.ReadError(resp.StatusCode, answer); {
		case err == nil && resp.StatusCode == http.StatusOK:
			won.Add(1)
		case e.Status == http.StatusBadRequest && e.Description == "Invalid parameter SAD":
			lost.Add(1)
		default:
			other.Store(e.Error(), true)
		}
	})
	other.Range(func(err, _ any) bool { t.Error(err); return true })
	require.EqualValues(t, 1, won.Load())
	require.EqualValues(t, crowd-1, lost.Load())
}

// oneExtension: use and extensions of one SAD at the same time never make more signatures than the signer allowed, nor
// others. Where all of them were for named digests, nothing is extended: the SAD signs those. Where one was left, one
// extension has it.
func (p *cscPerson) oneExtension(t *testing.T) {
	for left := range 2 {
		hashes := digests(fmt.Sprint("d", left))
		sad := p.sad(t, hashes, 1+left)
		var extended, signed atomic.Int32
		together(40, func(i int) {
			if i%4 == 0 {
				if _, err := p.signHash(t, sad, hashes); err == nil {
					signed.Add(1)
				}
				return
			}
			other := digests(fmt.Sprint("other", left, i))
			var next csc2.SADResponse
			if p.post(t, csc2.Extend, csc2.ExtendRequest{CredentialID: p.id, SAD: sad, Hashes: other, HashAlgorithm: csc.SHA256}, &next) == nil {
				extended.Add(1)
			}
		})
		require.EqualValues(t, 1, signed.Load())
		require.EqualValues(t, left, extended.Load())
	}
}

// namesNothing: a password is sent for digests that are named, and for nothing else.
func (p *cscPerson) namesNothing(t *testing.T) {
	before := len(p.provider.Sent(p.to))
	for _, method := range []string{csc2.Challenge, csc2.SendOTP} {
		refused(t, p.post(t, method, csc2.ChallengeRequest{CredentialID: p.id, AuthObjectID: "OTP"}, nil), "invalid_request", "Missing (or invalid type) array parameter hashes")
	}
	require.Len(t, p.provider.Sent(p.to), before)
}

// TestCSCPasswordBeforehand: with otp_without_hashes a password may be asked for before the digests are known.
func TestCSCPasswordBeforehand(t *testing.T) {
	t.Parallel()
	r := openCSC(t, ", otp_without_hashes: true")
	r.person(t, p256, phone).beforehand(t)
}

// beforehand: a client that knows the specification only has the password sent before it names digests.
func (p *cscPerson) beforehand(t *testing.T) {
	require.NoError(t, p.post(t, csc2.Challenge, csc2.ChallengeRequest{CredentialID: p.id, AuthObjectID: "OTP"}, nil))
	require.Contains(t, p.text(t), "chiesta dall'applicazione che stai usando")
	require.NotContains(t, p.text(t), "impronta")
	hashes := digests("later")
	var given csc2.SADResponse
	wrong := p.ask(hashes, 1, "00000000")
	refused(t, p.post(t, csc2.Authorize, wrong, &given), "invalid_authentication_data", "The authentication data is invalid")
	require.NoError(t, p.post(t, csc2.Authorize, p.ask(hashes, 1, p.password(t)), &given))
	refused(t, p.post(t, csc2.Authorize, p.ask(digests("more"), 1, p.password(t)), &given), "invalid_authentication_data", "The authentication data is invalid")
	_, err := p.signHash(t, given.SAD, hashes)
	require.NoError(t, err)
	err = p.post(t, csc2.SendOTP, csc2.ChallengeRequest{CredentialID: p.id}, nil)
	var e *csc.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, http.StatusTooManyRequests, e.Status, "two messages for the same are half a minute apart")
}

// lost: an answer that did not arrive can be had again by whoever can name the call, and by nobody else.
func (p *cscPerson) lost(t *testing.T) {
	hashes := digests("lost")
	sad, name := p.sad(t, hashes, 1), uuid.NewString()
	first, err := p.signHash(t, sad, hashes, "Idempotency-Key", name)
	require.NoError(t, err)
	again, err := p.signHash(t, sad, hashes, "Idempotency-Key", name)
	require.NoError(t, err)
	require.Equal(t, first, again)
	_, err = p.signHash(t, sad, hashes, "Idempotency-Key", uuid.NewString())
	refused(t, err, "invalid_request", "Invalid parameter SAD")
}

// app: the holder's app shows codes, so that none is sent, and each is good for one SAD.
func (r *rssp) app(t *testing.T) {
	s := r.signatory(t, p256)
	p := &cscPerson{rssp: r, name: s.name, id: last(s.name), key: s.key}
	var info csc2.CredentialInfo
	require.NoError(t, p.post(t, csc2.Credential, csc2.CredentialRequest{CredentialID: p.id, Detail: csc2.Detail{AuthInfo: true}}, &info))
	require.Equal(t, csc2.AuthObject{
		Type: "Password", ID: "OTP", Format: "N", Generator: "totp", Label: "One-time password", Description: "The code that your app shows",
	}, info.Auth.Objects[1])
	refused(t, p.post(t, csc2.Challenge, csc2.ChallengeRequest{
		CredentialID: p.id, AuthObjectID: "OTP", Hashes: digests("by app"), HashAlgorithm: csc.SHA256,
	}, nil), "invalid_request", "Invalid parameter authObjectID")
	hashes, code := digests("by app"), s.phone.code()
	var given csc2.SADResponse
	require.NoError(t, p.post(t, csc2.Authorize, p.ask(hashes, 1, code), &given))
	refused(t, p.post(t, csc2.Authorize, p.ask(digests("again"), 1, code), &given), "invalid_authentication_data", "The authentication data is invalid")
	signed, err := p.signHash(t, given.SAD, hashes)
	require.NoError(t, err)
	p.verify(t, hashes[0], signed[0])
}

// foreign: another tenant, another key of the tenant, and keys without the scope get nowhere.
func (p *cscPerson) foreign(t *testing.T) {
	hashes := digests("mine")
	sad := p.sad(t, hashes, 1)
	as := func(c auth.Caller) *cscPerson {
		other := *p
		other.key = p.Key(c)
		return &other
	}
	all := []string{"*"}
	other := as(auth.Caller{Role: auth.RoleTenant, Tenant: "other", Scopes: all})
	var list csc2.ListResponse
	require.NoError(t, other.post(t, csc2.List, csc2.ListRequest{}, &list))
	require.Empty(t, list.CredentialIDs)
	_, err := other.signHash(t, sad, hashes)
	refused(t, err, "invalid_request", "Invalid parameter credentialID")
	_, err = as(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: all}).signHash(t, sad, hashes)
	refused(t, err, "invalid_request", "Invalid parameter SAD")
	var e *csc.Error
	for _, c := range []auth.Caller{
		{Role: auth.RoleOperator, Scopes: all}, {Role: auth.RoleReseller, Reseller: "r", Scopes: all},
		{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"invoices.read"}},
	} {
		require.ErrorAs(t, as(c).post(t, csc2.List, csc2.ListRequest{}, &list), &e)
		require.Equal(t, http.StatusForbidden, e.Status)
		require.Equal(t, csc.CodeAccessDenied, e.Code)
	}
	_, err = p.signHash(t, sad, hashes)
	require.NoError(t, err, "nothing of that used the SAD")
}

// restart: a SAD outlives the process, a used one stays used, and no secret is in the log or the tables.
func (p *cscPerson) restart(t *testing.T) {
	used, fresh := digests("used"), digests("fresh")
	first, second := p.sad(t, used, 1), p.sad(t, fresh, 1)
	otp := p.password(t)
	_, err := p.signHash(t, first, used)
	require.NoError(t, err)
	var caller string
	require.NoError(t, pgtest.Admin(t, p.DB("signer")).QueryRow(t.Context(), `SELECT caller FROM challenge ORDER BY id DESC LIMIT 1`).Scan(&caller))
	p.Stop()
	raw, err := base64.RawURLEncoding.DecodeString(second)
	require.NoError(t, err)
	p.nowhere(t, p.log.String(), goodPIN, otp, second, base64.RawURLEncoding.EncodeToString(raw[16:]))
	store := pgtest.Again(t, p.DB("signer"))
	process := runtest.Start(t, runtest.Options{Dir: t.TempDir(), Targets: []run.Target{signer.Target}, Config: p.config, DB: map[string]*pg.DB{"signer": store}})
	p.base = "http://" + process.HTTP + "/csc/v2"
	p.key = process.Key(auth.Caller{ID: caller[len("key:"):], Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
	_, err = p.signHash(t, first, used)
	refused(t, err, "invalid_request", "Invalid parameter SAD")
	_, err = p.signHash(t, second, fresh)
	require.NoError(t, err)
}

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/sandbox/ca"
)

// TestDevicesAndLifeByCommand: a token is taken in and becomes a device, an app approves, a credential is
// suspended, reactivated and renewed: all as a person would, with the tool alone.
func TestDevicesAndLifeByCommand(t *testing.T) {
	p := startSigner(t)
	dir := t.TempDir()
	surroundings(t, map[string]string{"SERVER": p.RPC, "CA_FILE": p.Files().CA, "TENANT": "acme", "COMPANY": "main",
		"API_KEY": p.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})})
	tool := func(want int, input, args string) (string, string) {
		t.Helper()
		in := filepath.Join(t.TempDir(), "in")
		require.NoError(t, os.WriteFile(in, []byte(input), 0o600))
		f, err := os.Open(in)
		require.NoError(t, err)
		defer f.Close()
		var out, said bytes.Buffer
		c := &cli{in: f, out: &out, errOut: &said, now: time.Now}
		require.Equal(t, want, c.run(t.Context(), strings.Fields(args)), "%s\n%s%s", args, out.String(), said.String())
		return out.String(), said.String()
	}
	field := func(text, name string) string {
		t.Helper()
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &m), text)
		if v, ok := m[name].(string); ok {
			return v
		}
		parts := strings.Split(name, "_")
		for i := 1; i < len(parts); i++ {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
		v, _ := m[strings.Join(parts, "")].(string)
		return v
	}
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	chain := func(csr string) string {
		t.Helper()
		block, _ := pem.Decode([]byte(csr))
		require.NotNil(t, block)
		cert, err := authority.SignCSR(block.Bytes, ca.ProfileSigning)
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "chain.pem")
		require.NoError(t, os.WriteFile(file, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), authority.CertPEM()...), 0o600))
		return file
	}
	person := func(holder string) string {
		t.Helper()
		out, _ := tool(exitOK, "", "credential create --kind person --common-name Maria --format json")
		name := field(out, "name")
		tool(exitOK, "", "credential import "+name+" "+chain(field(out, "csr_pem")))
		tool(exitOK, "40718362\n", "otp pin --holder "+holder+" --credential "+name)
		return name
	}
	const pin = "40718362\n"
	document := filepath.Join(dir, "contract.txt")
	require.NoError(t, os.WriteFile(document, []byte("contract"), 0o600))

	seed := filepath.Join(dir, "seed")
	require.NoError(t, os.WriteFile(seed, []byte(hex.EncodeToString([]byte("12345678901234567890"))), 0o600)) // spec: RFC4226 Appendix D
	_, said := tool(exitUsage, "", "otp token import "+seed)
	require.Contains(t, said, "pskc")
	out, _ := tool(exitOK, "", "otp token import "+seed+" --serial HT-1 --kind hotp")
	require.Contains(t, out, "HT-1")
	_, said = tool(exitRefused, "", "otp token import "+seed+" --serial HT-1 --kind hotp")
	require.Contains(t, said, "TOKEN_EXISTS")
	byToken := person("u-1")
	out, _ = tool(exitOK, pin, "otp enrol --token HT-1 --credential "+byToken+" --format json")
	var enrolled struct {
		A map[string]any `json:"otp_device"`
		B map[string]any `json:"otpDevice"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &enrolled))
	if enrolled.A == nil {
		enrolled.A = enrolled.B
	}
	device, _ := enrolled.A["name"].(string)
	tool(exitOK, pin+"755224\n", "otp confirm "+device+" --credential "+byToken)
	tool(exitDenied, pin+"755224\n", "sign "+document+" --credential "+byToken)
	tool(exitOK, pin+"287082\n", "sign "+document+" --credential "+byToken)
	require.FileExists(t, document+".p7s")
	tool(exitOK, pin+"254676\n287922\n", "otp resync "+device+" --credential "+byToken) // counters 5 and 6
	out, _ = tool(exitOK, "", "otp token ls")
	require.Contains(t, out, device)

	key := filepath.Join(dir, "app.pem")
	tool(exitOK, "", "otp app key "+key)
	_, said = tool(exitUsage, "", "otp app key "+key)
	require.Contains(t, said, "is there already")
	byApp := person("u-2")
	out, _ = tool(exitOK, pin, "otp enrol --app-key "+key+" --credential "+byApp+" --format json")
	require.NoError(t, json.Unmarshal([]byte(out), &enrolled))
	if enrolled.B != nil {
		enrolled.A = enrolled.B
	}
	app, _ := enrolled.A["name"].(string)
	tool(exitOK, pin, "otp confirm "+app+" --app-key "+key+" --credential "+byApp)
	out, _ = tool(exitOK, "", "otp send "+app+" --format json")
	number, request := field(out, "number"), field(out, "push_request")
	require.Len(t, number, 2)
	out, _ = tool(exitOK, "", "otp app wait "+app+" --seconds 0")
	require.Contains(t, out, request)
	out, _ = tool(exitOK, number+"\n", "otp app answer "+request+" --key "+key)
	require.Contains(t, strings.ToLower(out), "approved")
	out, _ = tool(exitOK, "40718362\n"+request[strings.LastIndex(request, "/")+1:]+"\n59260471\n", "otp pin --credential "+byApp)
	require.Contains(t, out, "PIN set")

	_, said = tool(exitUsage, "", "credential suspend "+byApp)
	require.Contains(t, said, "--reason")
	out, _ = tool(exitOK, "", "credential suspend "+byApp+" --reason lost")
	require.Contains(t, strings.ToLower(out), "suspended")
	_, said = tool(exitRefused, "", "sign "+document+" --output-dir "+t.TempDir()+" --credential "+byApp)
	require.Contains(t, said, "CREDENTIAL_SUSPENDED")
	tool(exitOK, "", "credential reactivate "+byApp)
	out, _ = tool(exitOK, "", "credential renew "+byApp+" --new-key --format json")
	tool(exitOK, "", "credential import "+byApp+" "+chain(field(out, "csr_pem")))
	out, _ = tool(exitOK, "", "credential status "+byApp)
	require.Equal(t, 1, strings.Count(strings.ToLower(out), "past"), out)
	out, _ = tool(exitOK, "", "credential expiring --days 2000")
	require.Contains(t, out, byApp)
	next := person("u-2")
	_, said = tool(exitUsage, "", "credential succeed "+byApp)
	require.Contains(t, said, "--by CREDENTIAL")
	_, said = tool(exitRefused, "", "credential succeed "+byApp+" --by "+byToken)
	require.Contains(t, said, "SUCCESSOR_UNFIT")
	tomorrow := time.Now().AddDate(0, 0, 1).Format(time.DateOnly)
	out, _ = tool(exitOK, "", "credential succeed "+byApp+" --by "+next+" --from "+tomorrow)
	require.Contains(t, out, next)
	tool(exitOK, "", "credential succeed "+byApp+" --nobody")
	out, _ = tool(exitOK, "", "credential succeed "+byApp+" --by "+next)
	require.Contains(t, out, next)
	out, _ = tool(exitOK, "", "credential status "+byApp)
	require.Contains(t, out, next)
	out, _ = tool(exitOK, "", "credential expiring --days 2000")
	require.Contains(t, out, next)
	require.NotContains(t, out, byApp)
	out, _ = tool(exitOK, "", "credential policy")
	require.Contains(t, out, "ECDSA-256")
	_, said = tool(exitNotFound, "", "otp contact --credential "+byApp)
	require.Contains(t, said, "CONTACT_NOT_SET")
	_, said = tool(exitRefused, pin+"\n", "otp contact --email a@example.com --credential "+byApp)
	require.Contains(t, said, "OTP_PROVIDER_NOT_CONFIGURED")
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/remotesign"
)

// telephone answers what the tool asks on standard input with the PIN and the password that has come meanwhile.
type telephone struct {
	world *remotesign.World
	user  string
	rest  io.Reader
}

func (p *telephone) Read(to []byte) (int, error) {
	if p.rest == nil {
		o, err := p.world.OTP(p.user, "SMS")
		if err != nil {
			return 0, err
		}
		p.rest = strings.NewReader(providerPIN + "\n" + o.Password + "\n")
	}
	return p.rest.Read(to)
}

const providerPIN = "24681357"

// TestCredentialsAtProviders: every kind of credential of a provider's key is made with the tool, and a person signs an XML at
// a provider that binds the password to what is signed.
func TestCredentialsAtProviders(t *testing.T) {
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	world, dir := remotesign.New(remotesign.Options{CA: authority}), t.TempDir()
	mux := http.NewServeMux()
	mux.Handle("/csc/v1/", world.CSC1())
	mux.Handle("/sws", world.SWS())
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	write := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	tlsCA, roots := write("tls.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), write("roots.pem", authority.CertPEM())
	p := startSignerWith(t, fmt.Sprintf(`  providers:
    - {name: csc, kind: csc, address: %q, ca_file: %[2]q, issuers_file: %[3]q, user_file: %q, password_file: %q}
    - {name: namirial, kind: sws, address: %q, ca_file: %[2]q, issuers_file: %[3]q, qualified: true}
`, server.URL+"/csc/v1", tlsCA, roots, write("user", []byte(remotesign.AppUser)), write("password", []byte(remotesign.AppPassword)), server.URL+"/sws"),
		map[string]map[string]any{"secret/data/signer/automatic/acme/pin": {"password": providerPIN}})
	surroundings(t, map[string]string{"SERVER": p.RPC, "CA_FILE": p.Files().CA, "TENANT": "acme", "COMPANY": "main",
		"API_KEY": p.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})})
	tool := func(want int, in io.Reader, args string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		c := &cli{in: in, out: &out, errOut: &errOut, now: time.Now}
		require.Equal(t, want, c.run(context.Background(), strings.Fields(args)), "%s: %s%s", args, out.String(), errOut.String())
		return out.String() + errOut.String()
	}
	create := func(args string) map[string]any {
		t.Helper()
		var made map[string]any
		require.NoError(t, json.Unmarshal([]byte(tool(exitOK, nil, "credential create --format json "+args)), &made))
		return made
	}
	enrol := func(user string, automatic bool) {
		_, err := world.Enrol(client.RemoteHolderRequest{User: user, PIN: providerPIN, CommonName: "Alfa", Automatic: automatic, Qualified: automatic})
		require.NoError(t, err)
	}
	enrol("anna", false)
	enrol("AHI0000001", true)

	require.Contains(t, tool(exitOK, nil, "credential providers"), "namirial")
	byKind := map[string]string{}
	for _, kind := range []string{"automatic", "seal", "role"} {
		made := create("--provider namirial --remote-id AHI0000001 --secret pin --kind " + kind)
		require.Equal(t, "CREDENTIAL_KIND_"+strings.ToUpper(kind), made["kind"], made)
		require.Equal(t, "SIGNATURE_LEVEL_QUALIFIED", made["level"], made)
		require.Equal(t, "namirial", made["provider"], made)
		byKind[kind], _ = made["name"].(string)
	}
	require.Contains(t, tool(exitUsage, nil, "credential create --provider namirial --remote-id x --kind clerk"), "person, automatic, seal or role")
	require.Contains(t, tool(exitRefused, nil, "credential create --provider csc --remote-id anna --kind seal --secret pin"), "PROVIDER_NOT_AUTOMATIC")
	require.Contains(t, tool(exitRefused, nil, "credential create --provider namirial --remote-id AHI0000001 --kind seal --secret pin --holder u-1"), "HOLDER_OF_A_PERSON")

	person := create("--provider csc --remote-id anna --holder u-1")
	require.Equal(t, "CREDENTIAL_KIND_PERSON", person["kind"], "when no kind is said")
	t.Setenv("CERALACCA_CREDENTIAL", person["name"].(string))
	require.Contains(t, tool(exitOK, nil, "credential holdings --format json "+person["name"].(string)), "tenants/acme/users/u-1")
	note := write("note.xml", []byte("<note><n>1</n></note>"))
	tool(exitOK, &telephone{world: world, user: "anna"}, "sign --as xml "+note)
	said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify", "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
		"--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo", "--trusted-pem", roots, filepath.Join(dir, "note.signed.xml"))
	require.NoError(t, err, said)
	require.Contains(t, tool(exitOK, nil, "credential calls"), "1/1")

	// An answer is lost, and somebody looks at the provider's own list.
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(tool(exitOK, nil, "mandate create "+byKind["seal"]+" --description notes --until 2199-01-01 --format json")), &m))
	require.NoError(t, world.AddFault(client.RemoteFault{Kind: client.Remote500After, Operation: "signPkcs1"}))
	require.Contains(t, tool(exitRefused, nil, fmt.Sprintf("seal %s --mandate %s --output-dir %s", note, m["name"], t.TempDir())), "PROVIDER_OUTCOME_UNKNOWN")
	var unknown struct {
		Calls []map[string]any `json:"provider_calls"`
	}
	listed := tool(exitOK, nil, "credential calls --unknown --format json")
	require.NoError(t, json.Unmarshal([]byte(listed), &unknown), listed)
	require.Len(t, unknown.Calls, 1)
	call, _ := unknown.Calls[0]["name"].(string)
	require.Contains(t, tool(exitUsage, nil, "credential resolve "+call+" --found lost --note seen"), "undetermined")
	require.Contains(t, strings.ToLower(tool(exitOK, nil, "credential resolve "+call+" --found signed --note seen")), "resolved")
	require.NotContains(t, tool(exitOK, nil, "credential calls --unknown"), call)
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
)

// endsAt is a screen before which somebody gives up when these words come.
type endsAt struct {
	bytes.Buffer
	words  string
	giveUp func()
}

func (e *endsAt) Write(p []byte) (int, error) {
	n, err := e.Buffer.Write(p)
	if e.words != "" && strings.Contains(e.String(), e.words) {
		e.giveUp()
	}
	return n, err
}

// TestRequestSignGoesOn: a signature of a signature request whose tool ended after PIN and password were given is finished by
// the next one, which asks for neither, and once.
func TestRequestSignGoesOn(t *testing.T) {
	p, dir := startSigner(t), t.TempDir()
	surroundings(t, map[string]string{"SERVER": p.RPC, "CA_FILE": p.Files().CA, "TENANT": "acme", "COMPANY": "main",
		"API_KEY": p.Key(auth.Caller{ID: "product", Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})})
	state := filepath.Join(dir, "state")
	t.Setenv("CERALACCA_STATE", state)
	until := "" // words at which the tool is ended
	tool := func(want int, in, args string) (string, string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var out bytes.Buffer
		errOut := &endsAt{words: until, giveUp: cancel}
		c := &cli{in: strings.NewReader(in), out: &out, errOut: errOut, now: time.Now}
		require.Equal(t, want, c.run(ctx, strings.Fields(args)), "%s: %s%s", args, out.String(), errOut.String())
		return out.String(), errOut.String()
	}
	read := func(text string) (m map[string]any) {
		require.NoError(t, json.Unmarshal([]byte(text), &m), text)
		return m
	}
	file := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	out, _ := tool(exitOK, "", "credential create --kind person --common-name Alfa --format json")
	credential, _ := read(out)["name"].(string)
	csr, _ := read(out)["csr_pem"].(string)
	block, _ := pem.Decode([]byte(csr))
	require.NotNil(t, block, out)
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	cert, err := authority.SignCSR(block.Bytes, ca.ProfileSigning)
	require.NoError(t, err)
	tool(exitOK, "", "credential import "+credential+" "+file("chain.pem", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), authority.CertPEM()...)))
	t.Setenv("CERALACCA_CREDENTIAL", credential)
	const pin = "40718362"
	tool(exitOK, pin+"\n", "otp pin --holder u-17")
	out, _ = tool(exitOK, "", "otp enrol --name phone --format json --pin-file "+file("pin", []byte(pin+"\n")))
	address, _ := read(out)["otpauth_uri"].(string)
	enrolled, _ := read(out)["otp_device"].(map[string]any)
	device, _ := enrolled["name"].(string)
	for time.Now().Unix()%30 > 20 { // passwords of three steps are right together while this one lasts
		time.Sleep(200 * time.Millisecond)
	}
	step := time.Now().Unix()/30 - 1
	tool(exitOK, pin+"\n"+oneTime(t, address, step)+"\n", "otp confirm "+device)
	out, _ = tool(exitOK, "", "request create "+file("lease.txt", []byte("a lease"))+" --title Lease --deadline "+time.Now().AddDate(0, 1, 0).Format(time.DateOnly)+" --step sign:u-17=maria@example.com --format json")
	request, _ := read(out)["name"].(string)
	steps, _ := read(out)["steps"].([]any)
	people, _ := steps[0].(map[string]any)["participants"].([]any)
	participant, _ := people[0].(map[string]any)["name"].(string)

	admin := pgtest.Admin(t, p.DB("signer"))
	_, err = admin.Exec(t.Context(), `UPDATE signing_request SET hand = (SELECT id FROM signing_request_participant LIMIT 1), hand_request = 'another', hand_until = now() + interval '1 minute'`)
	require.NoError(t, err)
	until = "the server is away"
	_, said := tool(exitInterrupted, pin+"\n"+oneTime(t, address, step+1)+"\n", "request sign "+participant)
	until = ""
	require.NotContains(t, said, pin)
	out, _ = tool(exitOK, "", "resume --format json")
	var hands []inHand
	require.NoError(t, json.Unmarshal([]byte(out), &hands))
	require.Len(t, hands, 1)
	require.Equal(t, participant, hands[0].Participant)
	require.Empty(t, hands[0].Authorization, "not for screens")
	require.Contains(t, said, "ceralacca resume "+hands[0].RequestID)
	out, _ = tool(exitOK, "", "resume")
	require.Contains(t, out, participant)
	kept := filepath.Join(state, hands[0].RequestID+".json")
	info, err := os.Stat(kept)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	written, err := os.ReadFile(kept)
	require.NoError(t, err)

	_, err = admin.Exec(t.Context(), `UPDATE signing_request SET hand = NULL, hand_request = '', hand_until = NULL`)
	require.NoError(t, err)
	out, _ = tool(exitOK, "", "resume "+hands[0].RequestID+" --format json")
	require.Equal(t, request, read(out)["name"])
	require.Contains(t, out, "COMPLETED")
	require.NoFileExists(t, kept, "what is done is forgotten")
	// The tool is killed after the server has signed: the next one has the same answer, and nothing is signed twice.
	require.NoError(t, os.WriteFile(kept, written, 0o600))
	out, _ = tool(exitOK, "", "resume "+hands[0].RequestID+" --format json")
	require.Contains(t, out, "COMPLETED")
	var signed int
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT count(*) FROM audit_entry WHERE action = 'challenge.sign'`).Scan(&signed))
	require.Equal(t, 1, signed)
	tool(exitNotFound, "", "resume "+hands[0].RequestID)
}

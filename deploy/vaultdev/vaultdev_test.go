package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// running is the program's run function in this process, fed by a pipe.
type running struct {
	ready ready
	stdin *os.File
	ended chan error
}

func launch(t *testing.T, args ...string) *running {
	t.Helper()
	input, stdin, err := os.Pipe()
	check(t, err)
	lines, output := io.Pipe()
	r := &running{stdin: stdin, ended: make(chan error, 1)}
	go func() {
		err := run(context.Background(), append([]string{"-addr", "127.0.0.1:0"}, args...), input, output)
		_ = output.CloseWithError(io.EOF)
		r.ended <- err
	}()
	line, err := bufio.NewReader(lines).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no ready line: %v", <-r.ended)
	}
	check(t, json.Unmarshal(line, &r.ready))
	return r
}

// stop closes the input, as the end of a parent does, and waits.
func (r *running) stop(t *testing.T) {
	t.Helper()
	check(t, r.stdin.Close())
	select {
	case err := <-r.ended:
		check(t, err)
	case <-time.After(15 * time.Second):
		t.Fatal("the server outlives its input")
	}
}

func (r *running) client(t *testing.T) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address = r.ready.Addr
	config.MaxRetries = 0
	client, err := api.NewClient(config)
	check(t, err)
	client.SetToken(r.ready.Token)
	return client
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeysSurviveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	audit := filepath.Join(t.TempDir(), "audit.log")
	r := launch(t, "-dir", dir, "-root-token", "dev-root", "-audit", audit)
	if r.ready.Token != "dev-root" {
		t.Fatalf("root token %q", r.ready.Token)
	}
	client := r.client(t)
	check(t, client.Sys().Mount("transit", &api.MountInput{Type: "transit"}))
	_, err := client.Logical().Write("transit/keys/k", map[string]any{"type": "ecdsa-p256"})
	check(t, err)
	input := map[string]any{"input": base64.StdEncoding.EncodeToString([]byte("document"))}
	signed, err := client.Logical().Write("transit/sign/k", input)
	check(t, err)
	r.stop(t)

	r = launch(t, "-dir", dir, "-root-token", "dev-root", "-audit", audit)
	input["signature"] = signed.Data["signature"]
	verified, err := r.client(t).Logical().Write("transit/verify/k", input)
	check(t, err)
	if verified.Data["valid"] != true {
		t.Fatal("the key did not survive the restart")
	}
	_, err = r.client(t).Logical().Read("transit/export/signing-key/k")
	if err == nil {
		t.Fatal("a signing key was exported")
	}
	r.stop(t)
	raw, err := os.ReadFile(audit)
	check(t, err)
	if n := strings.Count(string(raw), `"path":"transit/verify/k"`); n != 2 {
		t.Fatalf("audit has %d lines of the request after the restart, want 2 (request and response)", n)
	}
}

func TestEveryEngineMounts(t *testing.T) {
	r := launch(t)
	defer r.stop(t)
	client := r.client(t)
	for path, input := range map[string]*api.MountInput{
		"transit": {Type: "transit"}, "totp": {Type: "totp"}, "secret": {Type: "kv", Options: map[string]string{"version": "2"}},
	} {
		check(t, client.Sys().Mount(path, input))
	}
	for _, login := range []string{"approle", "kubernetes"} {
		check(t, client.Sys().EnableAuthWithOptions(login, &api.EnableAuthOptions{Type: login}))
	}
	err := client.Sys().Mount("pki", &api.MountInput{Type: "pki"})
	if err == nil {
		t.Fatal("an engine that is not built in was mounted")
	}
}

func TestInitialisationCutShortStartsAfresh(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	launch(t, "-dir", dir).stop(t)
	// As if the first start had been killed before the key was written down.
	check(t, os.Remove(filepath.Join(dir, "unseal.json")))
	check(t, os.WriteFile(filepath.Join(dir, "initialising"), nil, 0o600))
	r := launch(t, "-dir", dir)
	defer r.stop(t)
	response, err := http.Get(r.ready.Addr + "/v1/sys/health")
	check(t, err)
	check(t, response.Body.Close())
	if response.StatusCode != http.StatusOK {
		t.Fatalf("health %d", response.StatusCode)
	}
}

func TestLostKeyIsExplained(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	launch(t, "-dir", dir).stop(t)
	check(t, os.Remove(filepath.Join(dir, "unseal.json")))
	refuse(t, "delete the folder", "-addr", "127.0.0.1:0", "-dir", dir)
}

func TestBadInputIsRefused(t *testing.T) {
	refuse(t, "not a loopback address", "-addr", "0.0.0.0:8200")
	refuse(t, "127.0.0.1:8200", "-addr", "8200")
	refuse(t, "unexpected argument", "-addr", "127.0.0.1:0", "server")
}

func refuse(t *testing.T, reason string, args ...string) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	check(t, err)
	defer func() { _ = null.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = run(ctx, args, null, io.Discard)
	if err == nil || !strings.Contains(err.Error(), reason) {
		t.Fatalf("%v: error %v, want one that says %q", args, err, reason)
	}
}
